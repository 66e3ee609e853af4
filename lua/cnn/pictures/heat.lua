-- heat.lua - numbers as colours over a picture that stays visible, and results made of such.
--
--   heat.choose(who, scores, count, options)   rows { class, name, probability, prediction,
--                                              prediction_name }, one a picture; options: class,
--                                              classes
--   heat.over(tile, map, { map =, most = })    -> tile, how many values are not finite
--   heat.most(map)                             the largest finite value, at least 0; how many
--                                              are not finite
--   heat.result(rows, fields, how)             a list that is a picture of the batch how.x
--     how.look(row) -> map, most, a line for its label or nil; how.map: the colours; how.columns,
--     how.title
--
-- tile: u8 1 or 3 x H x W; map: f32 H x W, from 0, where nothing is drawn over the picture, to
-- `most`; under the colours "diverging" from -most.
--
-- Surprising: the further from 0, the less of the picture shines through; where nothing was found
-- it is as it was, bit by bit. A value that is not finite hides it: magenta.

local argument = require "cnn.argument"
local colors = require "cnn.pictures.colors"
local err = require "cnn.error"
local grid = require "cnn.pictures.grid"
local handle = require "cnn.handle"
local images = require "cnn.pictures.images"
local pass = require "cnn.pictures.pass"
local picture = require "cnn.pictures.picture"
local tiles = require "cnn.pictures.tiles"

local heat = {}

local DENSEST = 0.75 -- the colour's share where the map is at its most
local BRIGHT = 2     -- the ends of "diverging" are too dark to be seen on black

-- --------------------------------------------------------------------------------- which class

local function name_of(classes, k) return classes and pass.name(classes, k) or "class " .. k end

-- A score that is not finite has no probability: NaN.
function heat.choose(who, scores, count, options)
  pass.check_scores(who, scores, count, 1)
  pass.check_classes(who, options.classes)
  local most, class, rows = scores:size(2), options.class, {}
  if class ~= nil and argument.whole(who, "class", class, 1) > most then
    err.raise(("%s: class: expected 1 to %d, got %d"):format(who, most, class))
  end
  local probability, prediction = scores:softmax(2):totable(), scores:argmax(2):totable()
  for i = 1, count do
    local said = prediction[i][1]
    local k = class or said
    rows[i] = {
      class = k, name = name_of(options.classes, k), probability = probability[i][k],
      prediction = said, prediction_name = name_of(options.classes, said),
    }
  end
  return rows
end

local function label_of(row)
  if row.probability ~= row.probability then return row.name .. ": not finite" end
  local said = row.prediction ~= row.class and ", predicted " .. row.prediction_name or ""
  return ("%s %.3f%s"):format(row.name, row.probability, said)
end

-- ------------------------------------------------------------------------------------ colours

function heat.most(map)
  local lo, hi, bad = colors.range(map)
  return lo and math.max(0, hi) or 0, bad
end

function heat.over(tile, map, options)
  local most = options.most > 0 and options.most or 1
  local diverging = options.map == "diverging"
  local hi = diverging and BRIGHT * most or most
  local lo = diverging and -hi or 0
  local painted, bad = colors.apply(map, { lo = lo, hi = hi, map = options.map })
  local finite = (map * 0):eq(0)
  local density = (finite:where(map, 0):abs() / most):clamp(0, 1) * DENSEST
  density = finite:where(density, 1):unsqueeze(1)
  tile, painted = images.color(tile):to "f32", images.color(painted):to "f32"
  return (tile * (1 - density) + painted * density + 0.5):to "u8", bad
end

-- ------------------------------------------------------------------------------------- results

local Result = picture.extend {}
Result.__index = Result

-- result -> how it is drawn; what refers to its own key from here would never be collected.
local made = setmetatable({}, { __mode = "k" })

-- What is said of outputs and of maps that are not finite.
local function bad_notes(rows, bad)
  local outputs = 0
  for _, row in ipairs(rows) do
    if row.probability ~= row.probability then outputs = outputs + 1 end
  end
  local notes = tiles.bad_notes(bad, " of the maps")
  if outputs > 0 then
    table.insert(notes, 1, ("%d of %d outputs are not finite"):format(outputs, #rows))
  end
  return notes
end

function Result:draw()
  local how = made[self]
  local list, notes = images.tiles(how.x)
  local labels, bad = {}, 0
  for i, row in ipairs(self) do
    local map, most, line = how.look(row)
    local found
    list[i], found = heat.over(list[i], map, { map = how.map, most = most })
    labels[i], bad = label_of(row) .. (line and "\n" .. line or ""), bad + found
  end
  for _, note in ipairs(bad_notes(self, bad)) do notes[#notes + 1] = note end
  local pixels, places = grid.draw(list, {
    labels = labels, columns = how.columns, title = how.title or self.title,
    scale = images.scale(how.x:size(3), how.x:size(4), #list),
  })
  self.places, how.notes = places, notes
  return pixels
end

function Result:__tostring()
  local lines = { picture.headline(self, self.title) }
  for i, row in ipairs(self) do lines[i + 1] = ("  %d: %s"):format(i, label_of(row)) end
  for _, note in ipairs(made[self].notes) do lines[#lines + 1] = note end
  return table.concat(lines, "\n")
end

function heat.result(rows, fields, how)
  for name, value in pairs(fields) do rows[name] = value end
  handle.keep(how.x) -- the picture is drawn later, perhaps after the end of a step
  for _, row in ipairs(rows) do
    handle.keep(row.map)
    if row.raw then handle.keep(row.raw) end
  end
  made[setmetatable(rows, Result)] = how
  return rows
end

return heat
