-- Optimizers and schedules beyond PyTorch's values (golden_spec.lua has those): options, state,
-- wrong arguments, and whether a small net learns.

local cnn = require "cnn"
local nn, optim = cnn.nn, cnn.optim
local optimizer = require "cnn.optimizer"
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

  for _, kind in ipairs(kinds) do
    it(kind[1] .. " works on after a first step that failed", function()
      local p = parameter { { 1, 2, 3 } }
      local opt = optim[kind[1]]({ p }, kind[2])
      local function try(label)
        opt:zero_grad()
        cnn.step(function()
          p:cross_entropy(cnn.tensor { label }):backward()
          opt:step()
        end)
      end
      expect("label", try, 4)
      assert.same({ 1, 2, 3 }, values(p:detach()))
      try(2)
      assert.are_not.same({ 1, 2, 3 }, values(p:detach()))
    end)
  end

  it("updates all parameters or, on Ctrl-C, none", function()
    local params, seen = {}, 0
    for i = 1, 4 do params[i] = parameter({ 1 }, { 1 }) end
    local opt = optim.SGD(params, { lr = 0.5 })
    local update = opt.update
    function opt:update(i, p)
      seen = seen + 1
      if i == 3 then engine.C.cnn_interrupt(1) end
      return update(self, i, p)
    end
    local ok = pcall(opt.step, opt)
    engine.C.cnn_interrupt(0)
    assert.is_false(ok)
    assert.equal(4, seen)
    for _, p in ipairs(params) do assert.same({ 1 }, values(p:detach())) end
  end)

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

  for _, name in ipairs { "Adam", "AdamW" } do
    it(name .. " counts the steps of each parameter, also in its state", function()
      local function steps(opt, p, q, from, to)
        for i = from, to do
          p.grad = cnn.tensor { 1 / i }
          q.grad = i > 4 and cnn.tensor { 0.5 } or nil
          opt:step()
        end
        return q:item()
      end
      local options = { lr = 0.01, weight_decay = 0 }
      local p, q = parameter { 1 }, parameter { 1 }
      local opt = optim[name]({ p, q }, options)
      local moved = 1 - steps(opt, p, q, 1, 5)
      assert.is_true(math.abs(moved - 0.01) < 1e-5, "the first step is " .. moved)
      local state = opt:state()
      assert.same({ 5, 1 }, state.counts)
      local a, b = parameter { p:item() }, parameter { q:item() }
      local second = optim[name]({ a, b }, options)
      second:load_state(state)
      assert.equal(steps(opt, p, q, 6, 8), steps(second, a, b, 6, 8))
      state.counts = nil -- as it was written before there were counts
      second:load_state(state)
      assert.same({ 5, 5 }, second:state().counts)
      state.counts = { 1 }
      expect("counts: expected 2 of them", second.load_state, second, state)
      state.counts = { 1, -1 }
      expect("counts%[2%]", second.load_state, second, state)
    end)
  end

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
    for name, arguments in pairs {
      step = { 3, 0.5 }, cosine = { 3, 0 }, constant = {}, warmup = { 3, schedule.constant(), 0 },
    } do
      table.insert(arguments, { last_epoch = 1 })
      expect("schedule." .. name .. ".*last_epoch", schedule[name], unpack(arguments))
    end
  end)
end)

describe("a recipe's", function()
  local net = nn.Linear(1, 1)

  local function chosen(train)
    train.lr, train.epochs = train.lr or 0.5, train.epochs or 1
    train.optimizer = train.optimizer or "sgd"
    return optimizer.new(net, train)
  end

  it("warm-up may be longer than its epochs", function()
    local opt = chosen { schedule = { "warmup", 2, "cosine" } }
    opt:schedule(0.5)
    assert.is_true(opt.lr > 0.5 / 3 and opt.lr < 0.5)
  end)

  it("schedule is checked", function()
    local cases = {
      { { "warmup", "x" }, "'warmup': expected a number from 0, got the string 'x'" },
      { { "warmup", -1 }, "'warmup': .*got %-1" },
      { { "warmup", 1, "cosine", 3 }, "'warmup' takes a list of 3 values" },
      { { "step", {} }, "'step': .*got a table" },
      { { "step", 3, 0.5, gamma = 1 }, "'step' takes a list of 3 values at most.*gamma" },
      { { "cosine", 0 / 0 }, "'cosine': .*got nan" },
      { { "constant", 1 }, "'constant' takes a list of 1 values" },
      { { "poly" }, ".*got the string 'poly'" },
      { { cnn.ones(2) }, ".*got the tensor f32%[2%]" },
    }
    for _, case in ipairs(cases) do
      local message = errors.message(chosen, { schedule = case[1] })
      assert.truthy(message:find("^the recipe's schedule:? ?" .. case[2]), message)
    end
  end)

  -- Takes `opt` (what is chosen) through its state, as a resumed run does.
  local function resume(opt, train)
    local saved, names = {}, {}
    for i, item in ipairs(opt:tensors()) do names[i], saved[item[1]] = item[1], item[2] end
    local again = chosen(train)
    again:restore(opt:counters(), names, function(name) return saved[name] end)
    return again
  end

  it("optimizer goes on from its state", function()
    local train = { optimizer = "adam" }
    local opt = chosen(train)
    net(cnn.ones(1, 1)):sum():backward()
    opt.inner:step()
    local again = resume(opt, train)
    assert.same({ 1, 1 }, again.inner.counts)
    assert.same(opt.inner:state().tensors["m.1"]:totable(),
      again.inner:state().tensors["m.1"]:totable())
  end)

  -- An optimizer of a script's own, with what it needs to go on unless `forgets`.
  local function own(forgets)
    return function(params, options)
      local opt = { lr = options.lr, momentum = options.momentum, params = params, seen = 0 }
      function opt:step() self.seen, self.mean = self.seen + 1, cnn.full({ 2 }, self.seen) end
      function opt.zero_grad() end
      if forgets then return opt end
      function opt:state() return { seen = self.seen, tensors = { mean = self.mean } } end
      function opt:load_state(state) self.seen, self.mean = state.seen, state.tensors.mean end
      return opt
    end
  end

  it("optimizer may be its own, with the recipe's settings and a state of its own", function()
    local train = { optimizer = own(), momentum = 0.7 }
    local opt = chosen(train)
    assert.equal(0.7, opt.inner.momentum)
    for _ = 1, 3 do opt.inner:step() end
    local again = resume(opt, train)
    assert.equal(3, again.inner.seen)
    assert.same(values(opt.inner.mean), values(again.inner.mean))
    opt.inner.seen = print
    assert.truthy(errors.message(opt.counters, opt):find "seen cannot be saved")
  end)

  it("optimizer without a state trains, and is not resumed in silence", function()
    local train = { optimizer = own "forgets" }
    local opt = chosen(train)
    opt.inner:step()
    assert.same({}, opt:tensors())
    assert.truthy(errors.message(resume, opt, train):find "has no state%(%) and load_state")
  end)
end)
