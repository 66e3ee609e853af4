-- image_grid.lua - cnn.image.grid(x): the images of a batch side by side.
--
-- What it takes is said in image.lua. Surprising: where the channels are no colours, a row is an
-- image and its tiles are the channels, so `columns` has nothing to say.

local err = require "cnn.error"
local handle = require "cnn.handle"
local picture = require "cnn.pictures.picture"
local tiles = require "cnn.pictures.tiles"

local image_grid = {}

local WHO = "cnn.image.grid"

-- N x C x H x W, as floats on the CPU.
local function images_of(x)
  local fits = handle.is_tensor(x) and x:dim() >= 2 and x:dim() <= 4 and x:numel() > 0
    and x.device ~= "meta"
  if not fits then
    err.raise(("%s: expected images N x C x H x W, C x H x W or H x W, got %s"):format(WHO,
      err.got(x)))
  end
  x = x:detach():to("cpu"):to "f32"
  while x:dim() < 4 do x = x:unsqueeze(1) end
  return x
end

-- A text for each image, or nil.
local function labels_of(labels, count)
  if labels == nil then return nil end
  if handle.is_tensor(labels) then labels = labels:cpu():contiguous():view(-1):totable() end
  if type(labels) ~= "table" or #labels ~= count then
    err.raise(("%s: labels: expected %d texts or numbers, one an image, got %s"):format(WHO, count,
      type(labels) == "table" and #labels or err.got(labels)))
  end
  local texts = {}
  for i, label in ipairs(labels) do texts[i] = tostring(label) end
  return texts
end

-- A row an image, a column a channel.
local function as_rows(x, options)
  local list, channels = {}, x:size(2)
  for i = 1, #x do
    for c = 1, channels do list[#list + 1] = x[i][c] end
  end
  return list, {
    columns = channels, heads = tiles.first(channels, channels),
    rows = options.labels or tiles.first(#x, #x),
  }
end

local function as_tiles(x, options)
  local list, is_gray = {}, x:size(2) == 1
  for i = 1, #x do list[i] = is_gray and x[i][1] or x[i] end
  return list, { columns = options.columns, labels = options.labels }
end

function image_grid.grid(x, options)
  local images = images_of(x)
  options = tiles.options(WHO, options, { "labels" }, "each",
    x.dtype == "u8" and { 0, 255 } or { 0, 1 })
  options.labels = labels_of(options.labels, #images)
  local count, channels, h, w = unpack(images:shape())
  local shown, notes = tiles.first(count, tiles.most(channels * h, w), "images")
  images = images:narrow(1, 1, #shown)
  local as_grid = (channels == 1 or channels == 3) and as_tiles or as_rows
  local list, layout = as_grid(images, options)
  local pixels, all, places = tiles.grid(list, options, layout, notes)
  return picture.new(pixels, { notes = all, places = places })
end

return image_grid
