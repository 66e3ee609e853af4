-- named_layers.lua - scripts of a small net of named layers, for the specs of reload and watch.
--
--   named_layers.text { layers = { "fc = nn.Linear(36, 2)" } }    the script's text
--   named_layers.write(parts, name)   the file that it was written to    named_layers.load(parts)
--
-- parts.layers are such lines, in their order; parts.before comes first, parts.train and parts.more
-- are the recipe's; parts.net stands for nn.Sequential().

local program = require "spec.support.program"

local named_layers = {}

function named_layers.text(parts)
  local lines = {}
  for _, layer in ipairs(parts.layers or {}) do
    lines[#lines + 1] = ('net:add("%s", %s)'):format(layer:match "^(%w+) = (.*)$")
  end
  return ([[
    local cnn = require "cnn"
    local nn = cnn.nn
    %s
    local net = %s
    %s
    return { name = "mine", input = { 1, 6, 6 }, net = net, train = %s,
      data = { classes = 2, train = {}, test = {} }, %s }
  ]]):format(parts.before or "", parts.net or "nn.Sequential()", table.concat(lines, "\n"),
    parts.train or "{ batch = 8, lr = 0.5, epochs = 2 }", parts.more or "")
end

function named_layers.write(parts, name)
  return program.file(name or "mine.lua", named_layers.text(parts))
end

-- The net of a script, as the prompt has it, its recipe, and the file.
function named_layers.load(parts)
  local file = named_layers.write(parts)
  local recipe = require "cnn.recipe".load(file, {})
  require "cnn.recipe".measure(recipe)
  return recipe.net, recipe, file
end

return named_layers
