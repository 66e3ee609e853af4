-- Modules, layers, containers: registration in order, names, modes, sizes found at the first
-- input, shapes without computing, and errors that name the layer.

local cnn = require "cnn"
local nn = cnn.nn
local engine = require "spec.support.engine"
local errors = require "spec.support.errors"
local program = require "spec.support.program"

local expect = errors.expect

local function names_of(iterator)
  local names = {}
  for name in iterator do names[#names + 1] = name end
  return names
end

-- The block of the interface, as written there.
local Residual = nn.module "Residual"

function Residual:init(in_channels, channels, opt)
  opt = opt or {}
  self.conv1 = nn.Conv2d(in_channels, channels, 3, { padding = 1, stride = opt.strides })
  self.bn1   = nn.BatchNorm2d(channels)
  self.conv2 = nn.Conv2d(channels, channels, 3, { padding = 1 })
  self.bn2   = nn.BatchNorm2d(channels)
  if opt.use_1x1conv then
    self.conv3 = nn.Conv2d(in_channels, channels, 1, { stride = opt.strides })
  end
end

function Residual:forward(x)
  local y = self.bn1(self.conv1(x)):relu()
  y = self.bn2(self.conv2(y))
  if self.conv3 then x = self.conv3(x) end
  return (y + x):relu()
end

describe("a module", function()
  it("is a block of one's own in ten lines", function()
    local block = Residual(3, 6, { use_1x1conv = true, strides = 2 })
    assert.equal("4x6x3x3", tostring(block(cnn.rand(4, 3, 6, 6)):shape()))
    assert.same({
      "conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias", "conv2.weight", "conv2.bias",
      "bn2.weight", "bn2.bias", "conv3.weight", "conv3.bias",
    }, names_of(block:named_parameters()))
    assert.same({
      "bn1.running_mean", "bn1.running_var", "bn2.running_mean", "bn2.running_var",
    }, names_of(block:named_buffers()))
    assert.equal(10, #block:parameters())
    assert.is_true(nn.is_module(block) and block:is(Residual))
    local loss = block(cnn.rand(4, 3, 6, 6)):sum()
    loss:backward()
    for name, p in block:named_parameters() do assert.is_not_nil(p.grad, name) end
  end)

  it("has the gradient that differences show", function()
    cnn.manual_seed(1) -- where no ReLU has its kink inside a difference
    assert(cnn.gradcheck(Residual(2, 2), { cnn.randn(2, 2, 4, 4) }))
    local square_wrong = nn.op {
      forward = function(ctx, x)
        ctx:save(x)
        return x * x
      end,
      backward = function(ctx, dy) return dy * ctx.saved[1] end,
    }
    local ok, why = cnn.gradcheck(square_wrong, { cnn.rand(3) + 1 }, { names = { "x" } })
    assert.is_nil(ok)
    assert.truthy(why:find "x")
  end)

  it("finds parameters, buffers and children by assignment, in order", function()
    local Mixed = nn.module "Mixed"
    function Mixed:init()
      self.zeta = nn.Parameter(cnn.ones(2))
      self.not_trained = cnn.ones(2)
      self.alpha = nn.Linear(2, 3)
      self:buffer("seen", cnn.zeros(1))
      self.list = { nn.Linear(3, 3), nn.Linear(3, 3, { bias = false }) }
      self.number = 7
      self.beta = nn.Parameter(cnn.zeros(3))
    end
    function Mixed:forward(x)
      self.seen = self.seen + 1
      for _, layer in ipairs(self.list) do x = layer(x) end
      return x
    end
    local m = Mixed()
    assert.same({
      "zeta", "alpha.weight", "alpha.bias", "list.1.weight", "list.1.bias", "list.2.weight", "beta",
    }, names_of(m:named_parameters()))
    assert.same({ "seen" }, names_of(m:named_buffers()))
    m(cnn.ones(2, 3))
    m(cnn.ones(2, 3))
    assert.equal(2, m.seen:item())
    expect({ "seen", "expected 1, got 2" }, function() m.seen = cnn.ones(2) end)
    assert.is_false(m.seen.requires_grad)
  end)

  -- A module whose field `blocks` is given by fill(self).
  local function holder(fill)
    local Holder = nn.module "Holder"
    Holder.init = fill
    return Holder()
  end

  it("finds what is in tables, to any depth, in an order of their own", function()
    local function layer() return nn.Linear(1, 1, { bias = false }) end
    local m = holder(function(self)
      self.blocks = { second = layer(), first = layer(), { layer(), { deep = layer() } }, layer() }
      self.blocks.itself = self.blocks
      self.blocks.again = self.blocks[1]
      self.late = false
      self.late = { layer(), scale = nn.Parameter(cnn.ones(1)) }
      self.filled = {}
      for i = 1, 2 do self.filled[i] = layer() end
    end)
    assert.same({
      "blocks.1.1.weight", "blocks.1.2.deep.weight", "blocks.2.weight", "blocks.first.weight",
      "blocks.second.weight", "filled.1.weight", "filled.2.weight", "late.1.weight", "late.scale",
    }, names_of(m:named_parameters()))
    m:eval()
    assert.is_false(m.blocks.first.training or m.blocks[1][2].deep.training)
    m:to "meta"
    assert.equal("meta", m.blocks[1][2].deep.weight.device)
    assert.equal("meta", m.late.scale.device)
    assert.truthy(tostring(m):find("blocks.first: Linear", 1, true))
  end)

  it("takes tables of data as they are", function()
    local list = {}
    for i = 1, 2e5 do list = { value = i, next = list } end
    local m = holder(function(self) self.data, self.layer = { list, 7, "x" }, nn.Linear(1, 1) end)
    assert.same({ "layer.weight", "layer.bias" }, names_of(m:named_parameters()))
    assert.equal(7, m.data[2])
  end)

  it("names a layer that is in a table, also when it is called alone", function()
    local m = holder(function(self)
      self.blocks = {}
      self.blocks.first = nn.Linear(3, 3)
    end)
    expect("net.blocks.first Linear%(3, 3%): expected 3 features, got 2",
      function() m.blocks.first(cnn.ones(1, 2)):item() end)
  end)

  it("keeps shared what is shared when it moves", function()
    local a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.weight = a.weight
    a:buffer("seen", cnn.zeros(1))
    b.blocks = { tied = a.weight }
    a.weight.requires_grad = false
    local net = nn.Sequential(a, b):to "meta"
    assert.equal("meta", a.weight.device)
    assert.is_true(rawequal(a.weight, b.weight) and rawequal(a.weight, b.blocks.tied))
    assert.equal(3, #net:parameters())
    assert.is_false(a.weight.requires_grad)
    assert.is_true(a.bias.requires_grad)
  end)

  it("counts and names once what is shared", function()
    local layer = nn.Linear(4, 4)
    local net = nn.Sequential(layer, nn.ReLU(), layer)
    assert.same({ "1.weight", "1.bias" }, names_of(net:named_parameters()))
    assert.equal(20, net:shapes({ 1, 4 }, { quiet = true }).total.parameters)
    net(cnn.ones(1, 4)):sum():backward()
    assert.is_not_nil(layer.weight.grad)
  end)

  it("knows its mode", function()
    local net = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.BatchNorm1d(3)))
    assert.is_true(net.training and net[2][1].training)
    net:eval()
    assert.is_false(net.training or net[1].training or net[2][1].training)
    assert.same({ { 1, 1, 1 } }, nn.Sequential(nn.Dropout(0.9)):eval()(cnn.ones(1, 3)):totable())
    net:train()
    assert.is_true(net[2][1].training)
    net:eval()
    local before = net[2][1].running_mean:totable()
    net(cnn.rand(4, 3))
    assert.same(before, net[2][1].running_mean:totable())
  end)

  it("without a forward says so", function()
    local Empty = nn.module "Empty"
    expect("Empty.*no forward", function() Empty()(cnn.ones(1)) end)
  end)

  it("prints as it was made, with its children", function()
    local text = tostring(nn.Sequential(nn.Conv2d(1, 6, 5, { stride = 2 }), Residual(3, 6)))
    for _, line in ipairs {
      "Conv2d(1, 6, 5, { stride = 2 })", "Residual(3, 6)",
      "conv1: Conv2d(3, 6, 3, { padding = 1 })",
    } do
      assert.truthy(text:find(line, 1, true), line .. " is not in\n" .. text)
    end
  end)
end)

describe("nn.Sequential", function()
  it("is indexed, counted, iterated and extended", function()
    local a, b, c = nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)
    local net = nn.Sequential(a, b)
    assert.equal(net, net:add(c))
    assert.equal(3, #net)
    assert.equal(c, net[3])
    local seen = {}
    for i, layer in net:iter() do seen[i] = layer end
    assert.same({ a, b, c }, seen)
    assert.equal("4x1", tostring(net(cnn.rand(4, 2)):shape()))
  end)

  it("has children with names of their own", function()
    local net = nn.Sequential(nn.Linear(2, 3))
    net:add("head", nn.Linear(3, 1))
    assert.equal(net.head, net[2])
    assert.same({ "1.weight", "1.bias", "head.weight", "head.bias" },
      names_of(net:named_parameters()))
    expect("head", net.add, net, "head", nn.ReLU())
    expect("expected a layer, got the class ReLU", nn.Sequential, nn.ReLU)
    expect("expected a layer", net.add, net, 7)
  end)

  it("moves names with their layers", function()
    local stem, body, head = nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)
    local net = nn.Sequential():add("stem", stem):add(body):add("head", head)
    local parent = require("cnn.members").parent
    assert.equal(stem, net:remove(1))
    assert.is_nil(net.stem or parent(stem))
    assert.equal(head, net.head)
    assert.same({ "head.weight", "head.bias" }, names_of(net:named_parameters()))
    assert.equal(net, net:insert(1, "stem", stem))
    assert.equal(stem, net:insert(2, nn.Identity()).stem)
    assert.equal(head, net[4])
    assert.same({ "stem.weight", "stem.bias", "head.weight", "head.bias" },
      names_of(net:named_parameters()))
    assert.equal(head, net:remove "head")
    assert.equal(body, net:remove())
    assert.equal(2, #net)
    assert.equal("3x2", tostring(net(cnn.ones(3, 2)):shape()))
    expect("i: expected 1 to 2, got 3", net.remove, net, 3)
    expect("i: .*the string 'head'", net.remove, net, "head")
    expect("i: expected 1 to 3, got 4", net.insert, net, 4, body)
    expect("has a 'stem' already", net.insert, net, 1, "stem", body)
  end)

  it("has no holes", function()
    local net = nn.Sequential(nn.ReLU(), nn.Tanh())
    expect({ "net%[5%]", "1 to 3", "net:add" }, function() net[5] = nn.ReLU() end)
    expect("net%[0%]", function() net[0] = nn.ReLU() end)
    expect("net%[3%]: expected a layer, got 7", function() net[3] = 7 end)
    net[3] = nn.ReLU()
    assert.equal(3, #net)
    net[2] = nil
    expect("layer 2 is missing", function() net(cnn.ones(1)):item() end)
    net[1] = nil
    expect("layer 1 is missing", function() net(cnn.ones(1)):item() end)
    expect("the key 'conv'", function() nn.Sequential { conv = nn.ReLU(), nn.ReLU() } end)
    expect("argument 2: expected a layer, got nil",
      function() nn.Sequential { nn.ReLU(), nil, nn.ReLU() } end)
  end)

  it("can have a layer replaced", function()
    local net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    net[1] = nn.Linear(2, 5)
    assert.equal("1x5", tostring(net(cnn.rand(1, 2)):shape()))
    assert.equal("5x2", tostring(net:parameters()[1]:shape()))
  end)
end)

describe("the layer", function()
  -- made how, of an input of which sizes, gives which sizes
  local layers = {
    { "Conv2d", nn.Conv2d(1, 96, 11, { stride = 4, padding = 1 }), { 1, 1, 224, 224 },
      "1x96x54x54" },
    { "Conv2d, rectangular", nn.Conv2d(2, 4, { 3, 1 }, { stride = { 2, 1 }, padding = { 1, 0 } }),
      { 2, 2, 7, 5 }, "2x4x4x5" },
    { "Conv2d, groups", nn.Conv2d(4, 8, 3, { groups = 4, dilation = 2, bias = false }),
      { 1, 4, 9, 9 }, "1x8x5x5" },
    { "Linear", nn.Linear(6, 4), { 3, 6 }, "3x4" },
    { "MaxPool2d", nn.MaxPool2d(3, { stride = 2 }), { 1, 2, 7, 7 }, "1x2x3x3" },
    { "MaxPool2d, its stride", nn.MaxPool2d(2), { 1, 2, 7, 7 }, "1x2x3x3" },
    { "AvgPool2d", nn.AvgPool2d(2, { stride = 2 }), { 1, 2, 8, 8 }, "1x2x4x4" },
    { "AdaptiveAvgPool2d", nn.AdaptiveAvgPool2d(1), { 1, 2, 8, 8 }, "1x2x1x1" },
    { "BatchNorm2d", nn.BatchNorm2d(3), { 2, 3, 4, 4 }, "2x3x4x4" },
    { "BatchNorm1d", nn.BatchNorm1d(3), { 2, 3 }, "2x3" },
    { "LayerNorm", nn.LayerNorm { 3, 4 }, { 2, 3, 4 }, "2x3x4" },
    { "GroupNorm", nn.GroupNorm(2, 4), { 2, 4, 3, 3 }, "2x4x3x3" },
    { "Dropout", nn.Dropout(0.5), { 2, 3 }, "2x3" },
    { "Flatten", nn.Flatten(), { 2, 3, 4 }, "2x12" },
    { "ReLU", nn.ReLU(), { 2, 3 }, "2x3" },
    { "Sigmoid", nn.Sigmoid(), { 2, 3 }, "2x3" },
    { "Tanh", nn.Tanh(), { 2, 3 }, "2x3" },
    { "GELU", nn.GELU(), { 2, 3 }, "2x3" },
    { "SiLU", nn.SiLU(), { 2, 3 }, "2x3" },
    { "LeakyReLU", nn.LeakyReLU(0.2), { 2, 3 }, "2x3" },
    { "Softmax", nn.Softmax(), { 2, 3 }, "2x3" },
    { "Dropout, by name", nn.Dropout { p = 0.5 }, { 2, 3 }, "2x3" },
    { "Flatten, by name", nn.Flatten { start_dim = 3 }, { 2, 3, 4, 5 }, "2x3x20" },
    { "LeakyReLU, by name", nn.LeakyReLU { negative_slope = 0.2 }, { 2, 3 }, "2x3" },
    { "Softmax, by name", nn.Softmax { dim = 1 }, { 2, 3 }, "2x3" },
    { "Identity", nn.Identity(), { 2, 3 }, "2x3" },
  }
  for _, row in ipairs(layers) do
    local what, layer, sizes, output = unpack(row)
    it(what .. " gives the right sizes, computed or not", function()
      local y = layer(cnn.rand(sizes))
      assert.equal(output, tostring(y:shape()))
      assert.is_true(y:sum():item() - y:sum():item() == 0)
      assert.equal(output, tostring(layer(cnn.zeros(sizes, { device = "meta" })):shape()))
    end)
  end

  it("finds its input's size at the first input", function()
    local net = nn.Sequential(nn.Conv2d(nil, 4, 3), nn.BatchNorm2d(), nn.ReLU(), nn.Flatten(),
      nn.Linear(nil, 10))
    expect("no parameters yet", function() return net:parameters() end)
    net:shapes({ 1, 2, 5, 5 }, { quiet = true })
    assert.equal("4x2x3x3", tostring(net[1].weight:shape()))
    assert.equal("10x36", tostring(net[5].weight:shape()))
    assert.equal("2x10", tostring(net(cnn.rand(2, 2, 5, 5)):shape()))
  end)

  it("starts the same for the same seed", function()
    local function weights()
      cnn.manual_seed(9)
      local net = nn.Sequential(nn.Linear(5, 4), nn.Conv2d(2, 3, 3))
      return { engine.list(net[1].weight:detach()), engine.list(net[2].weight:detach()) }
    end
    assert.same(weights(), weights())
  end)

  -- what is typed, and what the line has to say
  local wrong = {
    { function() nn.Conv2d(1, 2, 3, { strid = 2 }) end,
      { "nn.Conv2d", "strid", "stride, padding" } },
    { function() nn.Conv2d(1, 2) end, "kernel" },
    { function() nn.Conv2d(1, 0, 3) end, "channels_out" },
    { function() nn.Conv2d("1", 2, 3) end, "the string '1'" },
    { function() nn.Conv2d(1, 2, 3, { stride = 0 }) end, "stride" },
    { function() nn.Conv2d(3, 4, 3, { groups = 2 }) end, "groups" },
    { function() nn.Linear(3) end, "features_out" },
    { function() nn.Linear(3, 4, 5) end, "options.*5" },
    { function() nn.Linear(3, 4, { bias = 1 }) end, "bias.*true or false" },
    { function() nn.MaxPool2d(0) end, "kernel" },
    { function() nn.Dropout(1.5) end, "p: expected a number in" },
    { function() nn.Dropout(1) end, "p: expected a number in" },
    { function() nn.BatchNorm2d(3, { momentum = 2 }) end, "momentum" },
    { function() nn.GroupNorm(2, 3) end, "divisor" },
    { function() nn.ReLU { inplace = true } end, "inplace" },
    { function() nn.Dropout(0.5, { inplace = true }) end, "nn.Dropout.*inplace" },
    { function() nn.Flatten(2, { end_dim = 3 }) end, "nn.Flatten.*end_dim" },
    { function() nn.AdaptiveAvgPool2d(1, { foo = 1 }) end, "nn.AdaptiveAvgPool2d.*foo" },
    { function() nn.LeakyReLU(0.1, { inplace = true }) end, "nn.LeakyReLU.*inplace" },
    { function() nn.Softmax(2, { dim = 1 }) end, "nn.Softmax.*dim" },
    { function() nn.LogSoftmax(2, { dim = 1 }) end, "nn.LogSoftmax.*dim" },
    { function() nn.Dropout { q = 0.5 } end, "nn.Dropout: unknown option 'q' %(known: p" },
    { function() nn.op { forward = print, backward = print, back = 1 } end, "nn.op.*'back'" },
    { function() nn.Identity { 1 } end, "nn.Identity" },
    { function() nn.init.normal(cnn.ones(2), 0, 1, { a = 1 }) end, "nn.init.normal.*'a'" },
    { function() nn.init.xavier_uniform(cnn.ones(2, 2), { gain = 2 }) end, "gain" },
    { function() nn.Parameter(cnn.ones(1), { grad = false }) end, "known: requires_grad" },
    { function() nn.module("Named", {}) end, "base: expected a class" },
    { function() nn.Parameter(3) end, "nn.Parameter" },
    { function() nn.module() end, "nn.module" },
    { function() cnn.optim.SGD({}, { lr = 1 }) end, "params" },
    { function() nn.Sequential(nn.Linear(2, 2)):to "nowhere" end, "nowhere" },
  }
  for i, row in ipairs(wrong) do
    it(("refuses wrong arguments, %d: %s"):format(i, tostring(type(row[2]) == "table" and row[2][1]
      or row[2])), function() expect(row[2], row[1]) end)
  end
end)

describe("an error in a net", function()
  -- A script of the user's, with a name and lines of its own.
  local function script(text)
    return assert(loadstring('local cnn = require "cnn"\nlocal nn = cnn.nn\n' .. text,
      "@models/mine.lua"))
  end

  it("names the layer, what was expected, what came and from where, and the user's line", function()
    local run = script [[
local net = nn.Sequential(nn.Conv2d(1, 128, 3, { padding = 1 }), nn.MaxPool2d(2, { stride = 2 }),
  nn.ReLU(), nn.Flatten(),
  nn.Linear(6400, 4096))
local x = cnn.zeros({ 1, 1, 10, 10 }, { device = "cpu" })
local y = net(x)
return y]]
    local message = errors.message(run)
    assert.equal("models/mine.lua:7: net[5] Linear(6400, 4096): expected 6400 features, got 3200 "
      .. "(1x128x5x5 flattened by net[4])", message)
  end)

  it("inside of blocks gives the path to it", function()
    local run = script [[
local Block = nn.module "Block"
function Block:init() self.conv = nn.Conv2d(3, 4, 3) end
function Block:forward(x)
  return self.conv(x)
end
local net = nn.Sequential(nn.Conv2d(1, 2, 1))
net:add("b1", nn.Sequential(nn.ReLU(), Block()))
local y = net(cnn.zeros(1, 1, 8, 8))
return y]]
    local message = errors.message(run)
    local what = "net.b1[2].conv Conv2d(3, 4, 3): expected 3 channels, got 2"
    assert.truthy(message:find(what, 1, true), message)
    assert.truthy(message:find "^models/mine.lua:%d+: ", message)
  end)

  it("in the user's own forward points to that line", function()
    local run = script [[
local Block = nn.module "Block"
function Block:forward(x)
  local y = x:narrow(2, 1, 1)
  return y + x:narrow(3, 1, 2)
end
return (Block()(cnn.zeros(1, 3, 5, 5)))]]
    local message = errors.message(run)
    assert.truthy(message:find("^models/mine.lua:6: Block"), message)
    assert.truthy(message:find("1x1x5x5", 1, true), message)
  end)

  it("in a tail call, which leaves no trace of its function, has that function's line", function()
    local run = script [[
local Flat = nn.module "Flat"
function Flat:forward(x)
  local y = x * 2
  return y:view(7, 7)
end
local Either = nn.module "Either"
function Either:init() self.conv = nn.Conv2d(3, 4, 3) end
function Either:forward(x)
  if x:dim() ~= 4 then
    return x:view(1, 3, 2, 2)
  end
  return self.conv(x)
end
local class, x = ...
local y = nn.Sequential(class == "Flat" and Flat() or Either())(x)
return y]]
    local message = errors.message(run, "Flat", cnn.ones(1, 3))
    assert.truthy(message:find("^models/mine.lua:6: net%[1%] Flat%(%): view: "), message)
    message = errors.message(run, "Either", cnn.ones(1, 2, 5, 5))
    assert.truthy(message:find("^models/mine.lua:10: net%[1%].conv Conv2d"), message)
  end)

  it("of an input that is too small says which size would do", function()
    local recipe = require "models.alexnet"
    local message = errors.message(function() return recipe.net(cnn.zeros(1, 1, 28, 28)) end)
    assert.truthy(message:find("MaxPool2d", 1, true) or message:find("Conv2d", 1, true), message)
    local side = tonumber(message:match "the net needs at least (%d+)x%1")
    assert.is_not_nil(side, message)
  end)

  it("leaves nothing behind", function()
    local net = nn.Sequential(nn.Linear(3, 4))
    for _ = 1, 3 do
      assert.is_false((pcall(net, cnn.ones(1, 5))))
      assert.equal("1x4", tostring(net(cnn.ones(1, 3)):shape()))
    end
    local message = errors.message(function() return cnn.ones(2) + cnn.ones(3) end)
    assert.is_nil(message:find("Linear", 1, true))
  end)

  it("is the same text on the GPU", function()
    if not engine.has_card then
      pending "needs a GPU: a net on cuda:0 that gets the wrong shape"
    end
    local run = script [[
local net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 4)):to(...)
local y = net(cnn.zeros({ 1, 1, 5, 5 }, { device = ... }))
return y]]
    local message = errors.message(run, "cpu")
    assert.truthy(message:find("expected 8 features, got 18", 1, true), message)
    assert.equal(message, errors.message(run, "cuda"))
  end)
end)

