-- maps_command.lua - cnnlua maps: the feature maps of a layer for one picture, as a PNG file.
--
-- The picture is one of the test images, by its number, or a PNG file, which is brought to the
-- net's input as cnnlua predict does it.
--
-- Surprising: without -o the maps are drawn in the terminal; where there is none, that is a usage
-- error, because nothing would come of the work.

local cnn = require "cnn"
local commands = require "cnn.commands"
local data = require "cnn.data"
local fail = require "cnn.fail"
local files = require "cnn.files"
local look = require "cnn.probes.look"
local pass = require "cnn.pictures.pass"

local maps_command = {}

local function layer_of(net, path)
  if path == nil then return nil end
  local ok, layer = pcall(look.get, net, path, "--layer")
  if not ok then fail.usage("%s", layer) end
  return layer
end

-- A test image by its number, and what it is called.
local function test_image(loaded, number, dir)
  local split = data.open(loaded.data, {
    batch = 1, height = loaded.input[2], width = loaded.input[3], dir = dir, only = "test",
  }).test
  if number > split:count() then
    fail.usage("--image takes a number from 1 to %d, the test images, or a PNG file, got %d",
      split:count(), number)
  end
  local x, label = split:take(number)
  return x, ("test image %d (%s)"):format(number, pass.name(split.classes, label:item()))
end

local function file_image(loaded, file)
  local picture = cnn.image.read(file, { channels = loaded.input[1] })
  return cnn.image.fit(picture, loaded.input), file
end

function maps_command.maps(options)
  if not options.output and not files.is_terminal(1) then
    fail.usage "maps: stdout is no terminal, so -o FILE has to say where the picture goes"
  end
  local loaded = commands.load_trained(options)
  local layer = layer_of(loaded.net, options.layer)
  local image_of = type(options.image) == "string" and file_image or test_image
  local x, what = image_of(loaded, options.image or 1, options.data)
  local maps = loaded.net:maps(x, layer, { scale = options.scale })
  if options.output then maps:png(options.output) else maps:show() end
  local height, width = maps:size()
  print(("%s%s of %s, %dx%d"):format(options.output and options.output .. ": " or "", maps.text,
    what, width, height))
  for _, note in ipairs(maps.notes) do print(note) end
end

return maps_command
