-- harness.lua - runs one case of the catalogue: an op, its inputs, its gradients.
--
-- harness.run(op, case, tensors, state) gives every number that the run made, as a list of
-- { what, values, count }: the output, each input's gradient, inputs that the op writes to.
-- Surprising: the seed of backward is not ones but noise, or a transposed gradient would pass.

local ffi = require "ffi"
local bind = require "cnn.bind"
local cnn = require "cnn"
local engine = require "spec.support.engine"
local inputs = require "spec.support.inputs"
local compare = require "spec.support.compare"

local C, NONE = engine.C, inputs.NONE
local harness = {}

-- ---------------------------------------------------------------------------------------- cases

-- The tensors of a case in order, also those inside of lists.
function harness.tensors(case)
  local list = {}
  for _, argument in ipairs(case) do
    if inputs.is_tensor(argument) then
      list[#list + 1] = argument
    elseif type(argument) == "table" then
      for _, item in ipairs(argument) do
        if inputs.is_tensor(item) then list[#list + 1] = item end
      end
    end
  end
  return list
end

local function text_of(argument)
  if type(argument) ~= "table" or inputs.is_tensor(argument) or argument == NONE then
    return tostring(argument)
  end
  local words = {}
  for i, item in ipairs(argument) do words[i] = text_of(item) end
  return "{" .. table.concat(words, ", ") .. "}"
end

-- "conv2d(f32[2x3x5x5], ..., 1, 1)": what one would type to see the failure again.
function harness.describe(op, case)
  local words = {}
  for i, argument in ipairs(case) do words[i] = text_of(argument) end
  return op .. "(" .. table.concat(words, ", ") .. ")"
end

-- The call's arguments with the tensors in their places.
local function arguments_of(case, tensors)
  local at, out = 0, {}
  local function place(argument)
    if argument == NONE then return nil end
    if inputs.is_tensor(argument) then
      at = at + 1
      return tensors[at]
    end
    if type(argument) == "table" then
      local list = {}
      for i, item in ipairs(argument) do list[i] = place(item) end
      return list
    end
    return argument
  end
  for i = 1, #case do out[i] = place(case[i]) end
  return out
end

function harness.call(op, case, tensors)
  return bind.ops[op](unpack(arguments_of(case, tensors), 1, #case))
end

-- ----------------------------------------------------------------------------------------- a run

function harness.wants_grad(row, spec)
  return row.grad ~= false and spec.grad ~= false and not spec.dtype
end

local function noise(x)
  local random, values = engine.random(99), {}
  for i = 1, x:numel() do values[i] = 2 * random() - 1 end
  return inputs.dense({ unpack(x:shape()) }, values)
end

function harness.backward(y)
  if C.cnn_backward(y, noise(y)) ~= 0 then error(ffi.string(C.cnn_error()), 0) end
end

local function add(results, what, x)
  local values, n = engine.values(x)
  results[#results + 1] = { what = what, values = values, n = n, shape = tostring(x:shape()) }
end

-- A leaf with these values: what an op gets, and what backward gives a gradient to.
local function leaf(row, spec, values, layout)
  local x = inputs.laid_out(spec, values, layout)
  if harness.wants_grad(row, spec) then x.requires_grad = true end
  return x
end

local function taken_as(tensors, as)
  local list = {}
  for i, x in ipairs(tensors) do list[i] = as and as(i, x) or x end
  return list
end

-- values: one flat list for each tensor. as(i, x), if given: what the op gets for tensor i.
function harness.run(op, row, case, values, layout, as)
  local specs, tensors, total = harness.tensors(case), {}, 0
  for i, spec in ipairs(specs) do
    tensors[i] = leaf(row, spec, values[i], layout)
    C.cnn_data(tensors[i])
    total = total + tensors[i]:numel()
  end
  cnn.manual_seed(3)
  if row.prepare then row.prepare(unpack(tensors)) end
  engine.poison(16 * total)
  local y = harness.call(op, case, taken_as(tensors, as))
  local results = {}
  add(results, "the output", y)
  if y.requires_grad and not row.writes then
    engine.poison(16 * total)
    harness.backward(y)
    for i, spec in ipairs(specs) do
      if harness.wants_grad(row, spec) then
        if tensors[i].grad then add(results, "the gradient of input " .. i, tensors[i].grad) end
      end
    end
  end
  engine.clean()
  for i in ipairs(specs) do add(results, "input " .. i .. " after the call", tensors[i]) end
  return results
end

-- The op on clones of its inputs, which nothing else needs. What is recorded as a step, where the
-- clones' memory may become the output's: "nothing", "the forward" or "all" with the backward.
-- The output, then the gradients.
function harness.run_on_clones(op, row, case, values, layout, recorded, as)
  local specs, tensors = harness.tensors(case), {}
  for i, spec in ipairs(specs) do tensors[i] = leaf(row, spec, values[i], layout) end
  cnn.manual_seed(3)
  if row.prepare then row.prepare(unpack(tensors)) end
  local function forward()
    local clones = {}
    for i, x in ipairs(tensors) do clones[i] = bind.ops.clone(x) end
    return harness.call(op, case, taken_as(clones, as))
  end
  local function all()
    local y = forward()
    if y.requires_grad then harness.backward(y) end
    return y
  end
  local y
  if recorded == "the forward" then y = cnn.step(forward) end
  if recorded == "all" then y = cnn.step(all) end
  if recorded == "nothing" then y = all() end
  if recorded == "the forward" and y.requires_grad then harness.backward(y) end
  local results = {}
  add(results, "the output", y)
  for i, x in ipairs(tensors) do
    if x.grad then add(results, "the gradient of input " .. i, x.grad) end
  end
  return results
end

-- The flat values that a layout gives the tensors of a case (an expanded one repeats some).
function harness.values_of(case, layout)
  local values = {}
  for i, spec in ipairs(harness.tensors(case)) do
    local own = inputs.values(spec, 17 * i)
    values[i] = layout == "expanded" and engine.list(inputs.laid_out(spec, own, layout)) or own
  end
  return values
end

-- nil, or what differs first between two runs; by bits when there is no tolerance.
function harness.difference(got, expected, tolerance, floor)
  if #got ~= #expected then
    return ("%d values instead of %d (a gradient is missing?)"):format(#got, #expected)
  end
  for i, e in ipairs(expected) do
    local g = got[i]
    if g.shape ~= e.shape then
      return ("%s has shape %s, expected %s"):format(e.what, g.shape, e.shape)
    end
    local why
    if tolerance then
      why = compare.close(g.values, e.values, e.n, tolerance, floor)
    else
      why = compare.equal(g.values, e.values, e.n)
    end
    if why then return e.what .. ": " .. why end
  end
end

-- ------------------------------------------------------------------------- the numeric gradient

-- The output's values for the inputs' values, in double.
local function forward(op, row, case, values)
  local tensors = {}
  for i, spec in ipairs(harness.tensors(case)) do tensors[i] = inputs.dense(spec, values[i]) end
  cnn.manual_seed(3)
  if row.prepare then row.prepare(unpack(tensors)) end
  return engine.values(harness.call(op, case, tensors))
end

-- For input `which`: sum(seed * dy/dx . direction) by central differences, and by backward.
function harness.gradient_pair(op, row, case, which, results)
  local step = row.step or 2 ^ -9
  local values = harness.values_of(case, "dense")
  local random, signs = engine.random(5 + which), {}
  for i = 1, #values[which] do signs[i] = random() < 0.5 and -1 or 1 end
  local function at(distance)
    local shifted = {}
    for i, v in ipairs(values[which]) do shifted[i] = v + distance * signs[i] end
    local all = { unpack(values) }
    all[which] = shifted
    return forward(op, row, case, all)
  end
  local above, n = at(step)
  local below = at(-step)
  local seed, numeric = engine.random(99), 0
  for i = 0, n - 1 do
    numeric = numeric + (2 * seed() - 1) * (above[i] - below[i]) / (2 * step)
  end
  local analytic, square = 0, 0
  for i = 0, results.n - 1 do
    analytic = analytic + results.values[i] * signs[i + 1]
    square = square + results.values[i] ^ 2
  end
  return numeric, analytic, math.sqrt(square)
end

return harness
