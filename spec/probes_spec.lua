-- What each layer gives, in numbers and words, and where the time goes: net:probe, net:profile.

local cnn = require "cnn"
local engine = require "spec.support.engine"
local errors = require "spec.support.errors"
local probing = require "spec.support.probing"
local report = require "cnn.probes.report"
local scripts = require "spec.support.scripts"
local statistics = require "cnn.probes.statistics"

local nn = cnn.nn
local printed, quietly, small, fill = probing.printed, probing.quietly, probing.small, probing.fill

-- ---------------------------------------------------------------------------------- statistics

-- The same by plain Lua.
local function expected_of(values)
  local n, sum, squares, zeros, bad = 0, 0, 0, 0, 0
  local low, high = math.huge, -math.huge
  for _, v in ipairs(values) do
    if v - v == 0 then
      n, sum = n + 1, sum + v
      low, high = math.min(low, v), math.max(high, v)
      if v == 0 then zeros = zeros + 1 end
    else
      bad = bad + 1
    end
  end
  local mean = sum / n
  for _, v in ipairs(values) do
    if v - v == 0 then squares = squares + (v - mean) ^ 2 end
  end
  return {
    mean = mean, std = math.sqrt(squares / n), min = low, max = high, zeros = zeros / #values,
    non_finite = bad / #values, count = #values,
  }
end

local function same_numbers(x)
  local found, expected = statistics.of(x), expected_of(engine.list(x))
  for key, value in pairs(expected) do
    assert.is_true(math.abs(found[key] - value) <= 1e-9 * (1 + math.abs(value)),
      ("%s: expected %.17g, got %.17g"):format(key, value, found[key]))
  end
  return found
end

describe("statistics", function()
  local x = cnn.randn(2, 3, 4, 5)

  for name, y in pairs {
    ["row-major"] = x:contiguous(), ["channels-last"] = x:channels_last(),
    ["a channel slice"] = x:narrow(2, 2, 2), ["expanded"] = x:narrow(2, 1, 1):expand(2, 3, 4, 5),
    ["transposed"] = x:transpose(1, 4), ["three axes"] = x[1], ["two axes"] = cnn.randn(5, 7):t(),
    ["one axis"] = cnn.randn(9), ["no axis"] = cnn.tensor(3.5), ["bf16"] = x:to "bf16",
    ["u8"] = cnn.tensor({ 0, 7, 255 }, { dtype = "u8" }),
    ["i32"] = cnn.tensor({ -70000, 7, 255 }, { dtype = "i32" }),
    ["with history"] = (function()
      local w = cnn.randn(3)
      w.requires_grad = true
      return w * 2
    end)(),
  } do
    it("are right: " .. name, function() same_numbers(y) end)
  end

  it("keep a small spread around a large mean", function()
    local s = same_numbers(cnn.rand(1000) + 4096)
    assert.is_true(s.std > 0.25 and s.std < 0.32)
    assert.equal(0, statistics.of(cnn.full({ 1000 }, 0.1)).std)
  end)

  it("are of the finite values", function()
    local inf = 1 / 0
    local s = same_numbers(cnn.tensor { 1, inf, -3, 0 / 0, 0, -inf, 4, -0.0 })
    assert.equal(3 / 8, s.non_finite)
    assert.equal(2 / 8, s.zeros)
    s = statistics.of(cnn.tensor { 0 / 0, inf })
    assert.equal(1, s.non_finite)
    assert.is_nil(s.mean)
    assert.same({ count = 0 }, statistics.of(cnn.zeros(0, 3)))
    assert.is_nil(statistics.of(cnn.zeros({ 3 }, { device = "meta" })))
  end)

  it("tell saturated outputs by the op that made them", function()
    local y = cnn.tensor { -20, -6, 0, 6, 7.5, 20 }
    assert.equal(3 / 6, statistics.of(y:sigmoid()).saturated)
    assert.equal(5 / 6, statistics.of(y:tanh()).saturated)
    assert.is_nil(statistics.of(y:relu()).saturated)
  end)

  it("count the dead channels of a relu", function()
    local y = cnn.full({ 2, 4, 3, 3 }, -1)
    fill(y:narrow(2, 3, 1):narrow(1, 2, 1), 1)
    for _, stored in ipairs { y:contiguous(), y:channels_last() } do
      assert.equal(3 / 4, statistics.of(stored:relu()).dead)
    end
    assert.is_nil(statistics.of(y).dead)
  end)

  it("give norms that squares in 32 bits could not hold", function()
    assert.equal(5, statistics.norm(cnn.tensor { 3, -4 }))
    assert.is_true(math.abs(statistics.norm(cnn.full({ 4 }, 1e30)) / 2e30 - 1) < 1e-6)
    local nan = statistics.norm(cnn.tensor { 1, 0 / 0 })
    assert.is_true(nan ~= nan)
  end)
end)

