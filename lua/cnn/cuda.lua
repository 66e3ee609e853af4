-- cuda.lua - cnn.cuda: the card that "cuda" means, and its memory.
--
-- Surprising: the library for it is opened when it is first asked for, so a script that never names
-- the card costs nothing. A process uses one card.

local ffi = require "ffi"
local C = require "cnn.ffi".C
local argument = require "cnn.argument"
local handle = require "cnn.handle"

local cuda = {}

--- cnn.cuda.is_available()
-- Whether there is a CUDA device that can be used. `cnnlua doctor` says why not.
-- Example: device = cnn.cuda.is_available() and "cuda" or "cpu"
-- See: x:to, net:to, cnn.cuda.device_count
function cuda.is_available() return C.cnn_cuda_count() > 0 end

--- cnn.cuda.device_count()
-- How many CUDA devices can be used; "cuda:0" is the first.
-- Example: cnn.cuda.device_count() >= 0 --> true
-- See: cnn.cuda.is_available
function cuda.device_count() return C.cnn_cuda_count() end

--- cnn.cuda.memory()
-- The card's memory in bytes: in_use by tensors, peak (the most of it), held (taken from the card,
-- in use or kept for later), free and total (of the card, all programs together).
-- Errors: no CUDA device
-- Example: cnn.cuda.is_available() and cnn.cuda.memory().in_use or 0 --> 0
-- See: cnn.cuda.empty_cache, cnn.cuda.reset_peak
function cuda.memory()
  local names, values = { "in_use", "held", "peak", "free", "total" }, ffi.new "int64_t[5]"
  if C.cnn_cuda_memory(values, values + 1, values + 2, values + 3, values + 4) ~= 0 then
    handle.fail()
  end
  local memory = {}
  for i, name in ipairs(names) do memory[name] = tonumber(values[i - 1]) end
  return memory
end

--- cnn.cuda.reset_peak()
-- From now on cnn.cuda.memory().peak is the most since this call.
-- Example: cnn.cuda.reset_peak()
-- See: cnn.cuda.memory
function cuda.reset_peak() C.cnn_cuda_reset_peak() end

--- cnn.cuda.empty_cache()
-- Gives the card back what is held and not in use, for other programs.
-- Example: cnn.cuda.empty_cache()
-- See: cnn.cuda.memory
function cuda.empty_cache() C.cnn_cuda_empty_cache() end

--- cnn.cuda.synchronize()
-- Waits until everything that was asked of the card is done: for timing it.
-- Errors: what went wrong on the card meanwhile
-- Example: cnn.cuda.synchronize()
-- See: cnn.cuda.is_available
function cuda.synchronize()
  if C.cnn_cuda_wait() ~= 0 then handle.fail() end
end

--- cnn.cuda.precision(name)
-- cnn.precision, where there is a card: "auto" (tf32 in convolutions, as PyTorch has it), "fp32"
-- (IEEE), "tf32" (in convolutions and products), "bf16".
-- Errors: another name; no CUDA device
-- Example: if cnn.cuda.is_available() then cnn.cuda.precision "fp32" end
-- See: cnn.precision
function cuda.precision(name)
  argument.string("cnn.cuda.precision", "name", name)
  if C.cnn_cuda_set_precision(name) ~= 0 then handle.fail() end
end

return cuda
