-- The methods of convolution (kernels/conv_choice.h), each forced wherever it can: the same values
-- as the plain loops, forward and both gradients, on shapes that no tile fits; and which one is
-- taken for the layers of the nets.

local ffi = require "ffi"
local cnn = require "cnn"
local compare = require "spec.support.compare"
local engine = require "spec.support.engine"

local C = engine.C

-- x, o, kernel, padding
local CASES = {
  { { 2, 3, 9, 7 }, 5, 3, 1 },
  { { 3, 17, 6, 6 }, 33, 3, 1 },
  { { 9, 33, 3, 3 }, 16, 3, 1 },
  { { 1, 16, 13, 4 }, 40, 3, 2 },
  { { 2, 5, 5, 11 }, 7, 3, 0 },
  { { 2, 18, 14, 15 }, 34, 5, 2 },
  { { 1, 4, 5, 5 }, 3, 5, 4 },
  { { 4, 70, 2, 3 }, 20, 5, 2 },
}

-- What a direction may be made by, and how far its sums may be from those of the plain loops,
-- relative to the rms of the result.
local METHODS = {
  { "direct", 2e-5 },
  { "winograd", 4e-5 },
  { "winograd F(2x2, 3x3)", 2e-5 }, { "winograd F(3x3, 2x2)", 2e-5 },
  { "winograd F(3x3, 3x3)", 4e-5 },
  { "winograd F(4x4, 3x3)", 4e-5 }, { "winograd F(3x3, 4x4)", 4e-5 },
  { "winograd F(2x2, 5x5)", 4e-5 }, { "winograd F(5x5, 2x2)", 4e-5 },
}

local function results(case)
  cnn.manual_seed(5)
  local shape, o, kernel, padding = unpack(case)
  local x = cnn.randn(shape):channels_last()
  local w = cnn.randn { o, shape[2], kernel, kernel }
  local b = cnn.randn { o }
  x.requires_grad, w.requires_grad = true, true
  engine.poison(2 ^ 18)
  local y = x:conv2d(w, b, 1, 1, padding, padding, 1, 1, 1)
  y:backward(cnn.randn(y:shape()))
  return { y, x.grad, w.grad }
end

local NAMES = { "y", "dx", "dw" }

local function check(case, variant, method, tolerance)
  local expected = engine.with("generic", results, case)
  engine.use(variant)
  C.cnn_force_conv(method)
  local got = results(case)
  for i = 1, 3 do
    local values, n = engine.values(got[i])
    local why = compare.close(values, (engine.values(expected[i])), n, tolerance, 1)
    if why then error(("%s: %s"):format(NAMES[i], why), 0) end
  end
end

describe("a method of convolution", function()
  after_each(function()
    C.cnn_force_conv(nil)
    engine.use(nil)
  end)

  for _, variant in ipairs(engine.cpu_variants) do
    if variant:find "avx" then
      for _, method in ipairs(METHODS) do
        it(("has the values of the plain loops: %s, %s"):format(method[1], variant), function()
          for i, case in ipairs(CASES) do
            local ok, why = pcall(check, case, variant, unpack(method))
            C.cnn_force_conv(nil)
            if not ok then error(("case %d: %s"):format(i, why), 0) end
          end
        end)
      end
    end
  end

  local function method_of(n, size, c, o, kernel, stride, padding, direction)
    local out = math.floor((size + 2 * padding - kernel) / stride) + 1
    local conv = ffi.new("int64_t[18]", n, size, size, c, c, out, out, o, o, kernel, kernel, stride,
      stride, padding, padding, 1, 1, 1)
    return ffi.string(C.cnn_conv_method(conv, direction))
  end

  it("is chosen by the shape", function()
    if not engine.cpu_variants[3] then pending "needs a CPU with AVX2" end
    assert.equal("winograd F(4x4, 3x3)", method_of(128, 56, 64, 64, 3, 1, 1, 0))
    assert.equal("winograd F(3x3, 3x3)", method_of(256, 6, 256, 256, 3, 1, 1, 1))
    assert.equal("winograd F(5x5, 2x2)", method_of(128, 26, 96, 256, 5, 1, 2, 2))
    assert.equal("direct", method_of(256, 24, 64, 128, 3, 2, 1, 0))
    assert.equal("direct", method_of(256, 24, 64, 128, 1, 1, 0, 0))
  end)

  it("is forced only where it can be", function()
    if not engine.cpu_variants[3] then pending "needs a CPU with AVX2" end
    C.cnn_force_conv "winograd"
    assert.matches("^winograd", method_of(1, 8, 3, 5, 3, 1, 1, 0))
    assert.equal("direct", method_of(1, 8, 3, 5, 3, 2, 1, 0))
    C.cnn_force_conv "direct"
    assert.equal("direct", method_of(256, 24, 64, 64, 3, 1, 1, 0))
  end)
end)
