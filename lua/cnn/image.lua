-- image.lua - cnn.image: PNG files to tensors and back.
--
--   cnn.image.read("boot.png", { channels = 1 })     u8, C x H x W
--   cnn.image.write("boot.png", x)                   u8 0 to 255 or f32 0 to 1, C x H x W or H x W
--   cnn.image.fit(picture, { 1, 96, 96 })            f32 0 to 1, 1 x 1 x 96 x 96
--   cnn.image.grid(x):png "batch.png"                a batch side by side
--   cnn.image.batch(x, y, { predictions = net(x) })  the same with labels, right and wrong
--
-- Surprising: fit averages where a picture gets smaller and interpolates where it gets larger;
-- the bilinear resize alone, which the training images go through, would skip pixels.

local C = require "cnn.ffi".C
local argument = require "cnn.argument"
local err = require "cnn.error"
local handle = require "cnn.handle"

local image = {}

--- cnn.image.read(file, { channels = 1 })
-- A PNG file as a tensor of bytes. Palettes, alpha and 16 bits are brought to that.
-- Shapes: -> u8 CxHxW
-- Options: channels: 1, gray, or 3, colour, whatever the file has
-- Errors: a file that is not there, is no PNG, or is damaged
-- Example: cnn.image.write("a.png", cnn.rand(28, 28))
--   cnn.image.read("a.png"):shape() --> 1x28x28
-- See: cnn.image.fit, cnn.image.write, cnnlua predict
function image.read(file, options)
  options = argument.options("cnn.image.read", options, { "channels" })
  argument.string("cnn.image.read", "file", file)
  local channels = argument.whole("cnn.image.read", "channels", options.channels or 1, 0)
  return handle.wrap(C.cnn_png_read(file, math.min(channels, 4)))
end

--- cnn.image.write(file, picture)
-- Writes a PNG file, whole or not at all.
-- Shapes: u8 of 0 to 255 or f32 of 0 to 1; CxHxW with C 1 or 3, or HxW
-- Errors: another shape; a file that cannot be written
-- Example: cnn.image.write("noise.png", cnn.rand(3, 32, 32))
-- See: cnn.image.read, cnn.image.grid, picture:png
function image.write(file, picture)
  argument.string("cnn.image.write", "file", file)
  if not handle.is_tensor(picture) or picture.dtype == "i32" then
    err.raise("cnn.image.write: expected a tensor of u8, 0 to 255, or f32, 0 to 1, got "
      .. err.got(picture))
  end
  if picture.dtype ~= "u8" then picture = (picture:clamp(0, 1) * 255 + 0.5):to "u8" end
  if picture:dim() == 2 then picture = picture:unsqueeze(1) end
  if C.cnn_png_write(file, picture) ~= 0 then handle.fail() end
end

--- cnn.image.fit(picture, input)
-- A picture as a net is given its images: brought to the size of input = { C, H, W } and divided by
-- 255. It averages where the picture gets smaller and interpolates where it gets larger.
-- Shapes: u8 CxHxW -> f32 1xCxheightxwidth
-- Errors: a picture without 3 axes; an input that is no { C, H, W }
-- Example: cnn.image.fit(cnn.zeros({ 1, 60, 40 }, { dtype = "u8" }), { 1, 28, 28 }):shape()
--   --> 1x1x28x28
-- See: cnn.image.read, cnnlua predict
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

--- cnn.image.grid(x, { scale = { 0, 1 }, labels = nil, columns = nil, colors = "gray" })
-- A picture of a batch, image beside image. With 1 channel they are gray, with 3 in colour; with
-- another number of channels each image is a row, and each channel a gray tile in it.
-- Shapes: x: N x C x H x W, C x H x W or H x W; f32 of 0 to 1 or u8 of 0 to 255
-- Options: scale: { lo, hi }, what is black and white (of u8 { 0, 255 }), "each" (each image its
--   own range) or "all" (one range for all); labels: a list, or a tensor of N numbers, written
--   above the images; columns: images in a row; colors: "gray", "viridis", "plasma" or "diverging"
-- Errors: values that are not finite are magenta, and the picture says how many
-- Example: cnn.image.grid(x, { labels = y }):png "batch.png"
-- See: net:maps, cnn.image.batch, picture:png, picture:show
function image.grid(x, options) return require("cnn.pictures.image_grid").grid(x, options) end

--- cnn.image.batch(x, labels, { classes = nil, predictions = nil, columns = nil })
-- A picture of a batch with a label above each image. With predictions, right ones are green with a
-- tick; wrong ones are red with a cross and a frame, and the label stands below the prediction.
-- Shapes: x: N x C x H x W, u8 or f32, any C; labels: N whole numbers from 1, a tensor or a table
-- Options: classes: the classes' names, otherwise numbers are shown; predictions: net(x), N x
--   classes scores, or N labels; columns: tiles in a row
-- Errors: labels or predictions that are not one for each image, or are none of the classes
-- Example: cnn.image.batch(x, y, { predictions = net(x) }):png "batch.png"
-- See: cnn.image.grid, net:mistakes
function image.batch(x, labels, options)
  return require("cnn.pictures.batch").draw(x, labels, options)
end

return image
