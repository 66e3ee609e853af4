-- bench.lua - cnnlua bench: images a second of training and of prediction, with their spread; with
-- --layers every layer alone (layer_times.lua).
--
-- The steps are the trainer's own (bench_steps.lua), on one batch that stays in memory, so loading
-- is left out. Each figure is the median over the steps measured, with the slowest and the fastest.

local ffi = require "ffi"
local C = require "cnn.ffi".C
local cnn = require "cnn"
local recipe = require "cnn.recipe"
local steps = require "cnn.bench_steps"

local bench = {}

local SECONDS, WARM_UP, LEAST_STEPS = 5, 2, 3
local PEAK_SECONDS = 0.1

local function spread(rates)
  table.sort(rates)
  local n = #rates
  local median = n % 2 == 1 and rates[(n + 1) / 2] or (rates[n / 2] + rates[n / 2 + 1]) / 2
  return { images_per_s = median, min = rates[1], max = rates[n], steps = n }
end

local function measure(batch, seconds, step, batches)
  for _ = 1, WARM_UP do step() end
  local rates, started = {}, C.cnn_seconds()
  repeat
    local before = C.cnn_seconds()
    step()
    local now = C.cnn_seconds()
    rates[#rates + 1] = batches * batch / (now - before)
  until now - started >= seconds and #rates >= LEAST_STEPS
  return spread(rates)
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
    if result.peak then
      print(("peaks: %.1f GFLOP/s, copying %.1f GB/s"):format(result.peak.gflops, result.peak.gbs))
    end
    print(require "cnn.layer_table".text(result.layers, 1000 * result.batch / whole.images_per_s,
      result.train ~= nil))
  end
end

-- What the machine does at most, as layers are measured by it.
local function machine(precision)
  local peaks = require "cnn.peaks"
  return {
    flops = precision == "bf16" and peaks.flops(PEAK_SECONDS, true) or peaks.flops(PEAK_SECONDS),
    copy = peaks.copy(PEAK_SECONDS),
  }
end

local function layers(result, net, x, seconds, training)
  local peaks = result.device == "cpu" and machine(result.precision) or nil
  result.peak = peaks and { gflops = peaks.flops / 1e9, gbs = peaks.copy / 1e9 }
  result.layers = require "cnn.layer_times".measure(net, x, {
    seconds = seconds, training = training, peaks = peaks,
  })
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
    result.train = measure(batch, seconds, steps.training(loaded, x, y))
  end
  if options.only ~= "train" then
    result.predict = measure(batch, seconds, steps.prediction(loaded, x))
  end
  result.peak_mb = (on_card and cnn.cuda.memory().peak or tonumber(C.cnn_peak_rss())) / 2 ^ 20
  if options.layers then
    layers(result, net, x, seconds, options.only ~= "predict")
  end
  if options.json then
    print(require "cjson".encode(result))
  else
    print_all(result, input)
  end
end

return bench
