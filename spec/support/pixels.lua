-- pixels.lua - the pixels of a picture, read back from the PNG file that it writes.
--
--   local p = pixels.of(picture)     p.height, p.width, p:at(x, y) -> 0xrrggbb, from 0
--   p:tile(place, scale, h, w)       the h x w colours of a magnified tile, row after row; an error
--                                    where a block of scale x scale pixels has two colours
--   p:shows(picture, i, x, lo, hi)   fails unless tile i is x (H x W), in its own range without lo
--                                    and hi
--   pixels.gray(list, lo, hi)        the colours that numbers should have

local cnn = require "cnn"
local engine = require "spec.support.engine"
local program = require "spec.support.program"

local pixels = { MAGENTA = 0xff00ff }
local Pixels = {}
Pixels.__index = Pixels

function pixels.read(file)
  local x = cnn.image.read(file, { channels = 3 })
  return setmetatable({ values = engine.values(x), height = x:size(2), width = x:size(3) }, Pixels)
end

function pixels.of(picture)
  local file = program.file "picture.png"
  assert(picture:png(file) == picture)
  return pixels.read(file)
end

function Pixels:at(x, y)
  if x < 0 or y < 0 or x >= self.width or y >= self.height then error("outside the picture", 2) end
  local plane, i = self.width * self.height, y * self.width + x
  return self.values[i] * 65536 + self.values[plane + i] * 256 + self.values[2 * plane + i]
end

-- The one colour of a square.
local function color_of(self, left, top, side)
  local color = self:at(left, top)
  for y = top, top + side - 1 do
    for x = left, left + side - 1 do
      if self:at(x, y) ~= color then error(("two colours at %d, %d"):format(x, y), 3) end
    end
  end
  return color
end

function Pixels:tile(place, scale, h, w)
  local list = {}
  for y = 0, h - 1 do
    for x = 0, w - 1 do
      list[#list + 1] = color_of(self, place[1] + x * scale, place[2] + y * scale, scale)
    end
  end
  return list
end

-- How many pixels of a part have less than `level` of red.
function Pixels:count_dark(left, top, width, height, level)
  local count = 0
  for y = top, top + height - 1 do
    for x = left, left + width - 1 do
      if math.floor(self:at(x, y) / 65536) < level then count = count + 1 end
    end
  end
  return count
end

function pixels.gray(list, lo, hi)
  local colors = {}
  for i, v in ipairs(list) do
    local level = math.floor(255 * (v - lo) / (hi - lo) + 0.5)
    colors[i] = math.max(0, math.min(255, level)) * 0x010101
  end
  return colors
end

function pixels.range(list) return math.min(unpack(list)), math.max(unpack(list)) end

function Pixels:shows(picture, i, x, lo, hi)
  local list = engine.list(x)
  if not lo then lo, hi = pixels.range(list) end
  local tile = self:tile(picture.places[i], picture.places.scale, x:size(1), x:size(2))
  for k, color in ipairs(pixels.gray(list, lo, hi)) do
    if tile[k] ~= color then
      error(("tile %d, pixel %d: expected %06x, got %06x"):format(i, k, color, tile[k]), 2)
    end
  end
end

-- A layer's weight, from a flat list.
function pixels.set_weight(layer, list)
  cnn.no_grad(function() layer.weight:copy(cnn.tensor(list, layer.weight:shape())) end)
end

return pixels
