-- confusion.lua - net:confusion(data.test): which class is taken for which.
--
-- The result is a table of numbers, m[label][prediction], that is also a picture. Fields: accuracy,
-- recall[k] (the share of class k's images that are found) and precision[k] (the share of what is
-- called k that is k; NaN where nothing is), classes, images, right, not_finite.
--
-- Surprising: an image whose output is not finite has no prediction. It stands in no column, but
-- counts as wrong in accuracy and recall.

local canvas = require "cnn.pictures.canvas"
local pass = require "cnn.pictures.pass"
local picture = require "cnn.pictures.picture"
local text = require "cnn.text"

local confusion = {}

local Confusion = picture.extend {}
Confusion.__index = Confusion

-- ---------------------------------------------------------------------------------- the numbers

local function sum(list)
  local total = 0
  for _, v in ipairs(list) do total = total + v end
  return total
end

-- At least n x n zeros; the net may have more classes than the data.
local function grow(m, n)
  for label = 1, n do
    m[label] = m[label] or {}
    for k = #m[label] + 1, n do m[label][k] = 0 end
  end
end

local function add(m, labels, predictions, probabilities)
  for i, label in ipairs(labels) do
    local probability, prediction = probabilities[i], predictions[i]
    m.images, m.of[label] = m.images + 1, (m.of[label] or 0) + 1
    if probability ~= probability then
      m.not_finite = m.not_finite + 1
    else
      m[label][prediction] = m[label][prediction] + 1
    end
  end
end

-- 0 / 0 is NaN, as it should be.
local function finish(m)
  m.right, m.precision, m.recall = 0, {}, {}
  for k = 1, #m do
    local called = 0
    for label = 1, #m do called = called + m[label][k] end
    m.right = m.right + m[k][k]
    m.precision[k], m.recall[k] = m[k][k] / called, m[k][k] / (m.of[k] or 0)
  end
  m.accuracy, m.of = m.right / m.images, nil
  return m
end

-- ------------------------------------------------------------------------------------- as text

local MOST_COLUMNS = 16   -- of counts in a text
local MOST_CONFUSIONS = 12 -- in a list, where there are more classes

local function share(v) return v == v and ("%.3f"):format(v) or "-" end

local function heading(m)
  local line = ("accuracy %.4f: %s of %s"):format(m.accuracy, text.commas(m.right),
    text.counted(m.images, "image"))
  if m.not_finite == 0 then return line end
  return ("%s; %s not finite: wrong, and in no column"):format(line,
    text.counted(m.not_finite, "output is", "outputs are"))
end

local function numbered(m, k)
  local name = pass.name(m.classes, k)
  return name == tostring(k) and name or k .. " " .. name
end

-- Numbers in columns as narrow as they can be.
local function row_of(values, width)
  local cells = {}
  for i, v in ipairs(values) do cells[i] = ("%" .. width .. "s"):format(v == 0 and "." or v) end
  return table.concat(cells, " ")
end

