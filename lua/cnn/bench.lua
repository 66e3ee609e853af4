-- bench.lua - cnnlua bench: images a second of training and of prediction, with their spread; with
-- --layers every layer alone (layer_times.lua).
--
-- The steps are the trainer's own (train.gradients, train.update), on one batch that stays in
-- memory, so loading is left out. Each figure is the median over the steps measured, with the
-- slowest and the fastest. Surprising: the learning rate is next to nothing here, because thousands
-- of steps on made-up pictures would drive the weights anywhere.

local ffi = require "ffi"
local C = require "cnn.ffi".C
local cnn = require "cnn"
local handle = require "cnn.handle"
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
    handle.give_back(loss, right)
  end
end

-- On a card a step is asked for and not waited for: a few at a time are measured.
local STEPS_AT_ONCE = 10

local function at_once(step)
  return function()
    for _ = 1, STEPS_AT_ONCE do step() end
    cnn.cuda.synchronize()
  end
end

local function training_on_card(loaded, x, y)
  loaded.train.lr = LEARNING_RATE
  local steps, job = 0, {
    net = loaded.net, criterion = cnn.nn.CrossEntropyLoss(),
    tally = require "cnn.tally".new(x.device),
    optimizer = require "cnn.optimizer".new(loaded.net, loaded.train).inner,
  }
  return at_once(function()
    steps = steps + 1
    C.cnn_rng_step(steps)
    require "cnn.card_run".step(job, x, y)
  end)
end

local function predicted(loaded, x)
  return (cnn.step(function()
    return cnn.no_grad(function() return loaded.net(x):argmax(2) end)
  end))
end

local function prediction_on_card(loaded, x)
  return at_once(function() handle.give_back(predicted(loaded, x)) end)
end

local function prediction_step(loaded, x)
  return function()
    local label = predicted(loaded, x)
    label[1]:item()
    handle.give_back(label)
  end
end

local function print_rate(what, rate)
  if rate then
    print(("%-8s %10.1f images/s  (%.1f to %.1f, %d steps)"):format(what, rate.images_per_s,
      rate.min, rate.max, rate.steps))
  end
end

local function print_all(result, input)
  local threads = result.device == "cpu" and (", %d threads"):format(result.threads) or ""
  print(("%s, batch %d of %dx%dx%d on %s, %s, %s kernels%s"):format(result.name, result.batch,
    input[1], input[2], input[3], result.device, result.precision, result.kernels, threads))
  print_rate("train", result.train)
  print_rate("predict", result.predict)
  print(("peak memory %.0f MB"):format(result.peak_mb))
  if result.layers then
    local whole = result.train or result.predict
    print(require "cnn.layer_times".text(result.layers, 1000 * result.batch / whole.images_per_s,
      result.train ~= nil))
  end
end

function bench.bench(options)
  local loaded = recipe.load(options.file, options)
  local device, precision = recipe.device(options)
  local on_card = device ~= "cpu"
  local net, batch, input = loaded.net, loaded.train.batch, loaded.input
  local x, y = require "cnn.made_up".batch(net, input, batch)
  net:to(device)
  C.cnn_reset_rss()
  cnn.cuda.reset_peak()
  x, y = x:to(device), y:to(device)
  local result = {
    name = loaded.name, device = device, batch = batch, precision = precision,
    threads = C.cnn_threads(),
    kernels = on_card and require "cnn.device_line".card().kernels or ffi.string(C.cnn_kernels()),
  }
  local seconds = options.seconds or SECONDS
  if options.only ~= "predict" then
    net:train()
    local step = (on_card and training_on_card or training_step)(loaded, x, y)
    result.train = measure(step, batch * (on_card and STEPS_AT_ONCE or 1), seconds)
  end
  if options.only ~= "train" then
    net:eval()
    net:zero_grad()
    local step = (on_card and prediction_on_card or prediction_step)(loaded, x)
    result.predict = measure(step, batch * (on_card and STEPS_AT_ONCE or 1), seconds)
  end
  result.peak_mb = (on_card and cnn.cuda.memory().peak or tonumber(C.cnn_peak_rss())) / 2 ^ 20
  if options.layers then
    result.layers = require "cnn.layer_times".measure(net, x, {
      seconds = seconds, training = options.only ~= "predict",
    })
  end
  if options.json then
    print(require "cjson".encode(result))
  else
    print_all(result, input)
  end
end

return bench
