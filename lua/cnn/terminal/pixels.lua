-- pixels.lua - the pixels of a picture for those that encode it, and other sizes of it.
--
--   pixels.read(picture, function(data, plane, height, width) ... end)     its results
--   pixels.reduce(picture, height, width)     averages areas        pixels.magnify(picture, times)
--
-- picture: u8 C x H x W with 1 or 3 channels. data[i], data[i + plane] and data[i + 2 * plane] are
-- red, green and blue of pixel i, row after row. Surprising: a gray picture is read the same way,
-- its plane is 0.

local ffi = require "ffi"
local handle = require "cnn.handle"
local image = require "cnn.image"

local pixels = {}

-- The first argument is what has to live until the others are known.
local function results(_, ...) return ... end

function pixels.read(picture, fn)
  local x = picture:to("cpu"):contiguous()
  local channels, height, width = unpack(x:shape())
  return results(x, fn(ffi.cast("const uint8_t *", handle.data(x)),
    channels == 3 and height * width or 0, height, width))
end

function pixels.reduce(picture, height, width)
  local channels = picture:size(1)
  local x = image.fit(picture:to "cpu", { channels, height, width })
  return (x * 255 + 0.5):to("u8"):view(channels, height, width)
end

function pixels.magnify(picture, times)
  if times == 1 then return picture end
  local c, h, w = unpack(picture:shape())
  local x = picture:contiguous():view(c, h, 1, w, 1):expand(c, h, times, w, times)
  return x:contiguous():view(c, h * times, w * times)
end

return pixels
