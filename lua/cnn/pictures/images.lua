-- images.lua - a batch of images as tiles for a grid, whatever their channels and their values are.
--
--   images.tiles(x) -> tiles, notes       x: N x C x H x W, u8 or f32
--   images.batch(who, x)                  x: N x C x H x W or C x H x W -> the former
--   images.scale(height, width, count)    how large each pixel of so many images is drawn
--   images.message(text)                  pixels that say something, where there is no picture
--
-- u8 is drawn from 0 to 255; f32 from 0 to 1, or, if a value lies outside, from the least to the
-- largest of the batch. One channel is gray, three are red, green and blue, of any other number the
-- mean is drawn.
--
-- Surprising: one value beyond 0 and 1 changes what all the others look like; a note says so.

local canvas = require "cnn.pictures.canvas"
local colors = require "cnn.pictures.colors"
local err = require "cnn.error"
local handle = require "cnn.handle"
local tiles = require "cnn.pictures.tiles"

local images = {}

function images.batch(who, x)
  local fits = handle.is_tensor(x) and (x:dim() == 3 or x:dim() == 4) and x.device ~= "meta"
  if not fits or x:numel() == 0 then
    err.raise(("%s: x: expected images N x C x H x W or C x H x W with values, got %s")
      :format(who, err.got(x)))
  end
  x = x:detach()
  return x:dim() == 3 and x:unsqueeze(1) or x
end

-- What black and white stand for, and a note where it is not what one expects.
local function range_of(x)
  if x.dtype == "u8" then return { 0, 255 } end
  local lo, hi = colors.range(x)
  if not lo or lo >= 0 and hi <= 1 then return { 0, 1 } end
  return { lo, hi > lo and hi or lo + 1 }, ("black is %.3g, white %.3g"):format(lo, hi)
end

function images.tiles(x)
  x = x:to "cpu"
  local range, note = range_of(x)
  local channels, list = x:size(2), {}
  for i = 1, x:size(1) do
    local one = x[i]:to "f32"
    if channels ~= 3 then one = channels == 1 and one[1] or one:mean({ 1 })[1] end
    list[i] = one
  end
  local drawn, notes = tiles.draw(list, { scale = range, colors = "gray" })
  if note then table.insert(notes, 1, note) end
  if channels ~= 1 and channels ~= 3 then
    table.insert(notes, 1, ("the mean of %d channels"):format(channels))
  end
  return drawn, notes
end

-- The more there are, the smaller.
function images.scale(height, width, count)
  local side = count == 1 and 384 or count <= 4 and 256 or count <= 16 and 168 or 112
  return math.max(1, math.floor(side / math.max(height, width) + 0.5))
end

-- A tile with three channels.
function images.color(tile)
  return tile:size(1) == 3 and tile or tile:expand(3, tile:size(2), tile:size(3)):contiguous()
end

function images.message(line)
  local options = { size = 14, color = canvas.INK }
  local width, height = canvas.text_size(line, options)
  local c = canvas.new(width + 32, height + 32)
  c:text(16, 16, line, options)
  return c:finish()
end

return images
