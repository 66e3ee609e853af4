-- Probes: layers by path, what each gives in numbers and words, where the time goes, taps; and that
-- looking at a net leaves it as it was.

local cnn = require "cnn"
local engine = require "spec.support.engine"
local errors = require "spec.support.errors"
local look = require "cnn.probes.look"
local report = require "cnn.probes.report"
local scripts = require "spec.support.scripts"
local statistics = require "cnn.probes.statistics"
local untouched = require "cnn.probes.untouched"

local nn, C = cnn.nn, engine.C

-- What f(...) printed, and its results after pcall.
local function printed(f, ...)
  local lines, was = {}, print
  _G.print = function(line) lines[#lines + 1] = tostring(line) end
  local results = { pcall(f, ...) }
  _G.print = was
  return table.concat(lines, "\n"), unpack(results)
end

local function quietly(net, name, x, options)
  options = options or {}
  options.quiet = true
  return net[name](net, x, options)
end

local Twice = nn.module "Twice" -- a block with an addition of its own and a layer called twice

function Twice:init() self.conv = nn.Conv2d(2, 2, 3, { padding = 1 }) end

function Twice:forward(x) return (self.conv(self.conv(x)) + x):relu() end

local function small()
  local net = nn.Sequential()
  net:add("stem", nn.Conv2d(1, 2, 3))
  net:add("body", nn.Sequential(nn.BatchNorm2d(2), Twice(), nn.Dropout(0.5)))
  net:add(nn.Flatten())
  net:add(nn.Linear(2 * 4 * 4, 3))
  return net
end

local function fill(x, value)
  cnn.no_grad(x.fill, x, value)
end

-- --------------------------------------------------------------------------------------- paths

describe("net:get", function()
  local net = scripts.recipe("resnet").net
  local b3 = net.b3

  for _, path in ipairs { "b3[1].conv1", "b3.1.conv1", "net.b3[1].conv1", "net.b3.1.conv1" } do
    it("takes " .. path, function() assert.equal(b3[1].conv1, net:get(path)) end)
  end

  it("takes a number, the net itself, and a layer that was found", function()
    assert.equal(net[3], net:get(3))
    assert.equal(net[3], net:get "[3]")
    assert.equal(net, net:get "net")
    assert.equal(b3[1], net:get(b3[1]))
    assert.equal("b3[1].bn2", look.path_of(net, net:get "b3[1].bn2"))
  end)

  it("finds a child called net, layers in plain tables, shared ones at each place", function()
    local inner = nn.ReLU()
    local net2 = nn.Sequential()
    net2:add("net", inner)
    assert.equal(inner, net2:get "net")
    assert.equal(inner, net2:get "net.net")
    local Blocks = nn.module "Blocks"
    function Blocks:init() self.blocks = { first = inner, inner } end
    local blocks = Blocks()
    assert.equal(inner, blocks:get "blocks.first")
    assert.equal(inner, blocks:get "blocks[1]")
  end)

  for path, patterns in pairs {
    b9 = { "no layer 'b9' in the net; nearest: b1", "layers in net: b1, b2, b3, b4, b5, %[6%]" },
    ["b3[9].conv1"] = { "nearest: b3%[1%].conv1 %(layers in b3: b3%[1%], b3%[2%];" },
    ["b3[1].con1"] = { "nearest: b3%[1%].conv1 ", "layers in b3%[1%]: .*b3%[1%].conv3" },
    conv3 = { "nearest: b3%[1%].conv3, b4%[1%].conv3, b5%[1%].conv3 " },
    AdaptiveAvgPool = { "nearest: %[6%]" },
    ["b3.forward"] = { "no layer 'b3.forward'" },
    ["b3.training"] = { "no layer 'b3.training'" },
  } do
    it("names what is near " .. path, function()
      errors.expect(patterns, function()
        local layer = net:get(path)
        return layer
      end)
    end)
  end

  it("lists all layers of a small net, and few of a long one", function()
    errors.expect("%(layers: stem, body, body%[1%], .*, %[3%], %[4%]%)", function()
      local layer = small():get "conv9"
      return layer
    end)
    local long = nn.Sequential()
    for _ = 1, 200 do long:add(nn.ReLU()) end
    local message = errors.expect("%[24%], %.%.%.; net:find%(%) lists all 201", function()
      local layer = long:get "b1"
      return layer
    end)
    assert.is_true(#message < 400, message)
  end)

  it("refuses what is no path, a stranger, and a dot instead of a colon", function()
    errors.expect("path: expected a string, got a table", function() net:get {} end)
    errors.expect("expected a layer of this net, got another ReLU", function()
      net:get(nn.ReLU())
    end)
    errors.expect("net:get%(%): expected a net, got the string 'b3' %(a dot", function()
      local layer = net.get "b3"
      return layer
    end)
  end)
end)

describe("net:find", function()
  local net = scripts.recipe("resnet").net

  local function paths(what)
    local list = {}
    for i, row in ipairs(net:find(what, { quiet = true })) do list[i] = row.path end
    return list
  end

  it("goes by path, by part, by kind, by class and by pattern", function()
    assert.same({ "b3[2]", "b3[2].conv1", "b3[2].bn1", "b3[2].conv2", "b3[2].bn2" }, paths "b3.2")
    assert.same({ "b3[1].conv3", "b4[1].conv3", "b5[1].conv3" }, paths "conv3")
    assert.same({ "b3[1].conv3", "b4[1].conv3", "b5[1].conv3" }, paths "1.conv3")
    assert.same({ "[8]" }, paths "linear")
    assert.same({ "[8]" }, paths(nn.Linear))
    assert.same({ "b3[1]", "b4[1]" }, paths "^b[34]%[1%]$")
    assert.equal(56, #paths())
  end)

  it("prints and returns what it found", function()
    local text, ok, rows = printed(net.find, net, "b3.2.conv1")
    assert.is_true(ok)
    assert.same({ path = "b3[2].conv1", layer = "Conv2d(128, 128, 3, { padding = 1 })",
      module = net.b3[2].conv1, parameters = 128 * 128 * 9 + 128 }, rows[1])
    assert.truthy(text:find("b3[2].conv1 | Conv2d(128, 128, 3, { padding = 1 }) |    147,584", 1,
      true))
    assert.equal(text, tostring(rows))
  end)

  it("says when there is nothing, with the nearest", function()
    local text, _, rows = printed(net.find, net, "b9")
    assert.equal("no layer fits 'b9'; nearest: b1", text)
    assert.equal(0, #rows)
    assert.truthy(printed(net.find, net, "Conf2d"):find "nearest: b1%[1%], ")
    assert.truthy(printed(net.find, net, nn.Tanh):find "no layer fits 'Tanh'")
    assert.truthy(printed(net.find, net, "b3[("):find "no layer fits 'b3%[%('")
  end)
end)

describe("a report", function()
  it("is a plain list that the prompt does not print twice", function()
    local text, _, rows = printed(small().shapes, small(), { 1, 1, 6, 6 })
    assert.truthy(text:find("activation bytes", 1, true))
    assert.equal(text, tostring(rows))
    assert.is_true(report.is_report(rows))
    assert.is_true(report.was_printed(rows))
    assert.is_false(report.was_printed(rows))
    for key in pairs(rows) do assert.is_true(type(key) == "number" or key == "total", key) end
    local _, _, again = printed(small().shapes, small(), { 1, 1, 6, 6 })
    report.forget()
    assert.is_false(report.was_printed(again))
    assert.is_false(report.was_printed(quietly(small(), "shapes", { 1, 1, 6, 6 })))
    assert.is_false(report.is_report {})
    assert.is_false(report.was_printed(nil))
  end)
end)

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
    assert.equal("3 of 4 channels dead", marks_of(net)[2])
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

-- --------------------------------------------------------------------------------------- state

-- All that training goes on from, as a table that can be compared.
local function state_of(net)
  local state = { stream = tonumber(C.cnn_rng_stream()), grad = cnn.is_grad_enabled() }
  for name, node in net:named_modules() do state[name .. " training"] = node.training end
  for name, p in net:named_parameters() do
    state[name] = engine.list(p)
    state[name .. " grad"] = p.grad and engine.list(p.grad) or "none"
  end
  for name, buffer in net:named_buffers() do state[name] = engine.list(buffer) end
  return state
end

describe("probing leaves the net as it was:", function()
  local x, y = cnn.rand(4, 1, 6, 6), cnn.tensor { 1, 2, 3, 1 }

  local Fragile = nn.module "Fragile"
  function Fragile:forward(a)
    if self.fails and a.device ~= "meta" then self.fails() end
    return a * 1
  end

  -- In training, one layer in prediction, gradients of some parameters, one dropout drawn.
  local function lived_in()
    local net = small()
    net:add("last", Fragile())
    nn.CrossEntropyLoss()(net(x), y):backward()
    net[4].bias.grad = nil
    net.body[1]:eval()
    return net
  end

  local probes = {
    probe = function(net) quietly(net, "probe", x) end,
    ["probe with labels"] = function(net) quietly(net, "probe", x, { labels = y }) end,
    profile = function(net) quietly(net, "profile", x, { seconds = 0.001 }) end,
    ["profile of a prediction"] = function(net)
      quietly(net, "profile", x, { seconds = 0.001, training = false })
    end,
  }

  for name, probe in pairs(probes) do
    it(name, function()
      local net = lived_in()
      local before, mean = state_of(net), net.body[1].running_mean
      probe(net)
      assert.same(before, state_of(net))
      assert.is_true(rawequal(mean, net.body[1].running_mean))
    end)

    it(name .. ", in training mode with batch norm", function()
      local net = lived_in():train()
      local before = state_of(net)
      probe(net)
      assert.same(before, state_of(net))
    end)

    it(name .. " that fails", function()
      local net = lived_in():train()
      local before = state_of(net)
      net.last.fails = function() error "broken" end
      assert.is_false(pcall(probe, net))
      assert.same(before, state_of(net))
    end)

    it(name .. " that Ctrl-C ends", function()
      local net = lived_in():train()
      local before = state_of(net)
      net.last.fails = function() C.cnn_interrupt(1) end
      local ok, why = pcall(probe, net)
      C.cnn_interrupt(0)
      assert.is_false(ok)
      assert.truthy(tostring(why):find("interrupted", 1, true))
      net.last.fails = nil
      assert.same(before, state_of(net))
    end)
  end

  it("the gradient of x, and the mode in which gradients are", function()
    local net, input = small(), cnn.rand(2, 1, 6, 6)
    input.requires_grad = true
    quietly(net, "probe", input, { labels = cnn.tensor { 1, 2 } })
    assert.is_nil(input.grad)
    cnn.no_grad(function()
      quietly(net, "probe", input, { labels = cnn.tensor { 1, 2 } })
      assert.is_false(cnn.is_grad_enabled())
    end)
  end)

  it("the same training follows, probed or not", function()
    local function train(probed)
      cnn.manual_seed(7)
      local net = small()
      local opt = cnn.optim.SGD(net:parameters(), { lr = 0.1, momentum = 0.9 })
      for _ = 1, 3 do
        cnn.step(function()
          opt:zero_grad()
          nn.CrossEntropyLoss()(net(x), y):backward()
          opt:step()
        end)
        if probed then
          probes["probe with labels"](net)
          probes.profile(net)
        end
      end
      return state_of(net)
    end
    assert.same(train(false), train(true))
  end)

  it("layers that find their size do so, and no more", function()
    local function build(look_at)
      cnn.manual_seed(3)
      local net = nn.Sequential(nn.Conv2d(nil, 2, 3), nn.BatchNorm2d(nil), nn.Flatten(),
        nn.Linear(nil, 3))
      look_at(net)
      net:train()
      return state_of(net)
    end
    local expected = build(function(net) net:shapes(x, { quiet = true }) end)
    assert.same(expected, build(function(net) quietly(net, "probe", x) end))
    assert.same(expected, build(function(net)
      quietly(net, "profile", x, { seconds = 0.001 })
    end))
  end)

  it("buffers that are shared stay shared meanwhile", function()
    local count, net = cnn.zeros(1), nn.Sequential(nn.Identity(), nn.Identity())
    for _, layer in net:iter() do layer:buffer("count", count) end
    untouched(net, function()
      net[2].count = cnn.ones(1)
      assert.equal(1, net[1].count:item())
    end)
    assert.equal(0, net[1].count:item())
    assert.is_true(rawequal(count, net[2].count))
  end)

  it("untouched gives fn's results on, nils too", function()
    local n = select("#", untouched(small(), function(...) return ... end, 1, nil, nil))
    assert.equal(3, n)
  end)
end)

-- ---------------------------------------------------------------------------------------- taps

describe("net:tap", function()
  local x = cnn.rand(2, 1, 6, 6)

  it("sees output, input and path after each call, until it is removed", function()
    local net, seen = small():eval(), {}
    local handle = net:tap("net.body.2.conv", function(out, input, path)
      seen[#seen + 1] = { tostring(out:shape()), tostring(input:shape()), path }
    end)
    assert.equal("tap on body[2].conv Conv2d(2, 2, 3, { padding = 1 })", tostring(handle))
    net(x)
    assert.same({ "2x2x4x4", "2x2x4x4", "body[2].conv" }, seen[1])
    assert.equal(2, #seen)
    handle:remove()
    handle:remove()
    assert.truthy(tostring(handle):find " %(removed%)$")
    net(x)
    assert.equal(2, #seen)
  end)

  it("sees what the net itself gives, and changes nothing", function()
    local net, out = small():eval(), nil
    local handle = net:tap("net", function(given) out = given; return "ignored" end)
    assert.equal("tap on net", tostring(handle))
    local given = net(x)
    assert.is_true(rawequal(given, out))
  end)

  it("calls several in order; one may remove itself or another, or add one", function()
    local net, order, second = small():eval(), {}, nil
    local first
    first = net:tap("stem", function()
      order[#order + 1] = "first"
      first:remove()
      second:remove()
      net:tap("stem", function() order[#order + 1] = "fourth" end)
    end)
    second = net:tap("stem", function() order[#order + 1] = "second" end)
    net:tap("stem", function() order[#order + 1] = "third" end)
    net(x)
    assert.same({ "first", "third" }, order)
    net(x)
    assert.same({ "first", "third", "third", "fourth" }, order)
  end)

  it("names the tap's own line when it throws, and the net stays usable", function()
    local net = small():eval()
    local plain = net:tap("stem", function() error "boom" end)
    assert.truthy(errors.message(net, x):find "^[./]*spec/probes_spec.lua:%d+: boom$")
    plain:remove()
    local within = net:tap("body[2]", function(out) return out + cnn.ones(7) end)
    errors.expect("the tap on body%[2%]: add: expected shapes that broadcast", net, x)
    within:remove()
    assert.equal("2x3", tostring(net(x):shape()))
    errors.expect("net%[4%] Linear%(32, 3%): expected 32 features", function()
      local out = net(cnn.rand(2, 1, 7, 7))
      return out
    end)
  end)

  it("sees recorded steps and training, with the same result", function()
    local function train(tapped)
      cnn.manual_seed(5)
      local net, means = small(), {}
      if tapped then net:tap("stem", function(out) means[#means + 1] = out:mean():item() end) end
      local opt = cnn.optim.SGD(net:parameters(), { lr = 0.1 })
      for _ = 1, 2 do
        cnn.step(function()
          opt:zero_grad()
          nn.CrossEntropyLoss()(net(x), cnn.tensor { 1, 2 }):backward()
          opt:step()
        end)
      end
      return state_of(net), #means
    end
    local plain, tapped, count = (train(false)), train(true)
    assert.same(plain, tapped)
    assert.equal(2, count)
  end)

  it("is silent on shapes alone and while the library looks", function()
    local net, count = small(), 0
    net:tap("stem", function() count = count + 1 end)
    net:shapes(x, { quiet = true })
    quietly(net, "probe", x)
    quietly(net, "profile", x, { seconds = 0.001 })
    assert.equal(0, count)
    net(x)
    assert.equal(1, count)
  end)

  it("stays on its layer: shared, moved and taken out", function()
    local relu, seen = nn.ReLU(), {}
    local net = nn.Sequential(relu, nn.Identity(), relu)
    net:tap("[3]", function(_, _, path) seen[#seen + 1] = path end)
    net:to "cpu"
    net(x)
    assert.same({ "[3]", "[3]" }, seen)
    net:remove(3)
    net:remove(1)
    net(x)
    assert.equal(2, #seen)
  end)

  it("keeps no net alive, by its function or its handle", function()
    local weak = setmetatable({}, { __mode = "v" })
    local handle
    do
      local net = small()
      weak.net = net
      handle = net:tap("stem", function() return net end)
    end
    collectgarbage()
    collectgarbage()
    assert.is_nil(weak.net)
    handle:remove()
  end)

  it("refuses an unknown path, and what is no function", function()
    local net = small()
    errors.expect("net:tap%(path, fn%): no layer 'stam' in the net; nearest: stem", function()
      net:tap("stam", print)
    end)
    errors.expect("fn: expected a function, got nil", function() net:tap "stem" end)
    errors.expect("path: expected a string, got a function", function() net:tap(print) end)
  end)
end)

describe("looking from within a call", function()
  it("counts its own calls", function()
    local inner, rows = nn.Sequential(nn.ReLU(), nn.Sigmoid()), nil
    local Outer = nn.module "Outer"
    function Outer:forward(a) -- luacheck: ignore 212
      rows = { quietly(inner, "shapes", a), quietly(inner, "probe", a) }
      assert.is_false(pcall(inner.shapes, inner, { 0 / 0 }))
      return a
    end
    local x = cnn.rand(2, 3)
    assert.is_true(rawequal(x, nn.Sequential(Outer())(x)))
    assert.same({ "[1]", "[2]" }, { rows[1][1].path, rows[1][2].path })
    assert.same({ "[1]", "[2]" }, { rows[2][1].path, rows[2][2].path })
  end)
end)
