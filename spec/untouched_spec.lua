-- Looking at a net leaves it as it was, however the look ends.

local cnn = require "cnn"
local guard = require "cnn.guard"
local interrupt = require "spec.support.interrupt"
local probing = require "spec.support.probing"
local untouched = require "cnn.probes.untouched"

local nn = cnn.nn
local quietly, small, state_of = probing.quietly, probing.small, probing.state_of

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
      net.last.fails = interrupt
      local ok, why = pcall(probe, net)
      guard.clear()
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

  it("gradients that a stopped step did not compute hinder nobody", function()
    local net = small()
    local failing = net:tap("[4]", function() error "stopped" end)
    net:zero_grad()
    pcall(cnn.step, function()
      local loss = net.stem(x):sum()
      loss:backward()
      net(x)
    end)
    failing:remove()
    assert.is_false(pcall(function() return net.stem.weight.grad:totable() end))
    assert.equal("4x3", quietly(net, "shapes", x).total.shape)
    assert.equal(8, #quietly(net, "probe", x))
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
