-- The numbers of PyTorch: every op, the optimizers and schedules, resizing, random numbers, and
-- the eight nets with the same weights on the same pictures. scripts/oracle.py makes the files.

local ffi = require "ffi"
local cnn = require "cnn"
local bind = require "cnn.bind"
local handle = require "cnn.handle"
local engine = require "spec.support.engine"
local compare = require "spec.support.compare"
local golden = require "spec.support.golden"
local scripts = require "spec.support.scripts"

local C = engine.C

-- A Lua list as the C array that compare takes.
local function array(list)
  return ffi.new("double[?]", math.max(1, #list), list), #list
end

local function assert_close(what, x, expected, tolerance, floor)
  local got, n = engine.values(x)
  assert.equal(#expected, n, what)
  local why = compare.close(got, (array(expected)), n, tolerance or 1e-5, floor or 1)
  assert.is_nil(why, why and what .. ": " .. why)
end

-- |a - b| <= allowed, or a failure that says all of it.
local function assert_within(what, got, expected, allowed)
  if not (math.abs(got - expected) <= allowed) then
    error(("%s: got %.9g, expected %.9g, allowed are %.3g"):format(what, got, expected, allowed), 0)
  end
end

-- ------------------------------------------------------------------------------------------ ops

local function shape_text(sizes)
  return #sizes == 0 and "()" or table.concat(sizes, "x")
end

local function make_input(input)
  local x
  if #input.shape == 0 then
    x = cnn.tensor(input.data[1])
  else
    x = cnn.tensor(input.data, input.shape, input.dtype and { dtype = input.dtype } or nil)
  end
  x = x:to(engine.device)
  if input.grad then x.requires_grad = true end
  return x
end

local function call_arguments(case, by_name)
  local function place(argument)
    if argument == false then return nil end
    if type(argument) == "string" and argument:sub(1, 1) == "$" then
      return by_name[argument:sub(2)]
    end
    if type(argument) ~= "table" then return argument end
    local list = {}
    for i, item in ipairs(argument) do list[i] = place(item) end
    return list
  end
  local list = {}
  for i = 1, #case.call do list[i] = place(case.call[i]) end
  return unpack(list, 1, #case.call)
end

local function check_op(case)
  local by_name = {}
  for _, input in ipairs(case.inputs) do by_name[input.name] = make_input(input) end
  local y = bind.ops[case.op](call_arguments(case, by_name))
  assert.equal(shape_text(case.output.shape), tostring(y:shape()))
  assert_close("the output", y, case.output.data)
  for name, data in pairs(case.after or {}) do
    assert_close(name .. " after the call", by_name[name], data)
  end
  if not case.gy then return end
  local seed = #case.output.shape == 0 and cnn.tensor(case.gy[1])
    or cnn.tensor(case.gy, case.output.shape)
  y:backward(seed:to(engine.device))
  for _, input in ipairs(case.inputs) do
    if input.grad then
      assert_close("the gradient of " .. input.name, by_name[input.name].grad, input.grad, 2e-5)
    end
  end
end

local cases = golden.read "ops"

describe("PyTorch's values", function()
  after_each(function() engine.use(nil) end)

  for _, case in ipairs(cases.ops) do
    it(("of %s, %s"):format(case.op, case.name), function()
      for _, variant in ipairs(engine.variants) do
        local ok, why = pcall(engine.with, variant, check_op, case)
        if not ok then error(variant .. ": " .. tostring(why), 0) end
      end
    end)
  end
end)

-- ------------------------------------------------------------------------- optimizers, schedules

local function check_optimizer(case)
  local p = cnn.tensor(case.start):to(engine.device)
  p.requires_grad = true
  local optimizer = cnn.optim[case.op]({ p }, case.args)
  for step, grad in ipairs(case.grads) do
    p.grad = cnn.tensor(grad):to(engine.device)
    optimizer:step()
    assert_close("after step " .. step, p, case.path[step], 4e-6)
  end
end

-- PyTorch's classes as the library's functions of time.
local make_schedule = {
  StepLR = function(s, a) return s.step(a.step_size, a.gamma) end,
  CosineAnnealingLR = function(s, a, lr) return s.cosine(a.T_max, a.eta_min / lr) end,
  LinearLR = function(s, a) return s.warmup(a.total_iters, nil, a.start_factor) end,
  WarmupCosine = function(s, a, lr)
    return s.warmup(a.total_iters, s.cosine(a.T_max, a.eta_min / lr), a.start_factor)
  end,
}

describe("PyTorch's optimizers", function()
  for _, case in ipairs(cases.optimizers) do
    local words = {}
    for key, value in pairs(case.args) do
      words[#words + 1] = key .. " " .. (type(value) == "table" and "set" or tostring(value))
    end
    table.sort(words)
    it(("%s (%s)"):format(case.op, table.concat(words, ", ")), function()
      for _, variant in ipairs(engine.variants) do engine.with(variant, check_optimizer, case) end
    end)
  end

  for i, case in ipairs(cases.schedules) do
    it(("schedule %d, %s"):format(i, case.op), function()
      local factor = make_schedule[case.op](cnn.optim.schedule, case.args, case.lr)
      for epoch, lr in ipairs(case.lrs) do
        assert_within("epoch " .. epoch, case.lr * factor(epoch - 1), lr, 1e-7)
      end
    end)
  end
end)

-- ------------------------------------------------------------------------ pictures, random numbers

describe("PyTorch's bilinear resizing", function()
  for _, case in ipairs(cases.resize) do
    local from = shape_text(case.input.shape)
    it(("of %s to %dx%d"):format(from, case.h, case.w), function()
      for _, dtype in ipairs { "u8", "f32" } do
        local here = cnn.tensor(case.input.data, case.input.shape, { dtype = dtype })
        for _, device in ipairs { "cpu", engine.has_card and "cuda" or nil } do
          local y = handle.wrap(C.cnn_resize(here:to(device), case.h, case.w)):to "cpu"
          assert.equal(shape_text(case.output.shape), tostring(y:shape()))
          if case.output.data then
            assert_close(dtype, y, case.output.data, 1e-6)
          else
            local picked, n = array(golden.at(y, case.output.at))
            local why = compare.close(picked, (array(case.output.value_at)), n, 2e-6, 1)
            assert.is_nil(why)
            assert_within("the mean", y:mean():item(), case.output.mean, 1e-5 * case.output.mean)
          end
        end
      end
    end)
  end
end)

describe("random numbers", function()
  for _, case in ipairs(cases.uniform) do
    it(("are Philox's for seed %.0f, stream %.0f"):format(case.seed, case.stream), function()
      local x = engine.list(golden.uniform(case.seed, case.stream, { #case.values }))
      for i, value in ipairs(case.values) do -- multiples of 2^-24, printed with nine digits
        assert.equal(math.floor(value * 2 ^ 24 + 0.5), x[i] * 2 ^ 24)
      end
    end)
  end

  for _, case in ipairs(cases.xavier) do
    it("start the weights " .. shape_text(case.shape) .. " within Xavier's bound", function()
      local out, into, kh, kw = unpack(case.shape)
      local layer = kh and cnn.nn.Conv2d(into, out, { kh, kw }) or cnn.nn.Linear(into, out)
      local largest = layer.weight:detach():abs():max():item()
      assert.is_true(largest <= case.bound * (1 + 1e-6), "beyond the bound")
      assert.is_true(largest > 0.8 * case.bound, "far within the bound")
    end)
  end
end)

-- ----------------------------------------------------------------------------------------- nets

local function check_parameters(net, g)
  local list = net:parameters()
  assert.equal(#g.parameters, #list)
  local count = 0
  for i, spec in ipairs(g.parameters) do
    assert.equal(shape_text(spec.shape), tostring(list[i]:shape()), "parameter " .. i)
    count = count + list[i]:numel()
    for k, value in ipairs(golden.at(list[i]:detach(), spec.at)) do
      assert_within(("parameter %d, value %d"):format(i, spec.at[k]), value, spec.value_at[k],
        1e-7 * math.abs(spec.value_at[k]))
    end
  end
  assert.equal(g.parameter_count, count)
end

-- A ReLU unit near zero that falls on the other side, by the rounding of the layers before it,
-- moves the gradients behind it as a whole: float32 PyTorch's own are up to grad_norm_error32 from
-- float64's (0.65 % of ResNet's first). As with the losses, 4 times that is allowed.
local function check_gradients(net, g)
  local largest = 0
  for _, spec in ipairs(g.parameters) do largest = math.max(largest, spec.grad_norm) end
  local name = net:named_parameters()
  for i, p in ipairs(net:parameters()) do
    local spec = g.parameters[i]
    local what = ("parameter %d, %s"):format(i, (name()))
    assert_within(what .. ", gradient norm", golden.norm(p.grad), spec.grad_norm,
      1e-3 * spec.grad_norm + 4 * spec.grad_norm_error32 + 1e-6 * largest)
    for k, value in ipairs(golden.at(p.grad, spec.at)) do
      assert_within(("%s, gradient at %d"):format(what, spec.at[k]), value, spec.grad_at[k],
        5e-3 * math.abs(spec.grad_at[k]) + 1e-3 * spec.grad_norm + 4 * spec.grad_norm_error32
          + 1e-6 * largest)
    end
  end
end

local function flat(rows)
  local list = {}
  for _, row in ipairs(rows) do
    for _, value in ipairs(row) do list[#list + 1] = value end
  end
  return list
end

-- 20 steps; the losses may be 4 times as far from float64 as float32 PyTorch's are.
local function check_training(net, g, batches)
  local optimizer = cnn.optim.SGD(net:parameters(), { lr = g.lr })
  local criterion = cnn.nn.CrossEntropyLoss()
  for step = 1, g.steps do
    local x, y = unpack(batches[(step - 1) % g.batches + 1])
    local loss, out = cnn.step(function()
      optimizer:zero_grad()
      local out = net(x)
      local loss = criterion(out, y)
      loss:backward()
      return loss, out
    end)
    if step == 1 then
      assert_close("logits", out, flat(g.logits), 1e-4, 1)
      assert_within("the first loss", loss:item(), g.losses[1], 1e-5 * g.losses[1])
      check_gradients(net, g)
    end
    assert_within("the loss of step " .. step, loss:item(), g.losses[step],
      4 * g.loss_error32[step] + 5e-6 * math.max(1, g.losses[step]))
    cnn.step(function() optimizer:step() end)
  end
end

local function check_net(name)
  local g = golden.read(name)
  local net = golden.prepare(scripts.recipe(name).net, g)
  local batches = golden.batches(g)
  assert.equal(g.batches, #batches)
  net:to(engine.device)
  for _, batch in ipairs(batches) do
    batch[1], batch[2] = batch[1]:to(engine.device), batch[2]:to(engine.device)
  end
  local labels = {}
  for _, batch in ipairs(batches) do
    for _, label in ipairs(engine.list(batch[2])) do labels[#labels + 1] = label end
  end
  assert.same(g.labels, labels)
  check_parameters(net, g)
  check_training(net, g, batches)
end

describe("the nets, beside PyTorch:", function()
  after_each(function() collectgarbage() end)

  for _, name in ipairs(golden.nets) do
    it(name .. " has the same parameters, logits, loss, gradients and 20 losses", function()
      if #engine.cpu_variants <= 2 and not name:find "lenet" then
        pending "needs a CPU with AVX2: 20 steps of naive convolutions take hours"
      end
      check_net(name)
    end)

    it(name .. " has them on a card", function()
      if not engine.has_card or engine.card_is_double and not name:find "lenet" then
        pending "needs a GPU: whole nets are too much for its host double"
      end
      engine.with(engine.card_variants[#engine.card_variants], check_net, name)
    end)
  end
end)
