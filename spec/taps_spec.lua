-- net:tap: functions that see what a layer gives, and what looks at a net from within a call.

local cnn = require "cnn"
local errors = require "spec.support.errors"
local probing = require "spec.support.probing"

local nn = cnn.nn
local quietly, small, state_of = probing.quietly, probing.small, probing.state_of

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
    assert.truthy(errors.message(net, x):find "^[./]*spec/taps_spec.lua:%d+: boom$")
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
