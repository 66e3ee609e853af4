-- maps.lua - net:maps(x, "b3.1"): what a layer makes of a picture, each channel as a picture.
--
-- The layer's output is caught while the whole net is called on one picture, in prediction mode and
-- without gradients; the net is afterwards as it was. Maps of one pixel, and outputs that are
-- vectors, are drawn as bars.
--
-- Surprising: only the picture that is asked for goes through the net, not its batch. In prediction
-- mode its values do not depend on the others, but a layer of one's own that looks at the whole
-- batch sees one picture.

local argument = require "cnn.argument"
local bars = require "cnn.pictures.bars"
local calls = require "cnn.calls"
local err = require "cnn.error"
local handle = require "cnn.handle"
local look = require "cnn.probes.look"
local pass = require "cnn.pictures.pass"
local picture = require "cnn.pictures.picture"
local text = require "cnn.text"
local tiles = require "cnn.pictures.tiles"

local maps = {}

local WHO = "net:maps"

-- ------------------------------------------------------------------------------------- the layer

-- Of a net whose layer was not named: the first convolution, or else the first layer.
local function default_layer(net)
  local first
  for name, node in net:named_modules() do
    if node.kind == "Conv2d" then return node end
    if name ~= "" then first = first or node end
  end
  return first or net
end

local function one_picture(net, x, image)
  x = pass.input(WHO, net, x)
  if image > x:size(1) then
    err.raise(("%s: image: expected 1 to %d, got %d (x is %s)"):format(WHO, x:size(1), image,
      tostring(x:shape())))
  end
  return x:narrow(1, image, 1)
end

-- What the layer gives each time that it is called for x.
local function outputs_of(net, layer, x)
  local list = {}
  local observer = {}
  function observer.leave(node, _, y)
    if node == layer then list[#list + 1] = handle.is_tensor(y) and y or err.got(y) end
  end
  pass.quietly(net, x, calls.observe, observer, net, x)
  return list
end

local function choose_call(list, wanted, name)
  if #list == 0 then err.raise(("%s: %s is not called for this input"):format(WHO, name)) end
  if wanted and wanted > #list then
    err.raise(("%s: call: expected 1 to %d, got %d (that often %s is called)"):format(WHO, #list,
      wanted, name))
  end
  local y = list[wanted or #list]
  if not handle.is_tensor(y) then
    err.raise(("%s: %s gives %s; a tensor can be drawn"):format(WHO, name, y))
  end
  return y
end

-- ----------------------------------------------------------------------------------- the drawing

-- The output without the batch's axis: C x H x W, or one axis where there is nothing to look at but
-- a row of numbers.
local function values_of(y)
  y = y:detach():to("cpu"):to "f32"
  if y:dim() > 1 then y = y[1] end
  if y:dim() == 2 then return y:unsqueeze(1) end
  if y:dim() > 3 then y = y:contiguous():view(-1, y:size(-2), y:size(-1)) end
  if y:dim() == 3 and y:size(2) == 1 and y:size(3) == 1 or y:dim() == 0 then
    y = y:contiguous():view(-1)
  end
  return y
end

local function as_bars(y, title)
  return bars.draw(y, { title = ("%s: %s"):format(title, text.counted(#y, "value")) })
end

local function as_grid(y, title, options)
  return tiles.channels(WHO, y, title .. ": " .. tostring(y:shape()), options)
end

local function title_of(name, layer, call, count)
  local title = name .. " " .. layer.kind
  if count == 1 then return title, {} end
  title = ("%s, call %d of %d"):format(title, call, count)
  return title, { ("%s is called %d times; this is call %d (call = n)"):format(name, count, call) }
end

local function check(options)
  options = tiles.options(WHO, options, { "image", "call", "channels", "numbers" }, "map")
  options.image = argument.optional_whole(WHO, "image", options.image) or 1
  options.numbers = argument.boolean(WHO, "numbers", options.numbers, true)
  argument.optional_whole(WHO, "call", options.call)
  return options
end

--- net:maps(x, path, { image = 1, scale = "map", channels = nil, columns = nil, numbers = true,
---   colors = "gray", call = nil })
-- A picture of the feature maps of a layer, one tile a channel with its number above; an output
-- that is a vector is drawn as bars. Without a path: of the first convolution. The net is left as
-- it was.
-- Shapes: x: N x C x H x W, of which one picture is taken, or C x H x W
-- Options: image: which picture of the batch, from 1; scale: "map" (black to white is each map's
--   own range), "all" (one range for all) or { lo, hi }; channels: how many, or a list of numbers;
--   columns: tiles in a row; numbers: false leaves them out; colors: "gray", "viridis", "plasma"
--   or "diverging"; call: which call of a layer that is called more than once (the last)
-- Errors: an unknown path is told with the nearest and the layers' names; values that are not
--   finite are magenta, and the picture says how many
-- Example: net:maps(x, 1):png "maps.png"
-- See: net:filters, cnn.image.grid, net:probe
function maps.maps(net, x, path, options)
  path, options = argument.may_skip(path, options)
  options = check(options)
  local layer = path == nil and default_layer(net) or look.get(net, path, WHO)
  local name = text.paths("net", net)[layer]
  local list = outputs_of(net, layer, one_picture(net, x, options.image))
  local y = values_of(choose_call(list, options.call, name))
  if y:numel() == 0 then
    err.raise(("%s: %s gives %s, no values"):format(WHO, name, tostring(y:shape())))
  end
  local title, notes = title_of(name, layer, options.call or #list, #list)
  local draw = y:dim() == 1 and as_bars or as_grid
  local pixels, more, places = draw(y, title, options)
  for _, note in ipairs(more) do notes[#notes + 1] = note end
  return picture.new(pixels, { notes = notes, text = title, places = places })
end

return maps