local function matrix_text(m)
  local width, heads = #tostring(#m), {}
  for k = 1, #m do
    heads[k] = k
    for _, count in ipairs(m[k]) do width = math.max(width, #tostring(count)) end
  end
  local rows = { { "label", row_of(heads, width), "recall", "precision" } }
  for k = 1, #m do
    rows[k + 1] = { numbered(m, k), row_of(m[k], width), share(m.recall[k]), share(m.precision[k]) }
  end
  return text.columns(rows, 1)
end

-- What is confused most often: the label, the prediction, how many times.
local function worst(m)
  local list = {}
  for label = 1, #m do
    for k = 1, #m do
      if k ~= label and m[label][k] > 0 then list[#list + 1] = { label, k, m[label][k] } end
    end
  end
  table.sort(list, function(a, b)
    if a[3] ~= b[3] then return a[3] > b[3] end
    if a[1] ~= b[1] then return a[1] < b[1] end
    return a[2] < b[2]
  end)
  return list
end

local function worst_text(m)
  local rows = { { "label", "prediction", "images" } }
  for i, pair in ipairs(worst(m)) do
    if i > MOST_CONFUSIONS then break end
    rows[#rows + 1] = { numbered(m, pair[1]), numbered(m, pair[2]), tostring(pair[3]) }
  end
  if #rows == 1 then return "nothing was taken for anything else" end
  return text.columns(rows, 2)
end

function Confusion:__tostring()
  local body = #self <= MOST_COLUMNS and matrix_text(self) or worst_text(self)
  return heading(self) .. "\n" .. body
end

-- --------------------------------------------------------------------------------- as a picture

local INK, PALE, LINE = canvas.INK, canvas.PALE, { 222, 222, 226 }
local WHITE, RIGHT, WRONG = { 255, 255, 255 }, { 8, 81, 156 }, canvas.WRONG
local MARGIN, TITLE, NAME = 12, 15, 12
local WIDEST = 170 -- pixels of a class name

local function mix(color, amount)
  local mixed = {}
  for i = 1, 3 do mixed[i] = math.floor(255 + (color[i] - 255) * amount + 0.5) end
  return mixed
end

-- As much of a name as fits.
local function cut(name, width, options)
  if canvas.text_size(name, options) <= width then return name end
  while name ~= "" and canvas.text_size(name .. "…", options) > width do
    name = name:gsub("[^\128-\191][\128-\191]*$", "")
  end
  return name .. "…"
end

local function widest(texts, options)
  local width = 0
  for _, line in ipairs(texts) do width = math.max(width, (canvas.text_size(line, options))) end
  return width
end

-- The columns are headed by names where these fit, else by numbers, which the rows have too.
local function plan(m)
  local p = { font = { size = NAME, color = INK }, rows = {}, heads = {} }
  local names = #m <= MOST_COLUMNS
  p.small = { size = names and NAME or 9, color = INK }
  for k = 1, #m do
    local name = names and pass.name(m.classes, k) or numbered(m, k)
    p.rows[k] = cut(name, WIDEST, p.small)
    p.heads[k] = names and cut(name, 84, p.small) or tostring(k)
  end
  p.cell_width = names and math.max(46, widest(p.heads, p.small) + 8) or 18
  p.cell_height = names and 30 or 15
  p.left = MARGIN + math.max(widest(p.rows, p.small), 60) + 8
  p.top = MARGIN + 24 + 18 + 18 + 4
  p.right = p.left + #m * p.cell_width
  p.bottom = p.top + #m * p.cell_height
  p.shares = names and 50 or 40 -- the width of the column of recall
  return p
end

local function middle(c, left, top, width, height, line, options)
  local _, line_height = c:text_size(line, options)
  c:text(left + width / 2, top + math.floor((height - line_height) / 2), line, {
    size = options.size, color = options.color, bold = options.bold, align = "center",
  })
end

-- Right ones are the bluer, wrong ones the redder, the larger their share of the label's images;
-- of those wrong few have to be seen, so the root of the share counts.
local function draw_cell(c, p, m, label, k, total)
  local count = m[label][k]
  if count == 0 then return end
  local part = label == k and count / total or math.sqrt(count / total)
  local left, top = p.left + (k - 1) * p.cell_width, p.top + (label - 1) * p.cell_height
  c:fill(left, top, p.cell_width, p.cell_height, mix(label == k and RIGHT or WRONG, part))
  local options = { size = p.small.size, color = part > 0.6 and WHITE or INK, bold = label == k }
  if c:text_size(tostring(count), options) <= p.cell_width - 2 then
    middle(c, left, top, p.cell_width, p.cell_height, tostring(count), options)
  end
end

local function draw_names(c, p, m)
  local pale = { size = p.small.size, color = PALE }
  for k = 1, #m do
    local left, top = p.left + (k - 1) * p.cell_width, p.top + (k - 1) * p.cell_height
    local _, height = c:text_size(p.rows[k], p.small)
    c:text(p.left - 6, top + math.floor((p.cell_height - height) / 2), p.rows[k],
      { size = p.small.size, color = INK, align = "right" })
    middle(c, left, p.top - 20, p.cell_width, 18, p.heads[k], p.small)
    middle(c, p.right, top, p.shares, p.cell_height, share(m.recall[k]), pale)
    local below = #m <= MOST_COLUMNS and share(m.precision[k]) or p.heads[k]
    middle(c, left, p.bottom, p.cell_width, p.cell_height, below, pale)
  end
  middle(c, p.right, p.top - 20, p.shares, 18, "recall", pale)
  if #m <= MOST_COLUMNS then
    local _, height = c:text_size("precision", pale)
    c:text(p.left - 6, p.bottom + math.floor((p.cell_height - height) / 2), "precision",
      { size = pale.size, color = PALE, align = "right" })
  end
end

local function draw_lines(c, p, m)
  for k = 0, #m do
    local x, y = p.left + k * p.cell_width, p.top + k * p.cell_height
    c:fill(p.left, y, p.right - p.left + 1, 1, LINE)
    c:fill(x, p.top, 1, p.bottom - p.top + 1, LINE)
  end
end

function Confusion:draw()
  local p = plan(self)
  local title = heading(self)
  local width = math.max(p.right + p.shares,
    MARGIN + canvas.text_size(title, { size = TITLE, bold = true })) + MARGIN
  local c = canvas.new(width, p.bottom + p.cell_height + MARGIN)
  c:text(MARGIN, MARGIN, title, { size = TITLE, color = INK, bold = true })
  c:text(p.left, p.top - 40, "predicted as", { size = NAME, color = PALE })
  c:text(p.left - 6, p.top - 20, "label", { size = NAME, color = PALE, align = "right" })
  for label = 1, #self do
    local total = sum(self[label])
    for k = 1, #self do draw_cell(c, p, self, label, k, total) end
  end
  draw_lines(c, p, self)
  draw_names(c, p, self)
  return c:finish()
end

-- ----------------------------------------------------------------------------------- the method

--- net:confusion(split, { limit = nil, batch = nil })
-- How often each class is taken for each other one: m[label][prediction] is a number of images. As
-- text it is a table, :png(file) and :show() draw it. m.accuracy, m.recall[k], m.precision[k],
-- m.images, m.right, m.not_finite (outputs that are not finite: wrong, and in no column).
-- Shapes: the images of the split as the net takes them, N x C x H x W -> N x classes
-- Options: limit: the first so many images; batch: images at a time, otherwise as the split says
-- Errors: images that do not fit the net name the layer; a net with fewer outputs than classes
-- Example: net:confusion(data.test, { limit = 500 }):png "confusion.png"
-- See: net:mistakes, cnn.image.batch
function confusion.confusion(net, split, options)
  local who = "net:confusion"
  local _, call = pass.options(who, split, options)
  local m = setmetatable({ classes = split.classes, images = 0, not_finite = 0, of = {} },
    Confusion)
  grow(m, #split.classes)
  pass.predict(call, net, split, function(labels, predictions, probabilities, _, scores)
    grow(m, scores)
    add(m, labels, predictions, probabilities)
  end)
  return finish(m)
end

return confusion
