-- Tensors as Lua sees them: making, asking, indexing, printing, operators, memory.

local cnn = require "cnn"
local engine = require "spec.support.engine"
local errors = require "spec.support.errors"

local C = engine.C

local expect = errors.expect

local function values(x) return engine.list(x) end

describe("new tensors", function()
  it("have the sizes and values asked for", function()
    assert.same({ 0, 0, 0, 0 }, values(cnn.zeros(2, 2)))
    assert.same({ 1, 1, 1 }, values(cnn.ones({ 3 })))
    assert.same({ 7, 7 }, values(cnn.full({ 2 }, 7)))
    assert.same({ 1, 2, 3, 4, 5 }, values(cnn.arange(5)))
    assert.same({ 2, 4, 6 }, values(cnn.arange(2, 6, 2)))
    assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, cnn.tensor({ 1, 2, 3, 4, 5, 6 }, { 2, 3 }):totable())
    assert.same({ { 1, 2 }, { 3, 4 } }, cnn.tensor({ { 1, 2 }, { 3, 4 } }):totable())
    assert.equal(2.5, cnn.tensor(2.5):item())
    assert.equal("4x3x6x6", tostring(cnn.randn(4, 3, 6, 6):shape()))
    assert.equal(0, cnn.zeros(0, 3):numel())
  end)

  it("are float32 on the CPU unless said otherwise", function()
    local x = cnn.rand(2)
    assert.equal("f32", x.dtype)
    assert.equal("cpu", x.device)
    assert.equal("i32", cnn.ones(2, { dtype = "i32" }).dtype)
    assert.equal("meta", cnn.ones(2, { device = "meta" }).device)
    assert.is_true(cnn.ones(2, { requires_grad = true }).requires_grad)
  end)

  it("are the same numbers for the same seed", function()
    local function draw()
      return values(cnn.randn(100)), values(cnn.rand(100))
    end
    cnn.manual_seed(4)
    local n1, u1 = draw()
    local n2, u2 = draw()
    cnn.manual_seed(4)
    local n3, u3 = draw()
    assert.same(n1, n3)
    assert.same(u1, u3)
    assert.are_not.same(n1, n2)
    assert.are_not.same(u1, u2)
    cnn.manual_seed(5)
    assert.are_not.same(n1, (draw()))
  end)

  it("are uniform and normal", function()
    cnn.manual_seed(1)
    local u, n = cnn.rand(100000), cnn.randn(100000)
    assert.is_true(u:min():item() >= 0 and u:max():item() < 1)
    assert.is_true(math.abs(u:mean():item() - 0.5) < 0.01)
    assert.is_true(math.abs(n:mean():item()) < 0.02)
    assert.is_true(math.abs(n:var():item() - 1) < 0.03)
  end)

  it("are refused when they make no sense", function()
    expect("ragged", cnn.tensor, { { 1, 2 }, { 3 } })
    expect("256 does not fit", cnn.tensor, { 256 }, { dtype = "u8" })
    expect("unknown option 'dtpye'.*did you mean 'dtype'", cnn.zeros, 2, { dtpye = "f32" })
    expect("size 1.*%-1", cnn.zeros, -1)
    expect("size 1.*1.5", cnn.zeros, 1.5)
    expect("f16", cnn.zeros, 2, { dtype = "f16" })
    expect({ "view", "6", "2x2" }, cnn.tensor, { 1, 2, 3, 4, 5, 6 }, { 2, 2 })
    expect("expected a number or a table", cnn.tensor, { "x" })
  end)

  it("cannot be larger than memory", function()
    expect("memory", function() return cnn.zeros(2 ^ 20, 2 ^ 19):sum():item() end)
    expect("product", function() return cnn.zeros(2 ^ 31, 2 ^ 31, 2 ^ 31) end)
  end)
end)

