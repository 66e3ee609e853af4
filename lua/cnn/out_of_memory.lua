-- out_of_memory.lua - what to do about a step that does not fit a card: which layers hold most, and
-- the largest batch that fits.
--
--   out_of_memory.advice(run)    one line for a run that ended so, or nil
--
-- Two steps of small batches, without an update, say how memory grows with the batch; what the
-- card has for this program says where that ends. Surprising: this is measured after the run's
-- weights were saved, because the small steps change the running averages of batch norm.

local C = require "cnn.ffi".C
local cnn = require "cnn"
local handle = require "cnn.handle"

local out_of_memory = {}

local SMALL, SMALLER, LARGEST = 4, 2, 3

-- The layers without layers inside, those with the largest outputs first.
local function largest(net, input, batch)
  local rows = net:shapes({ batch, unpack(input) }, { quiet = true })
  local leaves = {}
  for i, row in ipairs(rows) do
    local inner = rows[i + 1]
    if not inner or inner.depth <= row.depth then leaves[#leaves + 1] = row end
  end
  table.sort(leaves, function(a, b) return a.bytes > b.bytes end)
  local words = {}
  for i = 1, math.min(LARGEST, #leaves) do
    words[i] = ("%s %s %.0f MB"):format(leaves[i].path, leaves[i].layer, leaves[i].bytes / 1e6)
  end
  return table.concat(words, ", ")
end

-- The most that a step of this batch holds.
local function peak_of(run, batch)
  local x = cnn.rand({ batch, unpack(run.recipe.input) }, { device = run.device })
  local y = cnn.ones({ batch }, { device = run.device })
  run.net:zero_grad()
  collectgarbage()
  cnn.cuda.reset_peak()
  handle.give_back((cnn.step(function()
    local loss = run.criterion(run.net(x), y)
    loss:backward()
    return loss
  end)))
  cnn.cuda.synchronize()
  return cnn.cuda.memory().peak
end

local function largest_batch(run)
  local lower, upper = peak_of(run, SMALLER), peak_of(run, SMALL)
  local each = (upper - lower) / (SMALL - SMALLER)
  run.net:zero_grad()
  cnn.cuda.empty_cache()
  local memory = cnn.cuda.memory()
  local room = memory.free + memory.held
  return math.max(0, math.floor((room - lower) / each + SMALLER))
end

function out_of_memory.advice(run)
  C.cnn_cuda_empty_cache()
  local ok, layers = pcall(largest, run.net, run.recipe.input, run.train.batch)
  if not ok then return nil end
  local measured, batch = pcall(largest_batch, run)
  local fits = measured and batch < run.train.batch
    and (batch > 0 and ("; --batch %d is about the largest that fits"):format(batch)
      or "; not even one image fits") or ""
  return ("the layers that hold most: %s%s"):format(layers, fits)
end

return out_of_memory
