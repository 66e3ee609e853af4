-- statistics.lua - mean, spread and the like of one tensor, of any layout, dtype and device.
--
--   statistics.of(x)     count, mean, std, rms, min, max: of the finite values, nil without any;
--                        zeros, non_finite: shares of all values; and, where they mean something,
--                        saturated (outputs of sigmoid and tanh), dead and channels (of relu)
--   statistics.norm(x)   sqrt(sum x^2); NaN where a value is not finite
--   statistics.gradient(x)   x.grad; nil too where a step that was stopped was to compute it
--
-- std is that of the values themselves (divided by their number). Saturated is within 0.001 of one
-- of the function's bounds; a dead channel is zero in every picture and pixel. A tensor without
-- values, on the device meta, has no statistics: nil.
--
-- Surprising: what a tensor may be said to be is read off the op that made it (cnn_origin), so a
-- block that ends in x:relu() counts as much as nn.ReLU.

local ffi = require "ffi"
local bit = require "bit"
local C = require "cnn.ffi".C
local autograd = require "cnn.autograd"
local handle = require "cnn.handle"

local band, rshift, huge = bit.band, bit.rshift, math.huge
local float_pointer, int_pointer = ffi.typeof "float *", ffi.typeof "int32_t *"

local statistics = {}

local NEAR = 1e-3
local bounds = { sigmoid = { 0, 1 }, tanh = { -1, 1 } }

local MAGNITUDE, INFINITE = 0x7fffffff, 0x7f800000 -- of a float's bits: all but the sign; infinity

-- One pass over n floats. Sums are of v - shift, which keeps the digits of a small spread around a
-- large mean. What is zero or not finite is read off the bits: a loop without branches that depend
-- on the values is ten times as fast on the output of a relu.
local function scan(data, n, shift)
  local bits = ffi.cast(int_pointer, data)
  local sum, squares, nonzero, bad, low, high = 0, 0, 0, 0, huge, -huge
  for i = 0, n - 1 do
    local magnitude = band(bits[i], MAGNITUDE)
    if magnitude >= INFINITE then
      bad = bad + 1
    else
      local v = data[i]
      local d = v - shift
      sum, squares = sum + d, squares + d * d
      low, high = math.min(low, v), math.max(high, v)
      nonzero = nonzero + rshift(magnitude + MAGNITUDE, 31)
    end
  end
  return sum, squares, nonzero, bad, low, high
end

local function count_near(data, n, lo, hi)
  local count = 0
  lo, hi = lo + NEAR, hi - NEAR
  for i = 0, n - 1 do
    local v = data[i]
    if v <= lo or v >= hi then count = count + 1 end
  end
  return count
end

-- Of the channels, which lie beside each other, those without a value other than zero.
local function count_dead(data, n, channels)
  local dead = channels
  for c = 0, channels - 1 do
    for i = c, n - 1, channels do
      if data[i] ~= 0 then
        dead = dead - 1
        break
      end
    end
  end
  return dead
end

-- fn(data, n, channels) with the values of x as floats, the channels (axis 2) innermost: for an
-- activation that is how it lies in memory already.
local function with_floats(x, fn)
  local made = {}
  local function make(y)
    made[#made + 1] = y
    return y
  end
  local dim, y = x:dim(), make(make(make(x:detach()):to("cpu")):to("f32"))
  if dim > 2 then
    local axes = { 1 }
    for axis = 3, dim do axes[#axes + 1] = axis end
    axes[#axes + 1] = 2
    y = make(y:permute(axes))
  end
  y = make(y:contiguous())
  local result = fn(ffi.cast(float_pointer, handle.data(y)), x:numel(),
    dim >= 2 and x:size(2) or nil)
  handle.give_back(unpack(made))
  return result
end

local function of_values(data, n, origin, channels)
  local first = data[0]
  local shift = first - first == 0 and first or 0
  local sum, squares, nonzero, bad, low, high = scan(data, n, shift)
  local s, finite = { count = n, non_finite = bad / n }, n - bad
  s.zeros = (finite - nonzero) / n
  if finite > 0 then
    local mean = sum / finite
    s.mean, s.min, s.max = mean + shift, low, high
    s.std = math.sqrt(math.max(0, squares / finite - mean * mean))
    s.rms = math.sqrt(s.std ^ 2 + s.mean ^ 2)
  end
  local range = bounds[origin]
  if range then s.saturated = count_near(data, n, range[1], range[2]) / n end
  if origin == "relu" and channels then
    s.channels, s.dead = channels, count_dead(data, n, channels) / channels
  end
  return s
end

function statistics.of(x)
  if x.device == "meta" then return nil end
  local origin = ffi.string(C.cnn_origin(x))
  return autograd.no_grad(with_floats, x, function(data, n, channels)
    if n == 0 then return { count = 0 } end
    return of_values(data, n, origin, channels)
  end)
end

local function read_gradient(x)
  local gradient = x.grad
  return gradient and gradient:detach() and gradient
end

function statistics.gradient(x)
  local ok, gradient = pcall(read_gradient, x)
  return ok and gradient or nil
end

function statistics.norm(x)
  return autograd.no_grad(with_floats, x, function(data, n)
    local _, squares, _, bad = scan(data, n, 0)
    return bad > 0 and 0 / 0 or math.sqrt(squares)
  end)
end

return statistics
