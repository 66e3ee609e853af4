-- peaks.lua - what the machine can do at most: multiply-adds and bytes a second.
--
-- peaks.flops(seconds, bf16) is in operations a second on all threads, nil where the CPU has no
-- such instructions; peaks.copy(seconds) and peaks.read(seconds) in bytes a second, a copy being
-- read and written. Each is the median of bursts; the kernels are those in force. Surprising: the
-- arrays are four times as long as what any cache is likely to hold, or the figure would be the
-- cache's; so even one burst takes some milliseconds.

local C = require "cnn.ffi".C
local cnn = require "cnn"
local handle = require "cnn.handle"

local FLOATS = 32 * 2 ^ 20
local LEAST_BURSTS = 5

local peaks = {}

-- The median of what burst() answers, over that time.
local function median(seconds, burst)
  burst()
  local list, started = {}, C.cnn_seconds()
  repeat
    list[#list + 1] = burst()
  until C.cnn_seconds() - started >= seconds and #list >= LEAST_BURSTS
  table.sort(list)
  return list[math.ceil(#list / 2)]
end

function peaks.flops(seconds, bf16)
  local kind = bf16 and 1 or 0
  if C.cnn_cpu_flops(kind) == 0 then return nil end
  return median(seconds, function() return C.cnn_cpu_flops(kind) end)
end

local function bytes_a_second(seconds, bytes, work)
  return median(seconds, function()
    local before = C.cnn_seconds()
    work()
    return bytes / (C.cnn_seconds() - before)
  end)
end

function peaks.copy(seconds)
  local from, to = cnn.zeros(FLOATS), cnn.zeros(FLOATS)
  local rate = bytes_a_second(seconds, 8 * FLOATS, function() to:copy(from) end)
  handle.give_back(from, to)
  return rate
end

function peaks.read(seconds)
  local x = cnn.zeros(FLOATS)
  local rate = bytes_a_second(seconds, 4 * FLOATS, function() handle.give_back(x:sum()) end)
  handle.give_back(x)
  return rate
end

return peaks
