-- net:histogram: its counts are those of the values, its picture has the bars that they should
-- give, and the net is afterwards what it was.

local cnn = require "cnn"
local C = require "cnn.ffi".C
local engine = require "spec.support.engine"
local errors = require "spec.support.errors"
local pixels = require "spec.support.pixels"
local program = require "spec.support.program"

local nn = cnn.nn
local values, expect = engine.list, errors.expect

local BLUE, ORANGE = 0x1f77b4, 0xd66e14

local function small_net()
  return nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(),
    nn.Linear(5 * 4 * 4, 3))
end

-- The row of a path, of "weights" or of "activations".
local function row_at(h, path, of)
  for _, row in ipairs(h) do
    if row.path == path and row.of == (of or "weights") then return row end
  end
  error("no row of " .. path, 2)
end

-- What a row of these values has to be, counted one by one.
local function assert_row(row, list, n)
  local sum, squares, zeros, counts, finite = 0, 0, 0, {}, 0
  for k = 1, n do counts[k] = 0 end
  local low, high = math.huge, -math.huge
  for _, v in ipairs(list) do
    if v - v == 0 then
      finite, sum, squares = finite + 1, sum + v, squares + v * v
      low, high = math.min(low, v), math.max(high, v)
      if v == 0 then zeros = zeros + 1 end
    end
  end
  for _, v in ipairs(list) do
    if v - v == 0 then
      local k = math.min(n, math.floor((v - row.lo) / (row.hi - row.lo) * n) + 1)
      counts[k] = counts[k] + 1
    end
  end
  assert.equal(#list, row.count)
  assert.equal(low, row.min)
  assert.equal(high, row.max)
  local mean = sum / finite
  assert.is_true(math.abs(row.mean - mean) < 1e-5)
  assert.is_true(math.abs(row.std - math.sqrt(math.max(0, squares / finite - mean ^ 2))) < 1e-4)
  assert.is_true(math.abs(row.zeros - zeros / #list) < 1e-9)
  assert.is_true(math.abs(row.non_finite - (#list - finite) / #list) < 1e-9)
  assert.equal(n, #row.counts)
  local off = 0 -- a value at the edge of two parts may be in either
  for k = 1, n do off = off + math.abs(row.counts[k] - counts[k]) end
  assert.is_true(off <= 2, "the counts are others")
end

describe("net:histogram", function()
  teardown(program.sweep)

  it("counts the weights of each layer", function()
    local net = small_net()
    local h = net:histogram()
    local paths = {}
    for i, row in ipairs(h) do paths[i] = row.path end
    assert.same({ "[1].weight", "[2].weight", "[5].weight" }, paths)
    assert_row(h[1], values(net[1].weight), 40)
    assert_row(h[3], values(net[5].weight), 40)
    local all = net:histogram { all = true, bins = 7 }
    assert.equal(6, #all)
    assert_row(row_at(all, "[1].bias"), values(net[1].bias), 7)
  end)

  it("counts what each layer gives, and leaves containers out", function()
    local net, x = small_net(), cnn.randn(4, 2, 6, 6)
    net:eval()
    local h = net:histogram(x, { bins = 13 })
    net:train()
    local y = cnn.no_grad(function() return net[1](x) end)
    assert_row(row_at(h, "[1]", "activations"), values(y), 13)
    net:eval()
    local relu = cnn.no_grad(function() return net[3](net[2](y)) end)
    assert_row(row_at(h, "[3]", "activations"), values(relu), 13)
    assert.is_true(row_at(h, "[3]", "activations").zeros > 0.2)
    assert.equal(3 + 5, #h)
    assert.equal(4 * 3, row_at(h, "[5]", "activations").count)
    assert.equal(3 + 5, #net:histogram(x[1])) -- one picture
    assert.equal(3 + 5, #net:histogram((x * 50):to "u8"))
  end)

  it("tells calls of a shared layer apart, and blocks that do more than hand on", function()
    local Twice = nn.module "Twice"
    function Twice:init() self.conv = nn.Conv2d(2, 2, 3, { padding = 1 }) end
    function Twice:forward(x) return self.conv(self.conv(x)):relu() end
    local net = nn.Sequential(Twice())
    local h = net:histogram(cnn.randn(1, 2, 5, 5))
    local paths = {}
    for i, row in ipairs(h) do paths[i] = row.path end
    assert.same({ "[1].conv.weight", "[1].conv", "[1].conv, call 2", "[1]" }, paths)
    assert.is_true(h[4].zeros > 0)
  end)

  it("counts values that are not finite apart", function()
    local net = nn.Sequential(nn.Linear(6, 2))
    cnn.no_grad(function()
      net[1].weight:copy(cnn.tensor({ 0, 1, 2, 3, 0 / 0, 5, 1 / 0, 0, -1 / 0, -4, 2, 1 }, { 2, 6 }))
    end)
    local h = net:histogram { bins = 9 }
    assert_row(h[1], values(net[1].weight), 9)
    assert.equal(3, math.floor(h[1].non_finite * 12 + 0.5))
    assert.truthy(tostring(h):find "16.7 %% | +3\n", tostring(h))
    cnn.no_grad(function() net[1].weight:fill(0 / 0) end)
    h = net:histogram()
    assert.is_nil(h[1].mean)
    assert.truthy(tostring(h):find "| +%- | +%- | +%- | +%- | +| +12\n")
    pixels.of(h)
  end)

  it("draws one value and no values", function()
    local net = nn.Sequential(nn.Linear(4, 3))
    cnn.no_grad(function() net[1].weight:fill(0.5) end)
    local h = net:histogram { bins = 5 }
    assert.same({ 0, 0, 12, 0, 0 }, h[1].counts)
    assert.same({ 0, 1 }, { h[1].lo, h[1].hi })
    pixels.of(h)
    cnn.no_grad(function() net[1].weight:fill(0) end)
    pixels.of(net:histogram())
  end)

  it("takes layers by what net:find takes", function()
    local net = small_net()
    assert.equal(1, #net:histogram { layers = "5" })
    assert.equal("[1].weight", net:histogram({ layers = "Conv2d" })[1].path)
    local h = net:histogram(cnn.randn(1, 2, 6, 6), { layers = "ReLU" })
    assert.same({ "[3]", "ReLU", "activations" }, { h[1].path, h[1].kind, h[1].of })
    assert.truthy(tostring(h):find("  [3] ReLU ", 1, true))
    assert.equal("[5].weight", net:histogram({ layers = 5 })[1].path)
    expect("net:histogram: layers: no layer fits '7'; nearest", function()
      net:histogram { layers = 7 }
    end)
    expect("net:histogram: layers: what: expected a string, got true", function()
      net:histogram { layers = true }
    end)
    expect("net:histogram: layers: no layer fits 'Conv3d'; nearest: %[1%]",
      function() net:histogram { layers = "Conv3d" } end)
    expect("there are no weights in these layers; net:histogram%(x%) shows",
      function() net:histogram { layers = "ReLU" } end)
  end)

  it("refuses what it cannot take", function()
    local net = small_net()
    expect("x: expected a tensor N x C x H x W or C x H x W with values, got 5",
      function() net:histogram(5) end)
    expect("x: expected a tensor.*meta",
      function() net:histogram(cnn.zeros({ 1, 2, 6, 6 }, { device = "meta" })) end)
    expect("unknown option 'layer'.*did you mean 'layers'",
      function() net:histogram { layer = "1" } end)
    expect("bins: expected a whole number >= 1, got 0", function() net:histogram { bins = 0 } end)
    expect("bins: expected 1 to 1000, got 1001", function() net:histogram { bins = 1001 } end)
    expect("with values, got .*0x2x6x6", function() net:histogram(cnn.zeros(0, 2, 6, 6)) end)
    expect("net%[1%] Conv2d.*expected 2 channels, got 3",
      function() net:histogram(cnn.randn(1, 3, 6, 6)) end)
  end)

  it("leaves the net as it was, also when it fails", function()
    local net = small_net()
    net:add(nn.Dropout(0.5))
    local x, wrong = cnn.randn(4, 2, 6, 6), cnn.randn(4, 3, 6, 6)
    local loss = (net(x) * wrong:mean()):sum()
    loss:backward()
    local gradient, mean = values(net[1].weight.grad), values(net[2].running_mean)
    local stream = C.cnn_rng_stream()
    net[3]:eval()
    net:histogram(x)
    assert.is_false((pcall(net.histogram, net, wrong)))
    assert.same(gradient, values(net[1].weight.grad))
    assert.same(mean, values(net[2].running_mean))
    assert.equal(stream, C.cnn_rng_stream())
    assert.is_true(net.training and net[2].training and not net[3].training)
    assert.is_true(cnn.is_grad_enabled())
  end)

  it("finds the sizes that were left open", function()
    local net = nn.Sequential(nn.Conv2d(nil, 3, 3), nn.Flatten(), nn.Linear(nil, 2))
    assert.equal(2 + 3, #net:histogram(cnn.randn(2, 1, 6, 6)))
  end)
end)

-- The height of the bar of this colour in column x, above `bottom`.
local function bar(png, x, bottom, color)
  local height = 0
  while png:at(x, bottom - 1 - height) == color do height = height + 1 end
  return height
end

describe("the picture of histograms", function()
  teardown(program.sweep)

  it("has bars as high as the counts", function()
    local net = nn.Sequential(nn.Linear(10, 1))
    cnn.no_grad(function()
      net[1].weight:copy(cnn.tensor({ 1, 2, 2, 3, 3, 3, 3, 4, 4, 5 }, { 1, 10 }))
    end)
    local h = net:histogram { bins = 5 }
    assert.same({ 1, 2, 4, 2, 1 }, h[1].counts)
    local png, bottom = pixels.of(h), nil
    for y = 0, png.height - 1 do
      if png:at(14, y) == BLUE then bottom = y + 1 end
    end
    local heights = {}
    for k = 1, 5 do
      heights[k] = bar(png, 12 + math.floor((k - 0.6) * 168 / 5), bottom, BLUE)
    end
    assert.same({ 14, 28, 56, 28, 14 }, heights)
  end)

  it("has a panel for each of many layers, or says how many it leaves out", function()
    local layers = {}
    for i = 1, 100 do layers[i] = nn.Linear(2, 2) end
    local net = nn.Sequential(unpack(layers))
    local h = net:histogram(cnn.randn(3, 2))
    assert.equal(200, #h)
    local png = pixels.of(h)
    local panels = { [BLUE] = 0, [ORANGE] = 0 }
    assert.is_true(png.width < 1200 and png.height < 5000)
    for color in pairs(panels) do
      for y = 1, png.height - 1 do
        for x = 1, png.width - 2 do
          local above = png:at(x, y - 1) == color and png:at(x - 1, y - 1) ~= color
          if above and png:at(x, y) ~= color then -- the lower left corner of a bar
            panels[color] = panels[color] + 1
          end
        end
      end
      assert.is_true(panels[color] >= 96)
    end
    assert.truthy(tostring(h):find '... 80 more %(layers = "..." chooses%)\n200 histograms')
  end)

  it("is a table where the terminal has no pixels, in any width", function()
    local net, x = small_net(), cnn.randn(2, 2, 6, 6)
    local h = net:histogram(x)
    local write, parts = io.write, nil
    local function shown(options)
      parts = {}
      io.write = function(text) parts[#parts + 1] = text end -- luacheck: ignore 122
      local ok, why = pcall(h.show, h, options)
      io.write = write -- luacheck: ignore 122
      assert.is_true(ok, why)
      return table.concat(parts)
    end
    for _, columns in ipairs { 5, 20, 80, 200 } do
      for line in shown({ kind = "ascii", columns = columns }):gmatch "[^\n]+" do
        assert.is_true(#line <= columns)
      end
      local text = shown { kind = "blocks", columns = columns }
      for line in text:gmatch "[^\n]+" do
        assert.is_true(#line:gsub("[\128-\191]", "") <= columns)
      end
    end
    assert.truthy(shown({ kind = "blocks", columns = 80 }):find "█")
    assert.truthy(shown({ kind = "kitty", columns = 80 }):find "^\27_Ga=T")
  end)

  it("of a tensor of 4 million values takes less than 0.2 s", function()
    local net = nn.Sequential(nn.Linear(2000, 2000))
    net:histogram()
    local before = os.clock()
    net:histogram()
    assert.is_true(os.clock() - before < 0.2, os.clock() - before)
  end)
end)
