-- peak.lua - cnnlua doctor --peak: the most multiply-adds and bytes a second that the machine does.
--
-- What a layer's GFLOP/s and GB/s are to be measured by (bench --layers does so). Surprising: a
-- second thread may add less than the first did, where cores share their units or slow down under
-- load; so both are measured.

local ffi = require "ffi"
local C = require "cnn.ffi".C
local peaks = require "cnn.peaks"

local SECONDS = 0.25

-- With one thread and with all there are; the number of threads is left as it was.
local function both(threads, measure)
  C.cnn_set_threads(1)
  local one = measure()
  C.cnn_set_threads(threads)
  return one, threads > 1 and measure() or nil
end

local function say(what, unit, threads, one, all)
  if not one then return print(("%-14s no instructions for it"):format(what)) end
  print(("%-14s %8.1f %s on one thread%s"):format(what, one / 1e9, unit,
    all and (", %.1f on %d"):format(all / 1e9, threads) or ""))
end

return function()
  local threads = C.cnn_threads()
  print(("%s, %s kernels"):format(ffi.string(C.cnn_cpu()), ffi.string(C.cnn_kernels())))
  local function flops(bf16)
    return both(threads, function() return peaks.flops(SECONDS, bf16) end)
  end
  say("fp32", "GFLOP/s", threads, flops(false))
  say("bf16", "GFLOP/s", threads, flops(true))
  say("copy", "GB/s", threads, both(threads, function() return peaks.copy(SECONDS) end))
  say("read", "GB/s", threads, both(threads, function() return peaks.read(SECONDS) end))
  return 0
end
