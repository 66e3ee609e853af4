-- commands.lua - cnnlua train, shapes and eval: a recipe, options, and what the library does.
--
-- Each takes the options of its command as a table and returns nothing, or an exit status.
-- Surprising: eval knows nothing of how the weights came about; any safetensors file whose names
-- and shapes are the net's will do.

local finite = require "cnn.finite"
local recipe = require "cnn.recipe"

local commands = {}

function commands.train(options)
  require "cnn.train".run(recipe.value(options.file, options), options)
end

function commands.shapes(options)
  local loaded = recipe.load(options.file, options)
  loaded.net:shapes { options.batch or 1, unpack(loaded.input) }
end

-- The recipe with its weights, in prediction mode on its device.
function commands.load_trained(options)
  local loaded = recipe.load(options.file, options)
  loaded.device, loaded.precision = recipe.device(options)
  recipe.dry_run(loaded)
  require "cnn.checkpoint".load(loaded.net, options.weights)
  loaded.net:to(loaded.device)
  loaded.net:eval()
  return loaded
end

function commands.eval(options)
  local loaded = commands.load_trained(options)
  local data = require "cnn.data".open(loaded.data, {
    batch = loaded.train.batch, height = loaded.input[2], width = loaded.input[3],
    dir = options.data, only = "test",
  })
  local loss, acc = require "cnn.train".evaluate(loaded.net, data.test)
  if loss - loss ~= 0 then finite.refuse(loaded.net, "the test images") end
  if options.json then
    print(require "cjson".encode {
      name = loaded.name, loss = loss, acc = acc, images = data.test:count(),
      device = loaded.device,
    })
  else
    print(("test loss %.3f, test acc %.3f"):format(loss, acc))
  end
end

return commands
