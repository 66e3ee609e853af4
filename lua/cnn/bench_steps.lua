-- bench_steps.lua - one step of training or of prediction to be repeated, for cnnlua bench and
-- scripts/bench.
--
-- steps.training(loaded, x, y) and steps.prediction(loaded, x) return a function that takes one
-- step on a batch that stays in memory, and of how many batches it is: `loaded` is a recipe, whose
-- net lies on x's device. The steps are the trainer's own (train.gradients, train.update).
--
-- Surprising: the learning rate is next to nothing here, because thousands of steps on made-up
-- pictures would drive the weights anywhere. On a card a step is asked for and not waited for, so
-- there one is several.

local C = require "cnn.ffi".C
local cnn = require "cnn"
local handle = require "cnn.handle"
local train = require "cnn.train"

local LEARNING_RATE = 1e-6
local AT_ONCE = 10

local steps = {}

local function optimizer_of(loaded)
  loaded.train.lr = LEARNING_RATE
  return require "cnn.optimizer".new(loaded.net, loaded.train).inner
end

local function training_on_cpu(loaded, x, y)
  local criterion, optimizer, at = cnn.nn.CrossEntropyLoss(), optimizer_of(loaded), 0
  return function()
    at = at + 1
    C.cnn_rng_step(at)
    local loss, right = train.gradients(loaded.net, criterion, optimizer, x, y)
    loss:item()
    train.update(optimizer)
    handle.give_back(loss, right)
  end
end

local function training_on_card(loaded, x, y)
  local at, job = 0, {
    net = loaded.net, criterion = cnn.nn.CrossEntropyLoss(),
    tally = require "cnn.tally".new(x.device), optimizer = optimizer_of(loaded),
  }
  return function()
    at = at + 1
    C.cnn_rng_step(at)
    require "cnn.card_run".step(job, x, y)
  end
end

local function predicted(loaded, x)
  return (cnn.step(function()
    return cnn.no_grad(function() return loaded.net(x):argmax(2) end)
  end))
end

local function at_once(step)
  return function()
    for _ = 1, AT_ONCE do step() end
    cnn.cuda.synchronize()
  end, AT_ONCE
end

function steps.training(loaded, x, y)
  loaded.net:train()
  if x.device == "cpu" then return training_on_cpu(loaded, x, y), 1 end
  return at_once(training_on_card(loaded, x, y))
end

function steps.prediction(loaded, x)
  loaded.net:eval()
  loaded.net:zero_grad()
  if x.device ~= "cpu" then
    return at_once(function() handle.give_back(predicted(loaded, x)) end)
  end
  return function()
    local label = predicted(loaded, x)
    label[1]:item()
    handle.give_back(label)
  end, 1
end

return steps
