-- device_line.lua - the line of a header that says what computes: device, kernels, precision.
--
--   device_line.of(run)      run: device, precision
--   device_line.card()       the card's facts by name, as cnn_cuda_describe gives them; nil where
--                            there is no library for it
--
-- Surprising: tf32 is said even where nobody asked for it, since it is what a card's convolutions
-- compute unless --precision fp32 is given.

local ffi = require "ffi"
local C = require "cnn.ffi".C

local device_line = {}

function device_line.card()
  local lines, facts = C.cnn_cuda_describe(), {}
  if lines == nil then return nil end
  for key, value in ffi.string(lines):gmatch "(%S+) ([^\n]*)\n" do
    facts[key] = value
  end
  return facts
end

function device_line.of(run)
  if run.device == "cpu" then
    return ("device cpu (%s), %s kernels, %d threads, %s"):format(ffi.string(C.cnn_cpu()),
      ffi.string(C.cnn_kernels()), C.cnn_threads(), run.precision)
  end
  local card = device_line.card()
  return ("device %s (%s, %.0f GB), %s kernels, %s"):format(run.device, card.name,
    tonumber(card.memory) / 1e9, card.kernels, run.precision)
end

return device_line