describe("net:shapes", function()
  local function printed(net, sizes)
    local lines, was = {}, print
    _G.print = function(line) lines[#lines + 1] = line end
    local ok, result = pcall(net.shapes, net, sizes)
    _G.print = was
    return table.concat(lines, "\n"), ok, result
  end

  it("prints a table and returns it, without computing", function()
    local net = require("models.vgg").net
    local before = tonumber(engine.C.cnn_bytes_alive())
    local text, ok, rows = printed(net, { 1, 1, 224, 224 })
    assert.is_true(ok)
    assert.equal(43093322, rows.total.parameters)
    assert.truthy(text:find("43,093,322", 1, true))
    assert.truthy(text:find("output shape", 1, true))
    assert.equal("1x16x112x112", rows[1].shape)
    assert.is_true(tonumber(engine.C.cnn_bytes_alive()) - before < 1e6)
  end)

  it("prints up to the layer that fails, and says what fails", function()
    local net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(10, 2), nn.ReLU())
    local text, ok, message = printed(net, { 1, 1, 8, 8 })
    assert.is_false(ok)
    assert.truthy(text:find("[2] Flatten", 1, true))
    assert.truthy(text:find "%[3%] Linear.*fails")
    assert.is_nil(text:find("[4]", 1, true))
    assert.truthy(message:find("expected 10 features, got 144", 1, true))
  end)

  it("counts the multiply-adds of the whole batch", function()
    local net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(36, 5))
    local rows = net:shapes({ 7, 2, 5, 5 }, { quiet = true })
    assert.equal(7 * (9 * 4 * 2 * 9 + 36 * 5), rows.total.macs)
    assert.equal(4 * 7 * 36, rows[1].bytes)
  end)

  it("changes neither mode nor running statistics", function()
    local net = nn.Sequential(nn.BatchNorm2d(2))
    net:shapes({ 2, 2, 3, 3 }, { quiet = true })
    assert.is_true(net.training)
    assert.same({ 0, 0 }, net[1].running_mean:totable())
  end)