describe("a tensor", function()
  local x
  before_each(function() x = cnn.tensor({ 1, 2, 3, 4, 5, 6 }, { 2, 3 }) end)

  it("answers questions", function()
    assert.same({ 2, 3 }, { unpack(x:shape()) })
    assert.equal(3, x:size(2))
    assert.equal(3, x:size(-1))
    assert.equal(2, x:dim())
    assert.equal(6, x:numel())
    assert.equal(2, #x)
    assert.is_true(x:shape() == cnn.ones(2, 3):shape())
    expect("axis.*1 to 2.*3", x.size, x, 3)
  end)

  it("is indexed from 1, and from the end", function()
    assert.same({ 4, 5, 6 }, x[2]:totable())
    assert.equal(6, x[2][3]:item())
    assert.same({ { 2, 3 }, { 5, 6 } }, x:narrow(2, 2, 2):totable())
    expect("1 to 2", function() return x[0] end)
    expect("1 to 2", function() return x[3] end)
    expect({ "narrow", "3" }, x.narrow, x, 2, 2, 3)
  end)

  it("shares its memory with its views", function()
    x:transpose(1, 2)[1]:fill(9)
    assert.same({ { 9, 2, 3 }, { 9, 5, 6 } }, x:totable())
    x:view(-1):narrow(1, 2, 1):fill(0)
    assert.equal(0, x[1][2]:item())
    x[2] = 7
    assert.same({ 7, 7, 7 }, x[2]:totable())
    x[2] = cnn.tensor { 1, 2, 3 }
    assert.same({ 1, 2, 3 }, x[2]:totable())
    local y = x:clone()
    y:fill(5)
    assert.equal(9, x[1][1]:item())
  end)

  it("has NumPy's arithmetic", function()
    local a, b = cnn.tensor { 1, 2, 3 }, cnn.tensor({ 10, 20 }, { 2, 1 })
    assert.same({ { 11, 12, 13 }, { 21, 22, 23 } }, (a + b):totable())
    assert.same({ -1, -2, -3 }, values(-a))
    assert.same({ 3, 4, 5 }, values(a + 2))
    assert.same({ 3, 4, 5 }, values(2 + a))
    assert.same({ 1, 0, -1 }, values(2 - a))
    assert.same({ 0.5, 1, 1.5 }, values(a / 2))
    assert.same({ 6, 3, 2 }, values(6 / a))
    assert.same({ 1, 4, 9 }, values(a ^ 2))
    assert.same({ 2, 4, 8 }, values(2 ^ a))
    assert.same({ 2, 2, 3 }, values(a:maximum(2)))
    assert.same({ 0, 1, 0 }, values(a:eq(2)))
    expect("expected a tensor or a number, got a table", function() return a + {} end)
  end)

  it("reduces over any axes and keeps them", function()
    assert.equal(21, x:sum():item())
    assert.equal("()", tostring(x:sum():shape()))
    assert.same({ { 5, 7, 9 } }, x:sum(1):totable())
    assert.same({ { 2 }, { 5 } }, x:mean { 2 }:totable())
    assert.same({ { 3 }, { 3 } }, x:argmax(2):totable())
    local var = x:var { 2 }:totable()
    assert.is_true(math.abs(var[1][1] - 2 / 3) < 1e-6)
    expect("axis", x.sum, x, 3)
    expect("twice", x.sum, x, { 1, 1 })
  end)

  it("is normalized by one line of broadcasting", function()
    local y = cnn.randn(4, 3, 6, 6) * 3 + 5
    local z = (y - y:mean { 1, 3, 4 }) / (y:var { 1, 3, 4 } + 1e-5):sqrt()
    assert.is_true(z:mean { 1, 3, 4 }:abs():max():item() < 1e-5)
    assert.is_true((z:var { 1, 3, 4 } - 1):abs():max():item() < 1e-3)
  end)

  it("can be split, stacked and padded", function()
    local parts = x:split(2, 2)
    assert.same({ "2x2", "2x1" }, { tostring(parts[1]:shape()), tostring(parts[2]:shape()) })
    assert.same(x:totable(), cnn.cat(parts, 2):totable())
    assert.equal("2x2x3", tostring(cnn.stack({ x, x }, 1):shape()))
    assert.equal("3x3", tostring(x:pad({ 0, 0, 0, 1 }):shape()))
    assert.equal("1x2x1x3", tostring(x:unsqueeze(1):unsqueeze(3):shape()))
    assert.equal("2x3", tostring(x:unsqueeze(1):squeeze():shape()))
    assert.same({ { 4, 5, 6 }, { 4, 5, 6 }, { 1, 2, 3 } },
      x:index_select(1, cnn.tensor { 2, 2, 1 }):totable())
    expect({ "cat", "2x3", "3x2" }, cnn.cat, { x, x:transpose(1, 2) }, 1)
  end)

  it("changes its dtype", function()
    local y = cnn.tensor { -1, 0.4, 254.6, 300 } -- cut off as in PyTorch, but never wrapped
    assert.same({ 0, 0, 254, 255 }, values(y:to "u8"))
    assert.same({ 1, 2 }, values(cnn.tensor({ 1, 2 }, { dtype = "u8" }) * 1))
    local rounded = values(cnn.tensor { 1.00390625, 3.14159265 }:to "bf16")
    assert.same({ 1, 3.140625 }, rounded)
    expect("cuda", x.to, x, "cudax")
  end)

  it("prints as its type, its sizes and never a flood", function()
    assert.equal("f32[2x3] cpu\n  1 2 3\n  4 5 6", tostring(x))
    assert.equal("f32[] cpu: 21", tostring(x:sum()))
    local text = tostring(cnn.randn(4, 3, 60, 60))
    assert.truthy(text:find("f32[4x3x60x60] cpu", 1, true))
    assert.truthy(text:find "min.*mean.*max")
    local _, lines = text:gsub("\n", "")
    assert.is_true(lines <= 12 and #text < 1500)
    assert.truthy(tostring(cnn.zeros(0, 3)):find("f32[0x3] cpu", 1, true))
    assert.truthy(tostring(cnn.zeros(2, { device = "meta" })):find("f32[2] meta", 1, true))
    assert.truthy(tostring(cnn.tensor { 0 / 0 }):find "nan")
  end)

  it("says what it does not have", function()
    expect({ "softmaxx", "did you mean 'softmax'" }, function() return x.softmaxx end)
    expect("colon", function() return x.shape() end)
    expect("cannot be set", function() x.dtype = "u8" end)
    expect("x:view", function() return x:view(1.5) end)
    expect("x:narrow.*length", function() return x:narrow(1, 1) end)
  end)

  it("has nothing on the device meta", function()
    local m = cnn.zeros({ 2 ^ 20, 2 ^ 20 }, { device = "meta" })
    local before = tonumber(C.cnn_bytes_alive())
    local y = (m * 2):sum(1):relu()
    assert.equal("1x1048576", tostring(y:shape()))
    assert.equal(before, tonumber(C.cnn_bytes_alive()))
    expect("meta", y.totable, y)
  end)
end)

describe("the ops' shape rules:", function()
  local function t(...) return cnn.zeros({ ... }, { device = "meta" }) end

  -- what is called, and what the line has to say; the same on every device
  local wrong = {
    { "add", { "2x3", "4x3" }, function(z) return z(2, 3) + z(4, 3) end },
    { "where", { "2x3", "4" }, function(z) return cnn.where(z(2, 3), z(4), z(1)) end },
    { "matmul", { "3x4", "5x2" }, function(z) return z(3, 4):matmul(z(5, 2)) end },
    { "matmul, batches", { "2x3x4", "3x4x5" },
      function(z) return z(2, 3, 4):matmul(z(3, 4, 5)) end },
    { "linear", { "6400", "3200" }, function(z) return z(1, 3200):linear(z(10, 6400), z(10)) end },
    { "view", { "2x3", "4" }, function(z) return z(2, 3):view(4) end },
    { "view, two unknown", "%-1", function(z) return z(2, 3):view(-1, -1) end },
    { "transpose", "axis", function(z) return z(2, 3):transpose(1, 3) end },
    { "permute", "permute", function(z) return z(2, 3):permute(1, 1) end },
    { "narrow", "narrow", function(z) return z(2, 3):narrow(2, 3, 2) end },
    { "select", "select", function(z) return z(2, 3):select(1, 3) end },
    { "expand", { "2x3", "4x3" }, function(z) return z(2, 3):expand(4, 3) end },
    { "squeeze", "squeeze", function(z) return z(2, 3):squeeze(1) end },
    { "stack", { "2", "3" }, function(z) return cnn.stack({ z(2), z(3) }, 1) end },
    { "pad", "pad", function(z) return z(2, 3):pad({ 1 }, 0) end },
    { "index_select", "index", function(z) return z(2, 3):index_select(1, z(1, 1)) end },
    { "copy", { "2x3", "4" }, function(z) return z(2, 3):copy(z(4)) end },
    { "softmax", "axis", function(z) return z(2, 3):softmax(3) end },
    { "cross_entropy", { "4", "5" }, function(z) return z(4, 10):cross_entropy(z(5)) end },
    { "mse", { "2", "3" }, function(z) return z(2):mse(z(3)) end },
    { "conv2d, channels", { "3", "4" },
      function(z) return z(1, 4, 5, 5):conv2d(z(2, 3, 3, 3), nil, 1, 1, 0, 0, 1, 1, 1) end },
    { "conv2d, too small", { "at least 3x3", "2x2" },
      function(z) return z(1, 3, 2, 2):conv2d(z(2, 3, 3, 3), nil, 1, 1, 0, 0, 1, 1, 1) end },
    { "conv2d, bias", { "2", "3" },
      function(z) return z(1, 3, 5, 5):conv2d(z(2, 3, 3, 3), z(3), 1, 1, 0, 0, 1, 1, 1) end },
    { "conv2d, groups", "groups",
      function(z) return z(1, 4, 5, 5):conv2d(z(3, 2, 3, 3), nil, 1, 1, 0, 0, 1, 1, 2) end },
    { "conv2d, stride 0", "stride",
      function(z) return z(1, 3, 5, 5):conv2d(z(2, 3, 3, 3), nil, 0, 1, 0, 0, 1, 1, 1) end },
    { "conv2d, padding", "smaller padding", function(z)
      return z(1, 1, 2, 2):conv2d(z(1, 1, 2, 2), nil, 1, 1, 2 ^ 30 - 1, 2 ^ 30 - 1, 2 ^ 31 - 1,
        2 ^ 31 - 1, 1)
    end },
    { "max_pool2d, too small", "at least 3x3",
      function(z) return z(1, 3, 2, 2):max_pool2d(3, 3, 2, 2, 0, 0) end },
    { "avg_pool2d, not a picture", "3x2",
      function(z) return z(3, 2):avg_pool2d(2, 2, 2, 2, 0, 0) end },
    { "adaptive_avg_pool2d", "0", function(z) return z(1, 3, 4, 4):adaptive_avg_pool2d(0, 1) end },
    { "batch_norm, gamma", { "3", "4" },
      function(z) return z(2, 3):batch_norm(z(4), nil, nil, nil, 1, 0.1, 1e-5) end },
    { "batch_norm, one value", "more than 1 value",
      function(z) return z(1, 3):batch_norm(nil, nil, nil, nil, 1, 0.1, 1e-5) end },
    { "batch_norm, running mean expanded", "expanded view", function(z)
      local mean = z(1):expand(3)
      return cnn.zeros(2, 3):batch_norm(nil, nil, mean, z(3), 1, 0.1, 1e-5)
    end, cpu = true },
    { "batch_norm, running mean learned", "require no gradient", function(z)
      local mean = z(3)
      mean.requires_grad = true
      return z(2, 3):batch_norm(nil, nil, mean, z(3), 1, 0.1, 1e-5)
    end },
    { "argmax, too many", "at most 16777216", function(z) return z(2 ^ 24 + 1):argmax(1) end },
    { "layer_norm", { "4", "3" }, function(z) return z(2, 3):layer_norm(1, z(4), nil, 1e-5) end },
    { "group_norm", "groups", function(z) return z(2, 3, 2, 2):group_norm(2, nil, nil, 1e-5) end },
    { "dropout", "p from 0", function(z) return z(2):dropout(1.5) end },
    { "clamp", "lo <= hi", function(z) return z(2):clamp(1, 0) end },
    { "text in place of a number", "x:narrow", function(z) return z(2):narrow(1, "1", 1) end },
  }

  for _, row in ipairs(wrong) do
    local what, patterns, f = unpack(row)
    it(what, function()
      local on_cpu = expect(patterns, f, cnn.zeros)
      if row.cpu then return end
      local on_meta = expect(patterns, f, t)
      assert.equal(on_cpu, on_meta)
    end)
  end

  it("values that are not there are errors with a value's position", function()
    expect({ "index_select", "4", "1 .. 3" }, function()
      return cnn.ones(3):index_select(1, cnn.tensor { 1, 4 })
    end)
    expect({ "label", "0", "1 .. 10" }, function()
      return cnn.ones(2, 10):cross_entropy(cnn.tensor { 1, 0 })
    end)
    expect({ "label", "11", "1 .. 10" }, function()
      return cnn.ones(2, 10):cross_entropy(cnn.tensor { 11, 1 })
    end)
    expect({ "label", "1.5" }, function()
      return cnn.ones(1, 10):cross_entropy(cnn.tensor { 1.5 })
    end)
  end)

  it("tensors of two devices do not mix", function()
    if not engine.has_card then
      pending "needs a GPU: an op with one tensor on cpu and one on cuda:0"
    end
    local x, y = cnn.ones(2, 3), cnn.ones({ 2, 3 }, { device = "cuda" })
    expect({ "add: expected all tensors on one device, got one on cuda:0; use x:to" }, function()
      return x + y
    end)
    expect({ "linear: expected w on cuda:0 as x is, got cpu" }, function() return y:linear(x) end)
  end)
end)

describe("corners of a tensor's values", function()
  it("NaN becomes 0 as a whole number, filled in or cast", function()
    assert.same({ 0 }, values(cnn.full({ 1 }, 0 / 0, { dtype = "i32" })))
    assert.same({ 0 }, values(cnn.full({ 1 }, 0 / 0):to "i32"))
  end)

  it("an empty view is contiguous", function()
    assert.is_true(cnn.zeros(0, 6):view(0, 2, 3):is_contiguous())
  end)

  it("a cast to whole numbers ends the graph, one to bf16 does not", function()
    local x = cnn.tensor { 1.25, -3 }
    x.requires_grad = true
    assert.is_false(x:to("i32").requires_grad)
    assert.is_false(x:to("u8").requires_grad)
    assert.is_true(x:to("bf16").requires_grad)
  end)
end)

describe("the engine's memory", function()
  it("is given back when nothing holds it", function()
    collectgarbage()
    collectgarbage()
    local before = tonumber(C.cnn_bytes_alive())
    do
      local x = cnn.rand(1000, 1000)
      assert.is_true(x:sum():item() > 0)
      assert.is_true(tonumber(C.cnn_bytes_alive()) >= before + 4e6)
    end
    collectgarbage()
    collectgarbage()
    assert.is_true(tonumber(C.cnn_bytes_alive()) <= before + 1e5)
  end)

  it("does not pile up while Lua sees only 16 bytes a tensor", function()
    collectgarbage()
    C.cnn_reset_peak()
    local before = tonumber(C.cnn_bytes_alive())
    local x = cnn.rand(1000, 1000)
    for _ = 1, 200 do x = x * 0.5 + 1 end
    assert.is_true(tonumber(C.cnn_bytes_peak()) < before + 300e6)
  end)

  it("is not lost by errors", function()
    collectgarbage()
    local before = tonumber(C.cnn_bytes_alive())
    for _ = 1, 100 do pcall(function() return cnn.rand(100, 100) + cnn.rand(99, 100):sum(1) end) end
    collectgarbage()
    collectgarbage()
    assert.is_true(tonumber(C.cnn_bytes_alive()) <= before + 1e5)
  end)

  it("answers for a tensor that a step gave back", function()
    local leaked
    local kept = cnn.step(function()
      leaked = cnn.ones(3) + 1
      return leaked * 2
    end)
    assert.same({ 4, 4, 4 }, values(kept))
    assert.equal(0, C.cnn_alive(leaked))
    expect("given back when its step ended", function() return leaked + 1 end)
    assert.truthy(tostring(leaked):find "given back")
  end)
end)
