-- serve.lua - cnnlua as one of the two that bench.lua lets take turns; peers.py is the other.
-- usage: cnnlua scripts/gpu/serve.lua <commands
--
--   make ID NET MODE PRECISION WHAT BATCH    gets a net ready: WHAT is train or predict, MODE is
--                                            PyTorch's, BATCH 0 the recipe's
--   go ID SECONDS                            steps for at least that long
--   drop                                     forgets all nets
--   quit
--
-- Each is answered by a line of JSON: { "images_per_s", "steps" }, {}, or { "error" }. Surprising:
-- one process serves all nets, so that neither side's starting takes the time of the other's turns.

local C = require "cnn.ffi".C
local cnn = require "cnn"
local cjson = require "cjson"
local steps = require "scripts.gpu.steps"

local WARM_UP, AT_ONCE = 5, 4 -- steps before; steps between two looks at the clock

local jobs = {}

local function make(id, net, _, precision, what, batch)
  cnn.cuda.precision(precision)
  local make_step = what == "train" and steps.training or steps.prediction
  local step, images = make_step(net, tonumber(batch) > 0 and tonumber(batch) or nil)
  for _ = 1, WARM_UP do step() end
  cnn.cuda.synchronize()
  jobs[id] = { step = step, images = images }
  return "{}"
end

local function go(id, seconds)
  local job, done, started = jobs[id], 0, C.cnn_seconds()
  local took
  repeat
    for _ = 1, AT_ONCE do job.step() end
    cnn.cuda.synchronize()
    done, took = done + AT_ONCE, C.cnn_seconds() - started
  until took >= tonumber(seconds)
  return cjson.encode { images_per_s = done * job.images / took, steps = done }
end

local function drop()
  jobs = {}
  collectgarbage()
  collectgarbage()
  cnn.cuda.empty_cache()
  return "{}"
end

local commands = { make = make, go = go, drop = drop }

for line in io.lines() do
  if line == "quit" then break end
  local words = {}
  for word in line:gmatch "%S+" do words[#words + 1] = word end
  local ok, answer = pcall(commands[words[1]], unpack(words, 2))
  print(ok and answer or cjson.encode { error = require "cnn.fail".line(answer) })
  io.flush()
end
