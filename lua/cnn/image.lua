-- image.lua - cnn.image: PNG files to tensors and back.
--
--   cnn.image.read("boot.png", { channels = 1 })     u8, C x H x W
--   cnn.image.write("boot.png", x)                   u8 0 to 255 or f32 0 to 1, C x H x W or H x W
--   cnn.image.fit(picture, { 1, 96, 96 })            f32 0 to 1, 1 x 1 x 96 x 96
--
-- Surprising: fit averages where a picture gets smaller and interpolates where it gets larger;
-- the bilinear resize alone, which the training images go through, would skip pixels.

local C = require "cnn.ffi".C
local argument = require "cnn.argument"
local err = require "cnn.error"
local handle = require "cnn.handle"

local image = {}

-- channels: 1 or 3; what the file has is brought to that.
function image.read(file, options)
  options = argument.options("cnn.image.read", options, { "channels" })
  argument.string("cnn.image.read", "file", file)
  local channels = argument.whole("cnn.image.read", "channels", options.channels or 1, 0)
  return handle.wrap(C.cnn_png_read(file, math.min(channels, 4)))
end

function image.write(file, picture)
  argument.string("cnn.image.write", "file", file)
  if not handle.is_tensor(picture) then
    err.raise("cnn.image.write: expected a tensor, got " .. err.got(picture))
  end
  if picture.dtype ~= "u8" then picture = (picture:clamp(0, 1) * 255 + 0.5):to "u8" end
  if picture:dim() == 2 then picture = picture:unsqueeze(1) end
  if C.cnn_png_write(file, picture) ~= 0 then handle.fail() end
end

-- u8 C x H x W -> f32 1 x C x height x width, as a net is given its images.
function image.fit(picture, input)
  if not handle.is_tensor(picture) or picture:dim() ~= 3 then
    err.raise("cnn.image.fit: expected a picture C x H x W, got " .. err.got(picture))
  end
  if type(input) ~= "table" then
    err.raise("cnn.image.fit: input: expected { C, H, W }, got " .. err.got(input))
  end
  local height = argument.whole("cnn.image.fit", "height", input[2], 1)
  local width = argument.whole("cnn.image.fit", "width", input[3], 1)
  local x = picture:to "f32" / 255
  x = x:view(1, picture:size(1), picture:size(2), picture:size(3))
  local less_h, less_w = math.min(x:size(3), height), math.min(x:size(4), width)
  if less_h < x:size(3) or less_w < x:size(4) then x = x:adaptive_avg_pool2d(less_h, less_w) end
  if less_h < height or less_w < width then x = handle.wrap(C.cnn_resize(x, height, width)) end
  return x
end

return image
