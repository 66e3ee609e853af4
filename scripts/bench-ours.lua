-- bench-ours.lua - cnnlua as one of those that scripts/bench lets take turns (bursts.py).
-- usage: cnnlua scripts/bench-ours.lua NET train|predict BATCH PRECISION THREADS
--
-- BATCH 0 is the recipe's. Surprising: it stays alive between its bursts, as the others do, so that
-- neither its start nor its first steps take the time of the others' turns.

local C = require "cnn.ffi".C
local cjson = require "cjson"
local recipe = require "cnn.recipe"
local steps = require "cnn.bench_steps"

local WARM_UP = 3

local name, what, batch, precision, threads = unpack(arg)

local function make_step()
  C.cnn_set_threads(tonumber(threads))
  local options = { device = "cpu", precision = precision }
  options.batch = tonumber(batch) > 0 and tonumber(batch) or nil
  local loaded = recipe.load(("models/%s.lua"):format(name), options)
  recipe.device(options)
  local x, y = require "cnn.made_up".batch(loaded.net, loaded.input, loaded.train.batch)
  local make = what == "train" and steps.training or steps.prediction
  return make(loaded, x, y), loaded.train.batch
end

local function burst(step, images, seconds)
  local count, took, started = 0, 0, C.cnn_seconds()
  while count == 0 or took < seconds do
    step()
    count, took = count + 1, C.cnn_seconds() - started
  end
  return { images_per_s = count * images / took, steps = count }
end

local step, images = make_step()
for _ = 1, WARM_UP do step() end

local answers = {
  ready = function() return {} end,
  go = function(seconds) return burst(step, images, tonumber(seconds)) end,
  memory = function() return { peak_mb = tonumber(C.cnn_peak_rss()) / 2 ^ 20 } end,
}

for line in io.lines() do
  local command, word = line:match "^(%S+) *(%S*)$"
  if command == "quit" then break end
  print(cjson.encode(answers[command](word)))
  io.flush()
end
