-- Optimizers and schedules beyond PyTorch's values (golden_spec.lua has those): options, state,
-- wrong arguments, and whether a small net learns.

local cnn = require "cnn"
local nn, optim = cnn.nn, cnn.optim
local engine = require "spec.support.engine"
local errors = require "spec.support.errors"

local expect, values = errors.expect, engine.list

local function parameter(list, grad)
  local p = nn.Parameter(cnn.tensor(list))
  if grad then p.grad = cnn.tensor(grad) end
  return p
end

local kinds = {
  { "SGD", { lr = 0.1, momentum = 0.9, nesterov = true } },
  { "Adam", { lr = 0.02 } },
  { "AdamW", { lr = 0.02, weight_decay = 0.1 } },
}

-- Two moons of points, which a line cannot part.
local function moons(n)
  local points, labels = {}, {}
  for i = 1, n do
    local angle, side = math.pi * i / n, i % 2
    points[#points + 1] = math.cos(angle) * (side == 0 and 1 or -1) + side
    points[#points + 1] = math.sin(angle) * (side == 0 and 1 or -1) + side * 0.3
    labels[i] = side + 1
  end
  return cnn.tensor(points, { n, 2 }), cnn.tensor(labels)
end

describe("an optimizer", function()
  for _, row in ipairs(kinds) do
    local name, options = unpack(row)
    local function make(params) return optim[name](params, options) end

    it(name .. " teaches a small net", function()
      cnn.manual_seed(1)
      local net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
      local x, y = moons(64)
      local opt, loss = make(net:parameters()), nil
      for _ = 1, 150 do
        opt:zero_grad()
        loss = nn.CrossEntropyLoss()(net(x), y)
        loss:backward()
        opt:step()
      end
      assert.is_true(loss:item() < 0.1, "the loss is " .. loss:item())
      local right = net(x):argmax(2):eq(y:view(-1, 1)):sum():item()
      assert.is_true(right >= 62, right .. " of 64 are right")
    end)

    it(name .. " goes on from its state with the same bits", function()
      local function steps(opt, p, from, to)
        for i = from, to do
          p.grad = cnn.tensor { 0.3 * i, -1 / i }
          opt:step()
        end
        return values(p:detach())
      end
      local p = parameter { 1, 2 }
      local all = steps(make { p }, p, 1, 6)
      local q = parameter { 1, 2 }
      local first = make { q }
      steps(first, q, 1, 3)
      local second = make { q }
      second:load_state(first:state())
      assert.same(all, steps(second, q, 4, 6))
    end)
  end

  it("leaves a parameter without gradient alone", function()
    local p, q = parameter({ 1 }, { 1 }), parameter { 5 }
    local opt = optim.SGD({ p, q }, { lr = 0.1, weight_decay = 0.5 })
    opt:step()
    assert.same({ 5 }, values(q:detach()))
    assert.is_true(math.abs(p:item() - (1 - 0.1 * 1.5)) < 1e-6)
    opt:zero_grad()
    assert.is_nil(p.grad)
    opt:step()
    assert.is_true(math.abs(p:item() - 0.85) < 1e-6)
  end)

  it("takes a new rate between steps", function()
    local p = parameter({ 1 }, { 1 })
    local opt = optim.SGD({ p }, { lr = 0.1 })
    opt:step()
    opt.lr = 0.5
    opt:step()
    assert.is_true(math.abs(p:item() - 0.4) < 1e-6)
    opt.lr = -1
    expect("lr.*%-1", opt.step, opt)
  end)

  it("updates weights that lie channels-last in memory", function()
    local conv = nn.Conv2d(2, 3, 3)
    local before = conv.weight:totable()
    conv(cnn.rand(1, 2, 5, 5)):sum():backward()
    local grad = conv.weight.grad:totable()
    optim.SGD(conv:parameters(), { lr = 0.5 }):step()
    local after = conv.weight:totable()
    for o = 1, 3 do
      for i = 1, 2 do
        local expected = before[o][i][2][3] - 0.5 * grad[o][i][2][3]
        assert.is_true(math.abs(after[o][i][2][3] - expected) < 1e-5)
      end
    end
  end)

  local p = parameter({ 1 }, { 1 })
  local wrong = {
    { "lr.*nil", function() optim.SGD({ p }) end },
    { "lr.*nan", function() optim.SGD({ p }, { lr = 0 / 0 }) end },
    { "lr.*%-0.1", function() optim.SGD({ p }, { lr = -0.1 }) end },
    { "lr.*inf", function() optim.Adam({ p }, { lr = math.huge }) end },
    { "unknown option 'momemtum'.*did you mean 'momentum'",
      function() optim.SGD({ p }, { lr = 1, momemtum = 0.9 }) end },
    { "nesterov", function() optim.SGD({ p }, { lr = 1, nesterov = 1 }) end },
    { "nesterov: expected a momentum above 0",
      function() optim.SGD({ p }, { lr = 1, nesterov = true }):step() end },
    { "betas", function() optim.Adam({ p }, { betas = { 0.9, 1 } }) end },
    { "betas", function() optim.Adam({ p }, { betas = 0.9 }) end },
    { "params.*nil", function() optim.SGD(nil, { lr = 1 }) end },
    { "params%[1%].*7", function() optim.SGD({ 7 }, { lr = 1 }) end },
    { "velocity.1.*expected 1, got 2", function()
      local tensors = { ["velocity.1"] = cnn.ones(2) }
      optim.SGD({ p }, { lr = 1 }):load_state { step = 1, tensors = tensors }
    end },
    { "no 'm.9'", function()
      optim.Adam({ p }):load_state { step = 1, tensors = { ["m.9"] = cnn.ones(1) } }
    end },
  }
  for i, row in ipairs(wrong) do
    it(("refuses wrong arguments, %d: %s"):format(i, row[1]), function() expect(row[1], row[2]) end)
  end
end)

describe("a schedule", function()
  local schedule = optim.schedule

  it("is a function of time alone", function()
    local warm = schedule.warmup(2, schedule.cosine(8, 0.1))
    local at = {}
    for time = 0, 10 do at[time] = warm(time) end
    for time = 10, 0, -1 do assert.equal(at[time], warm(time)) end
    assert.is_true(math.abs(at[2] - 1) < 1e-12 and math.abs(at[10] - 0.1) < 1e-12)
    assert.is_true(at[0] < at[1] and at[1] < at[2])
    assert.equal(0.1, warm(99))
    assert.equal(1, schedule.constant()(7))
    assert.equal(0.25, schedule.step(3, 0.5)(6.5))
  end)

  it("is refused with wrong arguments", function()
    expect("size", schedule.step, 0)
    expect("total", schedule.cosine, "x")
    expect("following.*7", schedule.warmup, 3, 7)
  end)
end)
