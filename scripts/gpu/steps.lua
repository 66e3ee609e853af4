-- steps.lua - a net of the chapter on the card, and one step of it to repeat.
--
-- steps.training(net, batch) and steps.prediction(net, batch) return a function that asks for one
-- step on a batch that stays on the card, the images of the batch (the recipe's unless given), and
-- what a training step leaves to be read. Surprising: the rate of learning is next to nothing,
-- since thousands of steps on made-up pictures would drive the weights anywhere.

local C = require "cnn.ffi".C
local cnn = require "cnn"
local handle = require "cnn.handle"

local LEARNING_RATE = 1e-6

local steps = {}

local function load_net(name, batch)
  local loaded = require "cnn.recipe".load(("models/%s.lua"):format(name), {})
  batch = batch or loaded.train.batch
  local x, y = require "cnn.made_up".batch(loaded.net, loaded.input, batch)
  loaded.net:to "cuda"
  loaded.train.lr = LEARNING_RATE
  return loaded, x:to "cuda", y:to "cuda", batch
end

function steps.training(name, batch)
  local loaded, x, y, count = load_net(name, batch)
  loaded.net:train()
  local at, job = 0, {
    net = loaded.net, criterion = cnn.nn.CrossEntropyLoss(), tally = require "cnn.tally".new "cuda",
    optimizer = require "cnn.optimizer".new(loaded.net, loaded.train).inner,
  }
  return function()
    at = at + 1
    C.cnn_rng_step(at)
    require "cnn.card_run".step(job, x, y)
  end, count, job.tally
end

function steps.prediction(name, batch)
  local loaded, x, _, count = load_net(name, batch)
  loaded.net:eval()
  return function()
    handle.give_back((cnn.step(function()
      return cnn.no_grad(function() return loaded.net(x):argmax(2) end)
    end)))
  end, count
end

return steps
