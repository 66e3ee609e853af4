-- filters.lua - net:filters "conv1": the weights of a layer as pictures.
--
--   input channels   the grid
--   1                a gray tile per output channel
--   3                a colour tile per output channel
--   other            a row per output channel, a column per input channel; or one of these, input =
--
-- Surprising: kernels of one pixel, which all would be black under a range of their own, and the
-- weights of nn.Linear are one picture: a row per output, a column per input.

local cnn = require "cnn"
local argument = require "cnn.argument"
local bars = require "cnn.pictures.bars"
local err = require "cnn.error"
local look = require "cnn.probes.look"
local members = require "cnn.members"
local picture = require "cnn.pictures.picture"
local text = require "cnn.text"
local tiles = require "cnn.pictures.tiles"

local filters = {}

local WHO = "net:filters"
local MOST_ROWS, MOST_COLUMNS = 16, 24 -- of output and input channels, unless more is asked for
local MOST_SIDE = 2048 -- of weights that are one picture
local MOST_NAMES = 12  -- in an error

-- ----------------------------------------------------------------------------------- the weights

-- `weight`, or of a layer of one's own the parameter with the most axes; nil when it has none.
local function weight_of(layer)
  local found
  members.each(layer, function(name, value, kind)
    if kind ~= "parameter" or found and found.name == "weight" then return end
    if name == "weight" or not found or value:dim() > found.value:dim() then
      found = { name = name, value = value }
    end
  end)
  return found and found.value
end

-- The paths of those convolutions of the net that are in `node`.
local function with_filters(net, node)
  local names, paths = {}, text.paths("", net)
  for _, inner in node:named_modules() do
    local weight = weight_of(inner)
    if weight and weight:dim() == 4 then names[#names + 1] = paths[inner] end
  end
  return names
end

local function refuse(net, layer, name)
  if rawget(layer, "unbuilt") then
    err.raise(("%s: %s %s has no weights yet: its input size is found at the first input "
      .. "(net:shapes{...} is enough)"):format(WHO, name, layer:describe()))
  end
  local names = with_filters(net, layer)
  if #names == 0 then names = with_filters(net, net) end
  local list = table.concat(names, ", ", 1, math.min(#names, MOST_NAMES))
  err.raise(("%s: %s %s has no weights of its own%s%s"):format(WHO, name, layer:describe(),
    #names > 0 and "; filters are in " .. list or "", #names > MOST_NAMES and ", ..." or ""))
end

-- ----------------------------------------------------------------------------------- the drawing

local function choose_outputs(w, options, most)
  return tiles.choose(WHO, "channels", options.channels, w:size(1), most)
end

-- The first `most` input channels of w; a note of those left out, and what to do about it.
local function cut_inputs(w, most, notes, hint)
  if w:size(2) <= most then return w end
  notes[#notes + 1] = ("the first %d of %s input channels%s"):format(most, text.commas(w:size(2)),
    hint or "")
  return w:narrow(2, 1, most)
end

-- w: O x I, a row per output.
local function as_matrix(w, title, options)
  local rows, notes = choose_outputs(w, options, MOST_SIDE)
  local shown = cut_inputs(w:index_select(1, cnn.tensor(rows)), MOST_SIDE, notes)
  local scale = options.scale == "map" and "all" or options.scale
  return tiles.grid({ shown }, { scale = scale, colors = options.colors },
    { title = title .. ": " .. tostring(w:shape()) }, notes)
end

-- A row per output channel, a column per input channel.
local function as_table(w, title, options)
  local rows, notes = choose_outputs(w, options, MOST_ROWS)
  w = cut_inputs(w, options.columns or MOST_COLUMNS, notes, "; input = a number draws one of them")
  local list, heads = {}, tiles.first(w:size(2), w:size(2))
  for _, row in ipairs(rows) do
    for column = 1, w:size(2) do list[#list + 1] = w[row][column] end
  end
  return tiles.grid(list, options, {
    columns = w:size(2), rows = options.numbers and rows or nil,
    heads = options.numbers and heads or nil, title = title .. ", a row per output channel",
  }, notes)
end

-- O x KH x KW
local function one_input(w, i)
  return w:narrow(2, i, 1):contiguous():view(w:size(1), w:size(3), w:size(4))
end

local function as_convolution(w, title, options)
  local inputs, sized = w:size(2), title .. ": " .. tostring(w:shape())
  if options.input then
    if options.input > inputs then
      err.raise(("%s: input: expected 1 to %d, got %d"):format(WHO, inputs, options.input))
    end
    sized = sized .. ", input channel " .. options.input
    return tiles.channels(WHO, one_input(w, options.input), sized, options)
  end
  if w:size(3) == 1 and w:size(4) == 1 then
    return as_matrix(w:contiguous():view(w:size(1), inputs), title, options)
  end
  if inputs == 3 then return tiles.channels(WHO, w, sized, options) end
  if inputs == 1 then return tiles.channels(WHO, one_input(w, 1), sized, options) end
  return as_table(w, sized, options)
end

local function draw(w, title, options)
  if w:dim() == 4 then return as_convolution(w, title, options) end
  if w:dim() == 2 then return as_matrix(w, title, options) end
  w = w:contiguous():view(-1)
  return bars.draw(w, { title = ("%s: %s"):format(title, text.counted(#w, "weight")) })
end

--- net:filters(path, { input = nil, channels = nil, scale = "map", columns = nil, numbers = true,
---   colors = "gray" })
-- A picture of a layer's weights. A convolution: a tile per output channel, gray for 1 input
-- channel and in colour for 3; otherwise a row per output and a column per input channel. 1x1
-- kernels and nn.Linear: one picture, a row per output. The path may be left out where the net is
-- the layer.
-- Options: input: draw this input channel alone; channels: how many output channels, or a list of
--   numbers; scale: "map" (each tile its own range), "all" (one range) or { lo, hi }; columns:
--   tiles in a row; numbers: false leaves them out; colors: "gray", "viridis", "plasma" or
--   "diverging"
-- Errors: a layer without weights is told with the layers that have filters
-- Example: nn.Conv2d(1, 6, 5):filters():png "filters.png"
--   cnn.image.grid(nn.Linear(784, 10).weight:view(10, 1, 28, 28), { scale = "each" })
-- See: net:maps, cnn.image.grid
function filters.filters(net, path, options)
  path, options = argument.may_skip(path, options)
  options = tiles.options(WHO, options, { "input", "channels", "numbers" }, "map")
  options.numbers = argument.boolean(WHO, "numbers", options.numbers, true)
  argument.optional_whole(WHO, "input", options.input)
  local layer = path == nil and net or look.get(net, path, WHO)
  local name = text.paths("net", net)[layer]
  local w = weight_of(layer)
  if not w then refuse(net, layer, name) end
  local title = name .. " " .. layer.kind
  local pixels, notes, places = draw(w:detach():to("cpu"):to "f32", title, options)
  return picture.new(pixels, { notes = notes, text = "filters of " .. title, places = places })
end

return filters
