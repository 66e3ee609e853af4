-- top_pictures.lua - net:top_pictures(data.test, "b2"): what each channel of a layer responds to.
--
-- For each channel the images with its largest activation anywhere, after Zeiler, Fergus (ECCV
-- 2014). The result is a list of channels, each a list of { index, label, label_name, value, row,
-- column } with the field `channel`, and a picture: a row a channel. A thin frame stands around the
-- part of the image that the pixel of the maximum lies over (what the layer sees from there reaches
-- further). Of a layer that gives vectors, N x F, a feature is a channel and has no place.
--
-- Surprising: the net is left in the middle, by an error that only this file knows: what comes
-- after the layer would be computed for nothing.

local argument = require "cnn.argument"
local calls = require "cnn.calls"
local create = require "cnn.create"
local err = require "cnn.error"
local grid = require "cnn.pictures.grid"
local handle = require "cnn.handle"
local images = require "cnn.pictures.images"
local look = require "cnn.probes.look"
local pass = require "cnn.pictures.pass"
local picture = require "cnn.pictures.picture"
local step = require "cnn.step"
local text = require "cnn.text"
local tiles = require "cnn.pictures.tiles"

local top_pictures = {}

local WHO = "net:top_pictures"
local CHANNELS, COUNT = 8, 9
local FRAME = { 255, 140, 0 }

local Top = picture.extend {}
Top.__index = Top

local splits = setmetatable({}, { __mode = "k" }) -- result -> where its pictures are

-- --------------------------------------------------------------------------------- the numbers

local DONE = {} -- thrown when the layer has been seen

-- What the layer gives at its first call for x; nil when it is not called.
local function output_of(net, layer, x)
  local y
  local observer = {}
  function observer.leave(node, _, output)
    if node ~= layer then return end
    y = y or output
    error(DONE, 0)
  end
  local ok, why = pcall(calls.observe, observer, net, x)
  if not ok and why ~= DONE then error(why, 0) end
  return y
end

local function check_output(y, name, count)
  local fits = handle.is_tensor(y) and (y:dim() == 4 or y:dim() == 2) and y:size(1) == count
    and y:numel() > 0
  if not fits then
    err.raise(("%s: %s gives %s; expected a layer with N x C x H x W or N x F"):format(WHO, name,
      y == nil and "nothing: it is not called for these images" or err.got(y)))
  end
end

-- The largest value of each channel of each image, N x C, and where: `places` counts the pixels
-- from 1, and is nil for vectors.
local function largest(y)
  if y:dim() == 2 then return { values = y } end
  local count, channels, h, w = unpack(y:shape())
  local flat = y:contiguous():view(count, channels, h * w)
  return { values = flat:max({ 3 }):squeeze(3), places = flat:argmax(3):squeeze(3), h = h, w = w }
end

local function add_channels(result, wanted, count)
  for i, channel in ipairs(tiles.choose(WHO, "channels", wanted, count, count)) do
    result[i] = { channel = channel }
  end
end

-- The chosen channels' numbers, as an index for index_select.
local function index_of(result, device)
  local numbers = {}
  for i, row in ipairs(result) do numbers[i] = row.channel end
  return create.tensor(numbers, { dtype = "i32" }):to(device)
end

local function add_images(result, count, found, labels, first)
  local values, places = found.values:totable(), found.places and found.places:totable()
  result.height, result.width = found.h or 1, found.w or 1
  for n, label in ipairs(labels) do
    for i, row in ipairs(result) do
      local value, place = values[n][i], places and places[n][i] - 1
      if value - value ~= 0 then
        result.not_finite = result.not_finite + 1
      else
        pass.keep(row, count, "value", {
          index = first + n - 1, label = label, label_name = pass.name(result.classes, label),
          value = value, row = place and math.floor(place / found.w) + 1,
          column = place and place % found.w + 1,
        })
      end
    end
  end
  result.images = result.images + #labels
end

