-- bins.lua - how the values of a tensor are spread: counts of equal parts of their range.
--
-- bins.of(x, n) gives what statistics.of gives (count, mean, std, min, max; zeros and non_finite as
-- shares), and lo, hi, width and counts: how many of the finite values lie in each of n parts from
-- lo to hi. Part k begins at lo + (k - 1) * width; where it ends, the next begins, but the last has
-- its end. Surprising: where all values are the same, the range is 1 wide around them.

local ffi = require "ffi"
local autograd = require "cnn.autograd"
local handle = require "cnn.handle"
local statistics = require "cnn.probes.statistics"

local bins = {}

local function count(data, size, lo, width, n, counts)
  for i = 0, size - 1 do
    local v = data[i]
    if v - v == 0 then
      local k = math.min(math.floor((v - lo) / width), n - 1)
      counts[k] = counts[k] + 1
    end
  end
end

-- The order of the values does not matter, but they have to lie in one piece.
local function counts_of(x, lo, width, n)
  local values = x:detach():to("cpu"):to("f32"):contiguous()
  local counts, list = ffi.new("double[?]", n), {}
  count(ffi.cast("float *", handle.data(values)), values:numel(), lo, width, n, counts)
  for k = 1, n do list[k] = counts[k - 1] end
  return list
end

-- nil of a tensor without values.
function bins.of(x, n)
  local row = statistics.of(x)
  if not row or row.count == 0 then return nil end
  row.lo, row.hi = row.min or 0, row.max or 0
  if row.lo == row.hi then row.lo, row.hi = row.lo - 0.5, row.hi + 0.5 end
  row.width = (row.hi - row.lo) / n
  row.counts = autograd.no_grad(counts_of, x, row.lo, row.width, n)
  return row
end

return bins
