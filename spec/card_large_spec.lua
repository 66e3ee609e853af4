-- Offsets past 2^31 on a card: small tensors that lie far apart in a large one, so that nothing
-- between them is touched. They run in a program of their own, whose double has the addresses.

local engine = require "spec.support.engine"
local program = require "spec.support.program"

local script = [[
local ffi = require "ffi"
local cnn = require "cnn"
local bind = require "cnn.bind"
local handle = require "cnn.handle"
local C = require "cnn.ffi".C

-- rows x columns with `apart` elements from a row to the next, on the card.
local function far(rows, columns, apart)
  local x = handle.wrap(C.cnn_empty(ffi.new("int64_t[2]", rows, apart), 2, "f32", "cuda"))
  return x:narrow(2, apart - columns + 1, columns)
end

local worst = 0
local function compare(what, got, expected)
  local off = (got:to "cpu" - expected):abs():max():item()
  local scale = math.max(1, expected:abs():max():item())
  if not (off <= 1e-5 * scale) then error(("%s: off by %g"):format(what, off), 0) end
  worst = math.max(worst, off)
end

-- Eight pixels, 2^29 floats apart: the last one begins 3.5 * 2^30 floats behind the first.
local c, apart = 6, 2 ^ 29
local here = cnn.randn(8, c)
local there = far(8, c, apart)
there:copy(here)
compare("copy", there, here)
compare("relu", there:relu(), here:relu())
compare("add", there + there, here + here)
for _, axes in ipairs { { 1 }, { 2 }, { 1, 2 } } do
  compare("sum", there:sum(axes), here:sum(axes))
  compare("max", there:max(axes), here:max(axes))
  compare("var", there:var(axes), here:var(axes))
end
local w = cnn.randn(5, c)
compare("linear", there:linear(w:to "cuda"), here:linear(w))
compare("batch_norm", bind.ops.batch_norm(there, nil, nil, nil, nil, 1, 0.1, 1e-5),
  bind.ops.batch_norm(here, nil, nil, nil, nil, 1, 0.1, 1e-5))
compare("layer_norm", bind.ops.layer_norm(there, 1, nil, nil, 1e-5),
  bind.ops.layer_norm(here, 1, nil, nil, 1e-5))
compare("index_select", there:index_select(1, cnn.tensor({ 8, 1, 8 }):to "cuda"),
  here:index_select(1, cnn.tensor { 8, 1, 8 }))
compare("cat", cnn.cat({ there, there }, 2), cnn.cat({ here, here }, 2))

-- The same as two pictures of 2 x 2 pixels.
local function picture(x) return x:view(2, 2, 2, c):permute { 1, 4, 2, 3 } end
local near, wide = picture(here), picture(there)
local kernel = cnn.randn(4, c, 2, 2)
compare("conv2d", bind.ops.conv2d(wide, kernel:to "cuda", nil, 1, 1, 1, 1, 1, 1, 1),
  bind.ops.conv2d(near, kernel, nil, 1, 1, 1, 1, 1, 1, 1))
for _, pool in ipairs { "max_pool2d", "avg_pool2d" } do
  compare(pool, bind.ops[pool](wide, 2, 2, 1, 1, 0, 0), bind.ops[pool](near, 2, 2, 1, 1, 0, 0))
end
compare("adaptive_avg_pool2d", bind.ops.adaptive_avg_pool2d(wide, 1, 1),
  bind.ops.adaptive_avg_pool2d(near, 1, 1))
print("worst", worst)
]]

describe("offsets past 2^31 on a card", function()
  teardown(program.sweep)

  it("lead to the right elements", function()
    if not engine.card_is_double then
      pending "needs the host double of make specs: a card would have to hold 16 GiB for this"
    end
    local r = program.run(program.quote(program.file("far.lua", script)), {
      env = "CNN_HOST_CARD_MB=40000 CNN_CUDA_LIB=" .. program.quote(os.getenv "CNN_CUDA_HOST_LIB"),
    })
    assert.equal(0, r.status, r.err)
    assert.truthy(r.out:find "worst", r.out)
  end)
end)
