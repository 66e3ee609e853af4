-- histogram.lua - net:histogram(x): how weights and activations are spread, layer by layer.
--
-- The result is a list of rows that is also a picture, a small histogram a row. Fields of a row:
-- path, of = "weights" or "activations", kind (of the layer), counts (bins.lua), lo, hi, count,
-- mean, std, min, max, zeros and non_finite (shares of all values).
--
-- Surprising: exact zeros would flatten the rest, where a relu makes many of them. So their bar is
-- gray and may be cut off; how many they are is told below it.

local argument = require "cnn.argument"
local bins = require "cnn.pictures.bins"
local calls = require "cnn.calls"
local canvas = require "cnn.pictures.canvas"
local err = require "cnn.error"
local handle = require "cnn.handle"
local look = require "cnn.probes.look"
local members = require "cnn.members"
local outputs = require "cnn.probes.outputs"
local pass = require "cnn.pictures.pass"
local picture = require "cnn.pictures.picture"
local text = require "cnn.text"

local histogram = {}

local WHO = "net:histogram"
local BINS, MOST_BINS = 40, 1000
local MOST_PANELS = 96 -- of weights, and of activations, in a picture

local Histogram = {}
Histogram.__index = Histogram

-- --------------------------------------------------------------------------------------- the rows

local function add_row(rows, path, node, of, x, n)
  local row = bins.of(x, n)
  if not row then return end
  row.path, row.kind, row.of = path, node.kind, of
  rows[#rows + 1] = row
end

-- The parameters that a layer holds itself, as pairs of name and tensor: all of them, or only the
-- largest, for a bias says little.
local function parameters_of(node, every)
  local list = {}
  members.each(node, function(name, value, kind)
    if kind ~= "parameter" then return end
    if every or #list == 0 then
      list[#list + 1] = { name, value }
    elseif value:numel() > list[1][2]:numel() then
      list[1] = { name, value }
    end
  end)
  return list
end

local function weights_of(layers, options)
  local rows = {}
  for _, place in ipairs(layers) do
    for _, pair in ipairs(parameters_of(place.module, options.all)) do
      local path = place.path == "net" and pair[1] or place.path .. "." .. pair[1]
      add_row(rows, path, place.module, "weights", pair[2], options.bins)
    end
  end
  return rows
end

local function recorder(rows, layers, n)
  local paths, times = {}, {}
  for _, place in ipairs(layers) do paths[place.module] = place.path end
  return outputs(function(node, y)
    local path = paths[node]
    if not path or not handle.is_tensor(y) then return end
    times[node] = (times[node] or 0) + 1
    if times[node] > 1 then path = ("%s, call %d"):format(path, times[node]) end
    add_row(rows, path, node, "activations", y, n)
  end)
end

local function activations_of(net, layers, x, options)
  local rows = {}
  x = pass.input(WHO, net, x)
  pass.quietly(net, x, calls.observe, recorder(rows, layers, options.bins), net, x)
  return rows
end

-- ---------------------------------------------------------------------------------------- as text

local MOST_LINES = 120
local SPARK = 20 -- characters of a histogram in a line
local RAMP = { " ", ".", ":", "-", "=", "+", "*", "#", "@" }
local BLOCKS = { " ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" }

-- The counts without the exact zeros, the largest of them, and the part in which the zeros are.
local function without_zeros(row)
  local list, most, at = { unpack(row.counts) }, 0, nil
  if row.zeros > 0 then
    at = math.min(math.floor(-row.lo / row.width) + 1, #list)
    list[at] = list[at] - math.floor(row.zeros * row.count + 0.5)
  end
  for _, count in ipairs(list) do most = math.max(most, count) end
  return list, most, at
end

-- One of the nine levels as a byte for each character; text.columns counts bytes.
local function spark_of(row)
  local sums, most, levels = {}, 0, {}
  for k, count in ipairs((without_zeros(row))) do
    local at = math.floor((k - 0.5) / #row.counts * SPARK) + 1
    sums[at] = (sums[at] or 0) + count
    most = math.max(most, sums[at])
  end
  for i = 1, SPARK do
    local share = most > 0 and (sums[i] or 0) / most or 0
    levels[i] = string.char(1 + math.ceil(share * 8))
  end
  return table.concat(levels)
end

local function number(v) return v and ("%.3g"):format(v) or "-" end

local function bound(v) return v and ("%.4g"):format(v) or "-" end

local function share(v)
  if v == 0 then return "" end
  local percent = 100 * v
  return percent < 0.1 and "< 0.1 %" or ("%.1f %%"):format(percent)
end

local function not_finite(row)
  local count = math.floor(row.non_finite * row.count + 0.5)
  return count > 0 and text.commas(count) or ""
end

-- What stands beside a histogram: "[1].weight", "[3] ReLU".
local function name_of(row)
  return row.of == "weights" and row.path or row.path .. " " .. row.kind
end

-- Lines of at most `columns`; ramp: nine characters, from nothing to the most.
local function lines_of(self, columns, ramp)
  local lines = {
    { "weights, activations", "", "from", "to", "mean", "std", "zeros", "not finite" },
  }
  for i, row in ipairs(self) do
    if i > MOST_LINES then break end
    lines[#lines + 1] = {
      (row.of == "weights" and "" or "  ") .. name_of(row), spark_of(row), bound(row.min),
      bound(row.max), number(row.mean), number(row.std), share(row.zeros), not_finite(row),
    }
  end
  local all = {}
  for line in text.columns(lines, 2):gmatch "[^\n]+" do
    all[#all + 1] = line:sub(1, columns):gsub("[\1-\9]", function(c) return ramp[c:byte()] end)
  end
  if #self > MOST_LINES then
    all[#all + 1] = ("... %d more (layers = \"...\" chooses)"):format(#self - MOST_LINES)
  end
  return table.concat(all, "\n")
end

function Histogram:__tostring()
  local ending = text.counted(#self, "histogram") .. " (:show(), :png(file))"
  return lines_of(self, nil, RAMP) .. "\n" .. ending
end

function Histogram:as_text(columns, color)
  return lines_of(self, columns, color and BLOCKS or RAMP) .. "\n"
end

-- ----------------------------------------------------------------------------------- as a picture

local INK, PALE, MAGENTA = canvas.INK, canvas.PALE, { 200, 0, 200 }
local LINE, ZEROS = { 190, 190, 195 }, { 170, 170, 175 }
local colors = { weights = { 31, 119, 180 }, activations = { 214, 110, 20 } }
local MARGIN, GAP = 12, 14
local WIDTH, BARS, HEIGHT = 168, 56, 122 -- of a panel
local TITLE, NAME, SMALL = 14, 11, 10    -- font sizes
local TITLE_HEIGHT = 24

-- The end of a name that is too long tells more than its beginning.
local function cut(name, options)
  if canvas.text_size(name, options) <= WIDTH then return name end
  while canvas.text_size("…" .. name, options) > WIDTH do name = name:sub(2) end
  return "…" .. name
end

local function draw_bars(c, left, top, row)
  local counts, most, zero_at = without_zeros(row)
  local n, bottom = #counts, top + BARS
  local function x_of(k) return left + math.floor(k * WIDTH / n) end
  for k, count in ipairs(counts) do
    local zeros = k == zero_at and row.counts[k] - count or 0
    local function height(value)
      if value == 0 then return 0 end
      return math.max(1, math.floor(math.min(1, most > 0 and value / most or 1) * BARS + 0.5))
    end
    local width = math.max(1, x_of(k) - x_of(k - 1) - (n <= WIDTH / 3 and 1 or 0))
    local all, own = height(count + zeros), height(count)
    if zeros > 0 then
      c:fill(x_of(k - 1), bottom - all, width, all, ZEROS)
      width = math.ceil(width / 2)
    end
    c:fill(x_of(k - 1), bottom - own, width, own, colors[row.of])
  end
  c:fill(left, bottom, WIDTH, 1, LINE)
  if row.lo < 0 and row.hi > 0 then
    c:fill(left + math.floor(-row.lo / (row.hi - row.lo) * WIDTH), bottom, 1, 4, INK)
  end
end

local function draw_panel(c, left, top, row)
  local small = { size = SMALL, color = PALE }
  local _, name_height = c:text_size("x", { size = NAME })
  local _, line = c:text_size("x", small)
  c:text(left, top, cut(name_of(row), { size = NAME }), { size = NAME, color = INK })
  draw_bars(c, left, top + name_height + 3, row)
  local y = top + name_height + 3 + BARS + 3
  c:text(left, y, bound(row.min), small)
  c:text(left + WIDTH, y, bound(row.max), { size = SMALL, color = PALE, align = "right" })
  c:text(left, y + line, ("mean %s  std %s"):format(number(row.mean), number(row.std)), small)
  local zeros, bad = share(row.zeros), not_finite(row)
  if zeros ~= "" then c:text(left, y + 2 * line, "zeros " .. zeros, small) end
  if bad ~= "" then
    c:text(left + WIDTH, y + 2 * line, bad .. " not finite",
      { size = SMALL, color = MAGENTA, align = "right" })
  end
end

-- Weights, then activations; each part begins a row of panels of its own.
local function parts_of(self)
  local parts, most = {}, 0
  for _, row in ipairs(self) do
    local part = parts[#parts]
    if not part or part.of ~= row.of then
      part = { of = row.of, count = 0 }
      parts[#parts + 1] = part
    end
    part.count = part.count + 1
    if #part < MOST_PANELS then part[#part + 1] = row end
    most = math.max(most, #part)
  end
  return parts, most
end

local function heading(part)
  if #part == part.count then return part.of end
  return ("%s, %d of %d (layers = \"...\" chooses others)"):format(part.of, #part, part.count)
end

local function columns_for(n) return n <= 4 and n or n <= 16 and 4 or 6 end

function Histogram:draw()
  local parts, most = parts_of(self)
  local columns, rows = columns_for(most), 0
  for _, part in ipairs(parts) do rows = rows + math.ceil(#part / columns) end
  local width = math.max(columns * (WIDTH + GAP) - GAP, 2 * WIDTH) + 2 * MARGIN
  local c = canvas.new(width, rows * (HEIGHT + GAP) + #parts * TITLE_HEIGHT + 2 * MARGIN - GAP)
  local top = MARGIN
  for _, part in ipairs(parts) do
    c:text(MARGIN, top, heading(part), { size = TITLE, color = colors[part.of], bold = true })
    top = top + TITLE_HEIGHT
    for i, row in ipairs(part) do
      local column, line = (i - 1) % columns, math.floor((i - 1) / columns)
      draw_panel(c, MARGIN + column * (WIDTH + GAP), top + line * (HEIGHT + GAP), row)
    end
    top = top + math.ceil(#part / columns) * (HEIGHT + GAP)
  end
  return c:finish()
end

picture.extend(Histogram)

-- -------------------------------------------------------------------------------------- the method

local function layers_of(net, what)
  local list = look.find(net, what, { quiet = true }, WHO .. ": layers")
  if #list == 0 then err.raise(("%s: layers: %s"):format(WHO, tostring(list))) end
  return list
end

--- net:histogram(x, { layers = nil, all = false, bins = 40 })
-- How the weights of each layer are spread, and with x the activations too: a list of rows that is
-- also a picture of small histograms. Prints as a table. The net is left as it was.
-- Shapes: x: N x C x H x W or C x H x W; without it, only weights
-- Options: layers: those alone that net:find gives for this word; all: every parameter, not only
--   the largest of each layer; bins: how many parts of the range of the values, at most 1000
-- Errors: layers that fit nothing are told with the nearest; values that are not finite are counted
-- Example: net:histogram(x):png "histograms.png"
-- See: net:probe, net:maps, net:find
function histogram.histogram(net, x, options)
  x, options = argument.may_skip(x, options)
  options = argument.options(WHO, options, { "layers", "all", "bins" })
  local chosen = {
    all = argument.boolean(WHO, "all", options.all, false),
    bins = argument.optional_whole(WHO, "bins", options.bins) or BINS,
  }
  if chosen.bins > MOST_BINS then
    err.raise(("%s: bins: expected 1 to %d, got %d"):format(WHO, MOST_BINS, chosen.bins))
  end
  local layers = layers_of(net, options.layers)
  local activations = x ~= nil and activations_of(net, layers, x, chosen) or {}
  local rows = weights_of(layers, chosen)
  for _, row in ipairs(activations) do rows[#rows + 1] = row end
  if #rows == 0 then
    err.raise(WHO .. ": there are no weights in these layers; net:histogram(x) shows activations")
  end
  return setmetatable(rows, Histogram)
end

return histogram