-- A pass over the split, of which nothing but the best of each channel is kept.
local function collect(result, call, net, split, layer, options)
  pass.run(call, net, split, function(x, labels, first)
    local found = step(function()
      local y = output_of(net, layer, x)
      check_output(y, result.layer, #labels)
      if #result == 0 then add_channels(result, options.channels, y:size(2)) end
      return largest(y:index_select(2, index_of(result, x.device)))
    end)
    add_images(result, options.count, found, labels, first)
    handle.give_back(found.values)
    if found.places then handle.give_back(found.places) end
  end)
end

-- ------------------------------------------------------------------------------------- as text

local function title_of(top)
  return ("%s: what each channel responds to most in %s"):format(top.layer,
    text.counted(top.images, "image"))
end

local function note_of(top)
  if top.not_finite == 0 then return nil end
  return text.counted(top.not_finite, "activation is", "activations are")
    .. " not finite: left out"
end

function Top:__tostring()
  local rows = { { "channel", "label", "activation", "image" } }
  for _, row in ipairs(self) do
    for i, found in ipairs(row) do
      rows[#rows + 1] = {
        i == 1 and tostring(row.channel) or "", found.label_name, ("%.4g"):format(found.value),
        tostring(found.index),
      }
    end
  end
  return table.concat({ title_of(self), text.columns(rows, 2), note_of(self) }, "\n")
end

-- --------------------------------------------------------------------------------- as a picture

-- The part of the tile that the pixel of the maximum lies over, as a mark of grid.draw.
local function mark_of(tile, found, top)
  if not found.row or top.height * top.width == 1 then return nil end
  local up = math.floor((found.row - 1) * tile:size(2) / top.height)
  local left = math.floor((found.column - 1) * tile:size(3) / top.width)
  return {
    color = FRAME, thick = 2, top = up, left = left,
    height = math.ceil(found.row * tile:size(2) / top.height) - up,
    width = math.ceil(found.column * tile:size(3) / top.width) - left,
  }
end

-- Every tile of the grid, row by row; where an activation was left out there is an empty one.
local function tiles_of(top, columns)
  local split, list, labels, marks = splits[top], {}, {}, {}
  local blank = create.full({ 1, split.height, split.width }, 255, { dtype = "u8" })
  for _, row in ipairs(top) do
    for i = 1, columns do
      local found, at = row[i], #list + 1
      list[at] = found and images.tiles((split:take(found.index)))[1] or blank
      labels[at] = found and ("%.3g"):format(found.value) or "-"
      marks[at] = found and mark_of(list[at], found, top)
    end
  end
  return list, labels, marks
end

function Top:draw()
  local columns, names = 1, {}
  for i, row in ipairs(self) do
    columns, names[i] = math.max(columns, #row), tostring(row.channel)
  end
  local list, labels, marks = tiles_of(self, columns)
  local lines = { title_of(self), note_of(self) }
  local pixels, places = grid.draw(list, {
    columns = columns, labels = labels, rows = names, marks = marks,
    title = table.concat(lines, "\n"),
    scale = images.scale(list[1]:size(2), list[1]:size(3), #list),
  })
  self.places = places
  return pixels
end

-- ----------------------------------------------------------------------------------- the method

--- net:top_pictures(split, path, { channels = 8, count = 9, limit = nil, batch = nil })
-- What each channel of a layer responds to most: the images with its largest activations, a row a
-- channel, the activation above each image, a frame around the place of the maximum. The result is
-- a picture and a list: t[i].channel, t[i][k] = { index, label, label_name, value, row, column },
-- the largest first; row and column are those of the layer's own output. The net is left as it was.
-- Shapes: the layer gives N x C x H x W, or N x F without places
-- Options: channels: how many, or a list of numbers; count: images a channel; limit: the first so
--   many images of the split; batch: images at a time, otherwise as the split says
-- Errors: an unknown path is told with the nearest and the layers' names; a channel that the layer
--   does not have; activations that are not finite are left out, and told
-- Example: net:top_pictures(data.test, 1, { channels = 3, limit = 200 }):png "top.png"
-- Source: Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014
-- See: net:maps, net:filters
function top_pictures.top_pictures(net, split, path, options)
  local call
  options, call = pass.options(WHO, split, options, { "channels", "count" })
  local layer = look.get(net, path, WHO)
  local result = setmetatable({
    layer = pass.layer_title(net, layer), classes = split.classes, images = 0, not_finite = 0,
  }, Top)
  splits[result] = split
  collect(result, call, net, split, layer, {
    channels = options.channels == nil and CHANNELS or options.channels,
    count = argument.optional_whole(WHO, "count", options.count) or COUNT,
  })
  return result
end

return top_pictures
