-- made_up.lua - a small data set of random images and a linear net, as tensors and plain numbers.
--
--   local data, images, labels = made_up.data(channels, count, classes)
--                                images[n][i] of 0 to 1, in the order channel, row, column
--   local net, scores = made_up.linear(channels)      scores(images[n]) in plain Lua
--   made_up.small_net()          the same weights each time, for a picture of 1 x 8 x 8
--   made_up.judge(scores)        the most probable class, and its probability
--   made_up.all(split)           its images and labels as one batch
--   made_up.near(expected, got, tolerance)            an error when they are further apart

local cnn = require "cnn"
local engine = require "spec.support.engine"
local pixels = require "spec.support.pixels"

local nn = cnn.nn

local HEIGHT, WIDTH = 6, 5
local made_up = { HEIGHT = HEIGHT, WIDTH = WIDTH, names = { "circle", "square", "star" } }

local CLASSES = #made_up.names

function made_up.data(channels, count, classes)
  local random, list, labels, plain = engine.random(channels + 5), {}, {}, {}
  for n = 1, count do
    labels[n], plain[n] = math.floor(random() * CLASSES) + 1, {}
    for i = 1, channels * HEIGHT * WIDTH do
      local byte = math.floor(random() * 256)
      list[#list + 1], plain[n][i] = byte, byte / 255
    end
  end
  local images = cnn.tensor(list, { count, channels, HEIGHT, WIDTH }, { dtype = "u8" })
  local part = { images = images, labels = labels }
  local data = cnn.data.from {
    train = part, test = part, classes = classes or made_up.names, batch = 8,
  }
  return data, plain, labels
end

function made_up.small_net()
  cnn.manual_seed(11)
  return nn.Sequential(nn.Conv2d(1, 4, 3, { padding = 1 }), nn.BatchNorm2d(4), nn.ReLU(),
    nn.MaxPool2d(2, { stride = 2 }), nn.Flatten(), nn.Dropout(0.25), nn.Linear(4 * 4 * 4, 10))
end

function made_up.linear(channels)
  local inputs = channels * HEIGHT * WIDTH
  local net = nn.Sequential(nn.Flatten(), nn.Linear(inputs, CLASSES))
  local random, w = engine.random(77), {}
  for i = 1, CLASSES * inputs do w[i] = random() - 0.5 end
  pixels.set_weight(net[2], w)
  cnn.no_grad(net[2].bias.fill, net[2].bias, 0)
  local function scores(image)
    local y = {}
    for k = 1, CLASSES do
      y[k] = 0
      for i, v in ipairs(image) do y[k] = y[k] + w[(k - 1) * inputs + i] * v end
    end
    return y
  end
  return net, scores
end

function made_up.judge(scores)
  local best, sum = 1, 0
  for k, v in ipairs(scores) do if v > scores[best] then best = k end end
  for _, v in ipairs(scores) do sum = sum + math.exp(v - scores[best]) end
  return best, 1 / sum
end

function made_up.all(split)
  local iterate, state = split:batches { batch = split:count(), shuffle = false, epoch = 1 }
  return iterate(state)
end

function made_up.near(expected, got, tolerance)
  if not (math.abs(expected - got) <= tolerance) then
    error(("expected %.8g, got %.8g"):format(expected, got), 2)
  end
end

return made_up
