-- palette.lua - at most 256 colours for a picture.
--
--   palette.of(data, plane, count) -> colours, index
--
-- data and plane are those of pixels.lua, count is the number of pixels. colours is a list of
-- { r, g, b }, index[i] says which one pixel i has, from 0. A picture with no more colours keeps
-- its own; else the set of all is split in two, again and again, where that lessens the squared
-- error most (Wu 1991 does so with finer cuts), and each part becomes its mean.
--
-- Surprising: colours are told apart by 6 bits a channel while they are split; the means are those
-- of the pixels themselves.

local ffi = require "ffi"
local bit = require "bit"

local MOST = 256
local LEVELS = 64 -- of a channel, while splitting
local BINS = LEVELS ^ 3
local LEAST_GAIN = 0.25 -- of a split, in whole levels squared; below it is rounding

local palette = {}

-- nil when there are more.
local function exact(data, plane, count)
  local index, known, colors = ffi.new("uint8_t[?]", count), {}, {}
  for i = 0, count - 1 do
    local r, g, b = data[i], data[i + plane], data[i + 2 * plane]
    local key = r * 65536 + g * 256 + b
    local at = known[key]
    if not at then
      if #colors == MOST then return nil end
      at = #colors
      known[key], colors[at + 1] = at, { r, g, b }
    end
    index[i] = at
  end
  return colors, index
end

-- A bin's levels are the digits of its number.
local function level(bin, axis) return bit.band(bit.rshift(bin, 6 * axis), LEVELS - 1) end

-- Adds to a box, a list of bins: the axis to split it along, where, and how much that is worth.
local function measure(box, weights)
  box.gain = LEAST_GAIN
  for axis = 0, 2 do
    local n, sum, squares = 0, 0, 0
    for i = 1, #box do
      local weight, at = weights[box[i]], level(box[i], axis)
      n, sum, squares = n + weight, sum + weight * at, squares + weight * at * at
    end
    local spread = squares - sum * sum / n
    if spread > box.gain then box.gain, box.axis, box.mean = spread, axis, sum / n end
  end
  return box
end

local function split(box, weights)
  local low, high = {}, {}
  for i = 1, #box do
    local side = level(box[i], box.axis) <= box.mean and low or high
    side[#side + 1] = box[i]
  end
  return measure(low, weights), measure(high, weights)
end

local function bins_of(data, plane, count)
  local weights, used = ffi.new("uint32_t[?]", BINS), {}
  local bins = ffi.new("uint32_t[?]", count)
  for i = 0, count - 1 do
    local r, g, b = data[i], data[i + plane], data[i + 2 * plane]
    local bin = bit.rshift(r, 2) + bit.lshift(bit.rshift(g, 2), 6)
      + bit.lshift(bit.rshift(b, 2), 12)
    if weights[bin] == 0 then used[#used + 1] = bin end
    weights[bin] = weights[bin] + 1
    bins[i] = bin
  end
  return measure(used, weights), weights, bins
end

local function boxes_of(first, weights)
  local boxes = { first }
  while #boxes < MOST do
    local widest = 1
    for i = 2, #boxes do
      if boxes[i].gain > boxes[widest].gain then widest = i end
    end
    if boxes[widest].gain <= LEAST_GAIN then break end
    boxes[widest], boxes[#boxes + 1] = split(boxes[widest], weights)
  end
  return boxes
end

local function means(data, plane, count, index, n)
  local sums = ffi.new("double[?]", 4 * n)
  for i = 0, count - 1 do
    local at = 4 * index[i]
    sums[at] = sums[at] + data[i]
    sums[at + 1] = sums[at + 1] + data[i + plane]
    sums[at + 2] = sums[at + 2] + data[i + 2 * plane]
    sums[at + 3] = sums[at + 3] + 1
  end
  local colors = {}
  for k = 0, n - 1 do
    local weight = sums[4 * k + 3]
    colors[k + 1] = { sums[4 * k] / weight, sums[4 * k + 1] / weight, sums[4 * k + 2] / weight }
  end
  return colors
end

local function reduced(data, plane, count)
  local first, weights, bins = bins_of(data, plane, count)
  local boxes = boxes_of(first, weights)
  local box_of, index = ffi.new("uint8_t[?]", BINS), ffi.new("uint8_t[?]", count)
  for k, box in ipairs(boxes) do
    for i = 1, #box do box_of[box[i]] = k - 1 end
  end
  for i = 0, count - 1 do index[i] = box_of[bins[i]] end
  return means(data, plane, count, index, #boxes), index
end

function palette.of(data, plane, count)
  local colors, index = exact(data, plane, count)
  if colors then return colors, index end
  return reduced(data, plane, count)
end

return palette