end)

describe("a net's weights", function()
  teardown(program.sweep)

  it("are moved by net:to, kept by net:save and net:load", function()
    local net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    net(cnn.rand(5, 3))
    local file = program.file "net.safetensors"
    net:save(file)
    local other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert.equal("6 of 6 tensors matched", tostring(other:load(file)))
    local x = cnn.rand(2, 3)
    net:eval()
    other:eval()
    assert.same(net(x):totable(), other(x):totable())
    assert.equal("meta", other:to("meta")[1].weight.device)
  end)

  it("live on a GPU after net:to cuda", function()
    if not engine.has_card then pending "needs a GPU: parameters and buffers on cuda:0" end
    local net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    local x = cnn.rand(2, 1, 5, 5)
    local expected, weight = net(x):totable(), net[1].weight:totable()
    net:to "cuda"
    for _, p in net:named_parameters() do assert.equal("cuda:0", p.device) end
    for _, b in net:named_buffers() do assert.equal("cuda:0", b.device) end
    assert.same(weight, net[1].weight:totable())
    local y = net(x:to "cuda")
    assert.equal("cuda:0", y.device)
    assert.is_true(math.abs(y:sum():item() - cnn.tensor(expected):sum():item()) < 1e-3)
    y:sum():backward()
    assert.equal("cuda:0", net[1].weight.grad.device)
    local file = os.tmpname()
    net:save(file)
    local back = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)):load(file)
    assert.truthy(back)
    os.remove(file)
    assert.equal("cpu", net:to("cpu")[1].weight.device)
  end)
end)
