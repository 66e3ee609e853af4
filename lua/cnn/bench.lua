-- bench.lua - cnnlua bench: images a second of training and of prediction, with their spread.
--
-- The steps are the trainer's own (train.gradients, train.update), on one batch that stays in
-- memory, so loading is left out. Each figure is the median over the steps measured, with the
-- slowest and the fastest. Surprising: the learning rate is next to nothing here, because thousands
-- of steps on made-up pictures would drive the weights anywhere.

local ffi = require "ffi"
local C = require "cnn.ffi".C
local cnn = require "cnn"
local recipe = require "cnn.recipe"
local train = require "cnn.train"

local bench = {}

local SECONDS, WARM_UP, LEAST_STEPS = 5, 2, 3
local LEARNING_RATE = 1e-6

local function spread(rates)
  table.sort(rates)
  local n = #rates
  local median = n % 2 == 1 and rates[(n + 1) / 2] or (rates[n / 2] + rates[n / 2 + 1]) / 2
  return { images_per_s = median, min = rates[1], max = rates[n], steps = n }
end

local function measure(step, images, seconds)
  for _ = 1, WARM_UP do step() end
  local rates, started = {}, C.cnn_seconds()
  repeat
    local before = C.cnn_seconds()
    step()
    local now = C.cnn_seconds()
    rates[#rates + 1] = images / (now - before)
  until now - started >= seconds and #rates >= LEAST_STEPS
  return spread(rates)
end

-- 1, 2, ... 10, 1, 2, ...
local function labels(batch)
  local list = {}
  for i = 1, batch do list[i] = (i - 1) % 10 + 1 end
  return cnn.tensor(list)
end

local function give_back(...)
  for i = 1, select("#", ...) do C.cnn_release(ffi.gc((select(i, ...)), nil)) end
end

local function training_step(loaded, x, y)
  local criterion = cnn.nn.CrossEntropyLoss()
  loaded.train.lr = LEARNING_RATE
  local optimizer = require "cnn.optimizer".new(loaded.net, loaded.train).inner
  local steps = 0
  return function()
    steps = steps + 1
    C.cnn_rng_step(steps)
    local loss, right = train.gradients(loaded.net, criterion, optimizer, x, y)
    loss:item()
    train.update(optimizer)
    give_back(loss, right)
  end
end

local function prediction_step(loaded, x)
  return function()
    local label = cnn.step(function()
      return cnn.no_grad(function() return loaded.net(x):argmax(2) end)
    end)
    label[1]:item()
    give_back(label)
  end
end

local function print_rate(what, rate)
  if rate then
    print(("%-8s %10.1f images/s  (%.1f to %.1f, %d steps)"):format(what, rate.images_per_s,
      rate.min, rate.max, rate.steps))
  end
end

function bench.bench(options)
  local loaded = recipe.load(options.file, options)
  local device, precision = recipe.device(options)
  local batch, input = loaded.train.batch, loaded.input
  loaded.net:shapes({ 1, unpack(input) }, { quiet = true })
  loaded.net:to(device)
  C.cnn_reset_rss()
  local x = cnn.rand(batch, unpack(input)):channels_last():to(device)
  local y = labels(batch):to(device)
  local result = {
    name = loaded.name, device = device, batch = batch, precision = precision,
    threads = C.cnn_threads(), kernels = ffi.string(C.cnn_kernels()),
  }
  local seconds = options.seconds or SECONDS
  if options.only ~= "predict" then
    loaded.net:train()
    result.train = measure(training_step(loaded, x, y), batch, seconds)
  end
  if options.only ~= "train" then
    loaded.net:eval()
    loaded.net:zero_grad()
    result.predict = measure(prediction_step(loaded, x), batch, seconds)
  end
  result.peak_mb = tonumber(C.cnn_peak_rss()) / 2 ^ 20
  if options.json then
    print(require "cjson".encode(result))
    return
  end
  print(("%s, batch %d of %dx%dx%d on %s, %s, %s kernels, %d threads"):format(loaded.name, batch,
    input[1], input[2], input[3], device, precision, result.kernels, result.threads))
  print_rate("train", result.train)
  print_rate("predict", result.predict)
  print(("peak memory %.0f MB"):format(result.peak_mb))
end

return bench
