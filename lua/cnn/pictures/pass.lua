-- pass.lua - a net over the images of a data set, a batch at a time, in the order of the files.
--
--   pass.run(call, net, split, visit)        call: { who =, limit =, batch = }
--     visit(x, labels, first)                  x on the net's device; first: position of its first
--   pass.predict(call, net, split, visit)
--     visit(labels, predictions, probabilities, first)            lists of numbers
--   pass.input(who, net, x)                  x as the net takes it: a batch, on its device
--   pass.quietly(net, x, fn, ...)            in prediction mode, without gradients, untouched
--
-- Positions, labels and predictions count from 1. A probability is NaN where the net's output is
-- not finite; what stands as that prediction means nothing.
--
-- Surprising: the split's epoch does not go on, so that looking at training images between two
-- epochs does not change the order of the next one.

local argument = require "cnn.argument"
local autograd = require "cnn.autograd"
local data = require "cnn.data"
local err = require "cnn.error"
local handle = require "cnn.handle"
local look = require "cnn.probes.look"
local members = require "cnn.members"
local step = require "cnn.step"
local text = require "cnn.text"
local untouched = require "cnn.probes.untouched"

local pass = {}

-- What every pass takes, checked: the split, limit and batch. `known` are further options' names.
function pass.options(who, split, options, known)
  if not data.is_split(split) then
    local hint = type(split) == "table" and data.is_split(split.test) and " (its part .test?)" or ""
    err.raise(("%s: expected images such as data.test, got %s%s"):format(who, err.got(split), hint))
  end
  options = argument.options(who, options, { "limit", "batch", unpack(known or {}) })
  local count = split:count()
  local limit = argument.optional_whole(who, "limit", options.limit) or count
  local batch = argument.optional_whole(who, "batch", options.batch) or split.batch
  limit = math.min(limit, count)
  return options, { who = who, limit = limit, batch = math.min(batch, limit) }
end

-- One picture or vector becomes a batch of one; bytes are divided by 255, as data.lua does it.
function pass.input(who, net, x)
  local fits = handle.is_tensor(x) and x:dim() > 0 and x:numel() > 0 and x.device ~= "meta"
  if not fits then
    err.raise(("%s: x: expected a tensor N x C x H x W or C x H x W with values, got %s")
      :format(who, err.got(x)))
  end
  x = x.dtype == "u8" and x:to "f32" / 255 or x:detach():to "f32"
  if x:dim() == 3 or x:dim() == 1 then x = x:unsqueeze(1) end
  return x:to(members.device(net) or "cpu")
end

-- fn's results; the net is in prediction mode meanwhile, and afterwards as it was. Layers whose
-- input size was left open find it first, from x or its sizes; the weights that they draw stay.
function pass.quietly(net, x, fn, ...)
  look.build(net, x)
  return untouched(net, function(...)
    net:eval()
    return autograd.no_grad(fn, ...)
  end, ...)
end

local function each_batch(call, net, split, visit)
  local device = members.device(net) or "cpu"
  local iterate, state = split:batches {
    batch = call.batch, limit = call.limit, shuffle = false, epoch = 1,
  }
  local first = 1
  local x, y = iterate(state)
  while x do
    local labels, moved = y:totable(), x:to(device)
    visit(moved, labels, first)
    first = first + #labels
    handle.give_back(x, y)
    x, y = iterate(state)
  end
end

function pass.run(call, net, split, visit)
  local sizes = { 1, split.channels, split.height, split.width }
  pass.quietly(net, sizes, each_batch, call, net, split, visit)
end

-- ----------------------------------------------------------------------------------- predictions

-- Scores as they have to be: a tensor of `count` rows of at least `classes` numbers.
function pass.check_scores(who, out, count, classes)
  local fits = handle.is_tensor(out) and out:dim() == 2 and out:size(1) == count
    and out:size(2) >= classes
  if not fits then
    err.raise(("%s: expected %d or more scores an image from the net, got %s for %s")
      :format(who, classes, err.got(out), text.counted(count, "image")))
  end
end

local function read(probability, prediction)
  local probabilities, predictions = probability:view(-1):totable(), prediction:view(-1):totable()
  handle.give_back(probability, prediction)
  return predictions, probabilities
end

function pass.predict(call, net, split, visit)
  local function predict(x, labels, first)
    local probability, prediction, scores = step(function()
      local out = net(x)
      pass.check_scores(call.who, out, #labels, #split.classes)
      return out:softmax(2):max { 2 }, out:argmax(2), out:size(2)
    end)
    local predictions, probabilities = read(probability, prediction)
    visit(labels, predictions, probabilities, first, scores)
  end
  pass.run(call, net, split, predict)
end

-- --------------------------------------------------------------------------- the best, and names

-- Puts a row into a list of at most `count`, the one with the largest row[key] first; of equals the
-- one that came first.
function pass.keep(list, count, key, row)
  local value, at = row[key], math.min(#list, count - 1) + 1
  if #list == count and list[count][key] >= value then return end
  while at > 1 and list[at - 1][key] < value do
    list[at] = list[at - 1]
    at = at - 1
  end
  list[at] = row
end

-- "net[8] AvgPool2d(2)"
function pass.layer_title(net, layer)
  return text.paths("net", net)[layer] .. " " .. layer:describe()
end

-- A list of names, or nil.
function pass.check_classes(who, classes)
  if classes ~= nil and (type(classes) ~= "table" or #classes == 0) then
    err.raise(("%s: classes: expected a list of names such as data.classes, got %s"):format(who,
      err.got(classes)))
  end
  return classes
end

-- What a class is called; the net may have more of them than the data.
function pass.name(classes, k)
  local name = classes and classes[k]
  return name ~= nil and tostring(name) or tostring(k)
end

return pass
