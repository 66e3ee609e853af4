-- predict.lua - cnnlua predict: the most probable label of each picture, and how probable.
--
-- Pictures of any size and colour are brought to the net's input. Surprising: nothing is inverted.
-- Fashion-MNIST shows light things on black, and a photograph on white paper looks to the net like
-- nothing it has seen.

local cnn = require "cnn"
local commands = require "cnn.commands"
local finite = require "cnn.finite"

local predict = {}

local function label_of(net, classes, x)
  return cnn.no_grad(function()
    local probability = net(x):softmax(2)
    local label = probability:argmax(2):item()
    return classes[label] or tostring(label), probability[1][label]:item()
  end)
end

function predict.predict(options)
  local loaded = commands.load_trained(options)
  local classes = require "cnn.data".classes_of(loaded.data)
  local pictures = {}
  for i, file in ipairs(options.pictures) do
    local picture = cnn.image.read(file, { channels = loaded.input[1] })
    pictures[i] = cnn.image.fit(picture, loaded.input):to(loaded.device)
  end
  local list = {}
  for i, file in ipairs(options.pictures) do
    local label, probability = label_of(loaded.net, classes, pictures[i])
    if probability ~= probability then finite.refuse(loaded.net, file) end
    list[i] = { picture = file, label = label, probability = probability }
    if not options.json then print(("%s: %s %.3f"):format(file, label, probability)) end
  end
  if options.json then print(require "cjson".encode(list)) end
end

return predict