-- --------------------------------------------------------------------------------------- probe

describe("net:probe", function()
  local x, y = cnn.rand(4, 1, 6, 6), cnn.tensor { 1, 2, 3, 1 }

  it("has a row for each output, in the order in which they come", function()
    local rows, paths = quietly(small(), "probe", x), {}
    for i, row in ipairs(rows) do paths[i] = row.path .. " " .. row.layer:match "^%w+" end
    assert.same({ "stem Conv2d", "body[1] BatchNorm2d", "body[2].conv Conv2d",
      "body[2].conv Conv2d", "body[2] Twice", "body[3] Dropout", "[3] Flatten", "[4] Linear" },
      paths)
  end)

  it("gives each output's own numbers", function()
    local net = small():eval()
    local rows, outputs = quietly(net, "probe", x), {}
    for _, path in ipairs { "stem", "body[1]", "body[2]", "[4]" } do
      net:tap(path, function(out) outputs[path] = out:detach() end)
    end
    net(x)
    local seen = 0
    for _, row in ipairs(rows) do
      local out = outputs[row.path]
      if out then
        seen = seen + 1
        local expected = expected_of(engine.list(out))
        for _, key in ipairs { "mean", "std", "min", "max", "zeros" } do
          assert.is_true(math.abs(row[key] - expected[key]) < 1e-6, row.path .. " " .. key)
        end
        assert.equal(tostring(out:shape()), row.shape)
      end
    end
    assert.equal(4, seen)
    assert.is_true(math.abs(rows.input.mean - x:mean():item()) < 1e-6)
  end)

  it("prints a table whose columns have something in them", function()
    local text, _, rows = printed(small().probe, small(), x)
    assert.truthy(text:find "^layer +| output +| +mean | +std | +min | +max | +zeros")
    assert.truthy(text:find "\nin training mode$")
    assert.is_nil(text:find("saturated", 1, true))
    assert.is_nil(text:find("gradient", 1, true))
    assert.equal(text, tostring(rows))
    assert.is_true(report.was_printed(rows))
    for line in text:gmatch "[^\n]+" do assert.is_true(#line <= 100, line) end
  end)

  it("gives the gradient's norm after a backward, or of one on the way", function()
    local net = small():eval()
    nn.CrossEntropyLoss()(net(x), y):backward()
    local linear = net[4]
    local expected = math.sqrt(statistics.norm(linear.weight.grad) ^ 2
      + statistics.norm(linear.bias.grad) ^ 2)
    local after = quietly(net, "probe", x)
    assert.is_true(math.abs(after[8].gradient - expected) < 1e-6)
    assert.is_nil(after[7].gradient)
    local again = quietly(net, "probe", x, { labels = y })
    assert.is_true(math.abs(again[8].gradient - expected) < 1e-6, "not added to those there")
    net:zero_grad()
    assert.is_nil(quietly(net, "probe", x)[8].gradient)
    local within = quietly(net, "probe", x, { labels = y })
    assert.is_true(math.abs(within[8].gradient - expected) < 1e-6)
    assert.is_true(math.abs(within.loss - nn.CrossEntropyLoss()(net(x), y):item()) < 1e-6)
    assert.is_nil(linear.weight.grad)
    local mean = quietly(net, "probe", x, { loss = function(out) return out:mean() end })
    assert.is_true(math.abs(mean.loss - net(x):mean():item()) < 1e-6)
  end)

  local function marks_of(net, options)
    local list = {}
    for i, row in ipairs(quietly(net, "probe", x, options)) do list[i] = row.marks end
    return list
  end

  it("marks dead channels, and what gets no gradient behind them", function()
    local net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    fill(net[1].bias, 1)
    fill(net[1].weight, 0)
    assert.same({ "constant", "constant", "constant", "" }, marks_of(net))
    fill(net[1].bias:narrow(1, 2, 3), -1)
    assert.equal("3 of 4 dead", marks_of(net)[2])
    local wide = nn.Sequential(nn.Conv2d(1, 11, 1), nn.ReLU())
    fill(wide[1].bias, 1)
    fill(wide[1].bias:narrow(1, 1, 1), -9)
    assert.equal("", marks_of(wide)[2])
    fill(net[1].bias, -1)
    assert.same({ "constant, gradient zero", "dead", "all zeros", "" },
      marks_of(net, { labels = y }))
    net:insert(3, nn.Dropout(0.5))
    net:eval()
    assert.same({ "constant", "dead", "all zeros" }, { unpack(marks_of(net), 1, 3) })
  end)

  it("marks exploding, vanishing, saturated and non-finite outputs", function()
    local net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3))
    assert.same({ "", "", "" }, marks_of(net))
    cnn.no_grad(function() net[1].weight:copy(net[1].weight * 1e4) end)
    assert.same({ "exploding", "saturated", "" }, marks_of(net))
    cnn.no_grad(function()
      net[1].weight:copy(net[1].weight * 1e-12)
      net[1].bias:fill(0)
    end)
    assert.same({ "vanishing", "vanishing" }, { unpack(marks_of(net), 1, 2) })
    fill(net[3].weight:narrow(1, 1, 1), 0 / 0)
    assert.equal("not finite", marks_of(net)[3])
    assert.is_true(math.abs(quietly(net, "probe", x)[3].non_finite - 1 / 4) < 1e-9)
    fill(net[3].weight, 0 / 0)
    local list = marks_of(net, { loss = function(out) return out:mean() end })
    assert.same({ "vanishing, gradient not finite", "not finite" }, { list[1], list[3] })
  end)

  it("marks exploding and vanishing gradients", function()
    local net = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.Linear(4, 4))
    local function marks(factor)
      return marks_of(net, { loss = function(out) return (out * factor):mean() end })
    end
    assert.same({ "", "", "" }, marks(1))
    assert.truthy(marks(1e4)[3]:find("gradient exploding", 1, true))
    cnn.no_grad(function() net[3].weight:copy(net[3].weight * 1e-7) end)
    assert.equal("gradient vanishing", marks(1)[2])
  end)

  it("prints the rows up to the layer that fails", function()
    local text, ok, why = printed(small().probe, small(), cnn.rand(2, 1, 7, 7))
    assert.is_false(ok)
    assert.truthy(why:find("expected 32 features, got 50", 1, true))
    assert.truthy(text:find("[3] Flatten", 1, true))
    assert.is_nil(text:find("[4] Linear", 1, true))
  end)

  it("takes an empty batch", function()
    local rows = quietly(small():eval(), "probe", cnn.zeros(0, 1, 6, 6))
    assert.equal(8, #rows)
    assert.equal("0x3", rows[8].shape)
    assert.is_nil(rows[8].mean)
    assert.equal("", rows[8].marks)
  end)

  it("refuses what is no batch, label or option", function()
    local net = small()
    errors.expect("net:probe%(x%): expected a tensor, got a table", function()
      net:probe { 1, 1, 6, 6 }
    end)
    errors.expect("net:shapes takes it", function()
      net:probe(cnn.zeros({ 1, 1, 6, 6 }, { device = "meta" }))
    end)
    errors.expect("labels: expected a tensor, got a table", function()
      net:probe(x, { labels = { 1, 2 } })
    end)
    errors.expect("loss: expected a function or a layer, got 3", function()
      net:probe(x, { loss = 3 })
    end)
    errors.expect("unknown option 'label' .*did you mean 'labels'", function()
      net:probe(x, { label = y })
    end)
  end)

  it("looks at ResNet-18 on 8 pictures within a second", function()
    local net = scripts.recipe("resnet").net
    local pictures = cnn.rand(8, 1, 96, 96)
    local before = os.clock()
    local rows = quietly(net, "probe", pictures)
    assert.is_true(os.clock() - before < 2, "CPU seconds, of two threads")
    assert.equal("8x10", rows[#rows].shape)
    assert.truthy(rows[4].path == "b1[4]" and rows[9].path == "b2[1]")
  end)
end)

-- ------------------------------------------------------------------------------------- profile

describe("net:profile", function()
  local x = cnn.rand(2, 1, 6, 6)

  it("measures each layer, and its shares of the step add up", function()
    local net = small():eval()
    local rows = quietly(net, "profile", x, { seconds = 0.02 })
    local total, share, forward, backward, macs = rows.total, 0, 0, 0, 0
    local paths = {}
    for i, row in ipairs(rows) do
      paths[i] = row.path
      share, forward, backward = share + row.share, forward + row.forward_ms,
        backward + row.backward_ms
      macs = macs + row.macs
      assert.is_true(row.forward_ms > 0 and row.bytes > 0)
    end
    assert.same({ "stem", "body[1]", "body[2].conv", "body[2].conv", "body[3]", "[3]", "[4]" },
      paths)
    assert.is_true(math.abs(share - total.share) < 1e-9)
    assert.is_true(math.abs(share + total.beyond_ms / total.step_ms - 1) < 1e-9)
    assert.is_true(math.abs(forward - total.forward_ms) < 1e-9)
    assert.is_true(math.abs(backward - total.backward_ms) < 1e-9)
    assert.equal(quietly(net, "shapes", { 2, 1, 6, 6 }).total.macs, macs)
    local stem = rows[1]
    assert.equal(4 * (2 * 36 + 2 * 2 * 16 + 20), stem.bytes)
    assert.is_true(math.abs(stem.gflops - 2 * stem.macs / stem.forward_ms / 1e6) < 1e-9)
  end)

  it("measures a prediction, too, and prints what it measured", function()
    local net = small()
    local text, _, rows = printed(net.profile, net, x, { seconds = 0.01, training = false })
    assert.is_nil(rows[1].backward_ms)
    assert.is_nil(text:find("backward", 1, true))
    assert.truthy(text:find "\nstem Conv2d +| 2x2x4x4 | +[%d.]+ | +[%d.]+ | +[%d.]+ | +[%d.]+ %%\n")
    assert.truthy(text:find "\nall layers .*\nbeyond them .*\nthe whole prediction takes [%d.]+ ms")
    text = printed(net.profile, net, x, { seconds = 0.01 })
    assert.truthy(text:find "forward ms | GFLOP/s | backward ms | MB moved | +share\n")
    assert.truthy(text:find "\nthe whole step takes [%d.]+ ms")
  end)

  it("measures layers on what they are given in the net", function()
    local seen = {}
    local Look = nn.module "Look"
    function Look:forward(a) -- luacheck: ignore 212
      if a.device ~= "meta" then seen[#seen + 1] = a:max():item() end
      return a * 1
    end
    quietly(nn.Sequential(nn.Sigmoid(), Look()), "profile", x + 100, { seconds = 0.001 })
    assert.is_true(#seen > 6)
    for _, value in ipairs(seen) do assert.equal(1, value) end
  end)

  it("skips a layer that cannot be called alone, and a net with nothing to train", function()
    local Sum = nn.module "Sum"
    function Sum:forward(a, b) return a + b end -- luacheck: ignore 212
    local Both = nn.module "Both"
    function Both:init() self.sum = Sum() end
    function Both:forward(a) return self.sum(a, a) end
    local rows = quietly(nn.Sequential(Both(), nn.ReLU(), nn.Identity()), "profile", x,
      { seconds = 0.001 })
    assert.is_nil(rows[1].forward_ms)
    assert.is_nil(rows[1].share)
    assert.is_true(rows[2].forward_ms > 0 and rows.total.step_ms > 0)
  end)

  it("measures a net whose forward asks for values", function()
    local Scaled = nn.module "Scaled"
    function Scaled:forward(a) -- luacheck: ignore 212
      return a * (1 + a:max():item())
    end
    local rows = quietly(nn.Sequential(nn.Conv2d(1, 2, 3), Scaled()), "profile", x,
      { seconds = 0.001 })
    assert.equal("2x2x4x4", rows[2].shape)
    assert.is_true(rows[1].forward_ms > 0 and rows[2].forward_ms > 0)
    local scratch = scripts.recipe("bn_lenet_scratch").net
    rows = quietly(scratch, "profile", cnn.rand(2, 1, 28, 28), { seconds = 0.001 })
    assert.is_true(rows[2].backward_ms > 0)
  end)

  it("refuses what it cannot measure", function()
    local net = small()
    errors.expect("expected a tensor with values, got a table", function()
      net:profile { 1, 1, 6, 6 }
    end)
    errors.expect("seconds: expected a finite number >= 0, got %-1", function()
      net:profile(x, { seconds = -1 })
    end)
    errors.expect("training: expected true or false, got 1", function()
      net:profile(x, { training = 1 })
    end)
    errors.expect("expected 32 features, got 50", function()
      net:profile(cnn.rand(2, 1, 7, 7), { seconds = 0.001 })
    end)
  end)
end)
