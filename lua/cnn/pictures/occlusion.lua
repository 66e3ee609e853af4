-- occlusion.lua - net:occlusion(x): what the net does not recognize when it is covered.
--
-- Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014. A square of one
-- value goes over the picture; at each place the net says how probable the class still is. What is
-- drawn at a pixel is the mean over the squares that cover it: red where covering costs the class
-- its probability, blue where it helps.
--
-- Surprising: the last square of a row touches the edge, whatever the stride, so that every pixel
-- is covered by some square; only a stride larger than the square leaves gaps.

local ffi = require "ffi"
local C = require "cnn.ffi".C
local argument = require "cnn.argument"
local err = require "cnn.error"
local handle = require "cnn.handle"
local heat = require "cnn.pictures.heat"
local images = require "cnn.pictures.images"
local pass = require "cnn.pictures.pass"
local step = require "cnn.step"
local text = require "cnn.text"

local occlusion = {}

local WHO = "net:occlusion"
local BATCH = 64 -- covered pictures at a time

-- ------------------------------------------------------------------------------------ the places

-- Where squares begin, from 1: every `stride`, and one that ends at `length`.
local function starts(length, size, stride)
  local list = {}
  for at = 1, length - size + 1, stride do list[#list + 1] = at end
  if list[#list] + size - 1 < length then list[#list + 1] = length - size + 1 end
  return list
end

local function default(value, otherwise)
  if value == nil then return otherwise end
  return value
end

-- The square's size and the places' rows and columns, for a picture of h x w.
local function plan(options, h, w)
  local size = default(options.size, { math.ceil(h / 4), math.ceil(w / 4) })
  local sh, sw = argument.pair(WHO, "size", size, 1)
  if sh > h or sw > w then
    err.raise(("%s: size: expected at most the picture's %dx%d, got %dx%d"):format(WHO, h, w, sh,
      sw))
  end
  local stride = default(options.stride,
    { math.max(1, math.floor(sh / 4)), math.max(1, math.floor(sw / 4)) })
  local dh, dw = argument.pair(WHO, "stride", stride, 1)
  return { sh = sh, sw = sw, rows = starts(h, sh, dh), columns = starts(w, sw, dw) }
end

local function places_of(p)
  local places = {}
  for _, row in ipairs(p.rows) do
    for _, column in ipairs(p.columns) do places[#places + 1] = { row = row, column = column } end
  end
  return places
end

-- ----------------------------------------------------------------------------------- the numbers

-- The picture `one` once for each of the places first .. last, each covered at its own.
local function covered(one, p, places, first, last, value)
  local batch = one:expand(last - first + 1, one:size(2), one:size(3), one:size(4)):clone()
  for i = first, last do
    local place = places[i]
    batch[i - first + 1]:narrow(2, place.row, p.sh):narrow(3, place.column, p.sw):fill(value)
  end
  return batch
end

-- The class's probability at each place, as a list.
local function probabilities(net, one, class, p, places, value)
  local list = {}
  for first = 1, #places, BATCH do
    local last = math.min(#places, first + BATCH - 1)
    local batch = covered(one, p, places, first, last, value)
    local found = step(function()
      local scores = net(batch)
      pass.check_scores(WHO, scores, last - first + 1, class)
      return scores:softmax(2):narrow(2, class, 1)
    end)
    for _, probability in ipairs(found:view(-1):totable()) do list[#list + 1] = probability end
    handle.give_back(batch, found)
  end
  return list
end

-- H x W: at each pixel the mean over the squares that cover it; `without` where none does.
local function spread(list, p, places, h, w, without)
  local sums, counts = ffi.new("double[?]", h * w), ffi.new("int32_t[?]", h * w)
  for i, place in ipairs(places) do
    for row = place.row - 1, place.row + p.sh - 2 do
      for at = row * w + place.column - 1, row * w + place.column + p.sw - 2 do
        sums[at], counts[at] = sums[at] + list[i], counts[at] + 1
      end
    end
  end
  local values = ffi.new("float[?]", h * w)
  for i = 0, h * w - 1 do values[i] = counts[i] > 0 and sums[i] / counts[i] or without end
  return handle.wrap(C.cnn_from_data(ffi.new("int64_t[2]", h, w), 2, "f32", values))
end

-- Rows of places, and the place with the least probability.
local function fill_row(row, list, p, places)
  row.values, row.lowest = {}, nil
  for i, place in ipairs(places) do
    local at = math.floor((i - 1) / #p.columns) + 1
    row.values[at] = row.values[at] or {}
    table.insert(row.values[at], list[i])
    if list[i] == list[i] and (not row.lowest or list[i] < row.lowest.probability) then
      row.lowest = { probability = list[i], row = place.row, column = place.column }
    end
  end
end

local function compute(net, x, p, options)
  local rows = heat.choose(WHO, net(x), x:size(1), options)
  local places, h, w = places_of(p), x:size(3), x:size(4)
  for i, row in ipairs(rows) do
    local one = x:narrow(1, i, 1)
    local list = probabilities(net, one, row.class, p, places, options.value or 0)
    fill_row(row, list, p, places)
    row.map = spread(list, p, places, h, w, row.probability)
  end
  return rows
end

-- ------------------------------------------------------------------------------------ the method

-- Probabilities of a picture alone and of one in a batch may differ by this: the kernels choose
-- their methods by the shape.
local ROUNDING = 1e-6

-- How a row is drawn: what covering costs, where that ends, and what to say.
local function look_of(row)
  local lost = row.map * -1 + row.probability
  lost = lost * lost:abs():le(ROUNDING):eq(0)
  local least = row.lowest and ("%.3f"):format(row.lowest.probability) or "not finite"
  return lost, math.max((heat.most(lost)), (heat.most(lost * -1))), "at worst " .. least
end

--- net:occlusion(x, { class = nil, classes = nil, size = nil, stride = nil, value = 0,
---   columns = nil })
-- Covers each picture with a square, place by place, and draws over it where that costs the class
-- its probability (red) or helps it (blue), on each picture's own scale. The result is a picture
-- and a list: o[i].class, .name, .probability (uncovered), .values[row][column] (covered, a number
-- a place), .lowest = { probability, row, column } (the square's first pixel), .map (H x W: the
-- mean over the squares that cover a pixel). The net is left as it was.
-- Shapes: x: N x C x H x W or C x H x W, as the net takes it; u8 is divided by 255
-- Options: class: a number from 1, otherwise the predicted one of each picture; classes: their
--   names; size: of the square, a number or { h, w } (a quarter of the picture); stride: between
--   two places (a quarter of the square); value: what covers, 0 is black; columns: tiles in a row
-- Errors: a square larger than the picture, a class out of range. Values that are not finite are
--   magenta, and told
-- Example: net:occlusion(x[1], { stride = 8 }):png "occlusion.png"
-- Source: Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014
-- See: net:gradcam
function occlusion.occlusion(net, x, options)
  options = argument.options(WHO, options,
    { "class", "classes", "size", "stride", "value", "columns" })
  argument.optional_whole(WHO, "columns", options.columns)
  argument.number(WHO, "value", default(options.value, 0))
  x = pass.input(WHO, net, images.batch(WHO, x))
  local p = plan(options, x:size(3), x:size(4))
  local rows = pass.quietly(net, x, compute, net, x, p, options)
  local title = ("covered by %dx%d at %s"):format(p.sh, p.sw,
    text.counted(#p.rows * #p.columns, "place"))
  return heat.result(rows, { title = title }, {
    x = x, look = look_of, map = "diverging", columns = options.columns,
    title = title .. "\nred: costs probability, blue: gains it",
  })
end

return occlusion
