-- What a recorded step joins to a convolution on the CPU: batch norm by known statistics, a sum
-- with another matrix of pixels, ReLU. The same values as op by op, for each variant that can.
--
-- Surprising: joined, batch norm is a gain and a bias of each channel, so the last bits differ.

local cnn = require "cnn"
local compare = require "spec.support.compare"
local engine = require "spec.support.engine"
local nn = cnn.nn

-- Layers of a convolution with odd channels, strides, groups, a picture smaller than a tile.
local CASES = {
  { 3, 5, 3, { padding = 1 }, { 2, 3, 9, 7 } },
  { 16, 33, 1, {}, { 3, 16, 6, 5 } },
  { 7, 40, 3, { stride = 2, padding = 1, bias = false }, { 1, 7, 12, 11 } },
  { 8, 12, 3, { padding = 2, groups = 4 }, { 2, 8, 5, 5 } },
  { 20, 18, 3, { padding = 1 }, { 9, 20, 3, 3 } },
  { 1, 6, 5, { padding = 2 }, { 2, 1, 28, 28 } },
  { 18, 34, 5, { padding = 2 }, { 2, 18, 14, 15 } },
}

local function normed(channels)
  local bn = nn.BatchNorm2d(channels)
  cnn.no_grad(function()
    bn.running_mean:copy(cnn.randn { channels })
    bn.running_var:copy(cnn.rand { channels } + 0.5)
    bn.weight:copy(cnn.randn { channels })
    bn.bias:copy(cnn.randn { channels })
  end)
  return bn:eval()
end

local ENDINGS = {
  relu = function(y) return y:relu() end,
  norm = function(y, bn) return bn(y) end,
  sum = function(y, _, other) return y + other end,
  ["sum, other first"] = function(y, _, other) return other + y end,
  ["norm, relu"] = function(y, bn) return bn(y):relu() end,
  ["norm, sum, relu"] = function(y, bn, other) return (bn(y) + other):relu() end,
  ["norm, sum with a part of a wider matrix, relu"] = function(y, bn, other)
    local wide = cnn.cat({ other, other }, 2)
    return (wide:narrow(2, 1, other:size(2)) + bn(y)):relu()
  end,
}

local function values(case, ending, recorded)
  cnn.manual_seed(3)
  local c, o, kernel, options, shape = unpack(case)
  local conv, bn = nn.Conv2d(c, o, kernel, options), normed(o)
  local x = cnn.randn(shape):channels_last()
  local other = cnn.randn(conv(x):shape()):channels_last()
  engine.poison(2 ^ 16)
  local function forward()
    return cnn.no_grad(function() return ending(conv(x), bn, other) end)
  end
  return recorded and cnn.step(forward) or forward()
end

-- nil, or how they differ: by more than the joined sums are rounded.
local function difference(got, expected)
  local a, n = engine.values(got)
  return compare.close(a, (engine.values(expected)), n, 2e-6, 4)
end

describe("what is joined to a convolution", function()
  for _, variant in ipairs(engine.cpu_variants) do
    for name, ending in pairs(ENDINGS) do
      it(("has the values of op by op: %s, %s"):format(name, variant), function()
        engine.with(variant, function()
          for i, case in ipairs(CASES) do
            local why = difference(values(case, ending, true), values(case, ending, false))
            if why then error(("case %d: %s"):format(i, why), 0) end
          end
        end)
      end)
    end
  end

  it("does not pass a running variance that is written just before", function()
    local bn, conv = normed(4), nn.Conv2d(3, 4, 3)
    local x, var = cnn.randn { 2, 3, 6, 6 }, cnn.rand { 4 } + 1
    local function forward()
      return cnn.no_grad(function()
        local y = conv(x)
        bn.running_var:copy(var)
        return bn(y)
      end)
    end
    local got = cnn.step(forward)
    assert.is_nil(difference(got, forward()))
  end)
end)
