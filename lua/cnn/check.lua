-- check.lua - cnnlua check: are the gradients of a script's blocks and ops right?
--
-- What a script may return, or a table of such, by name or as a list:
--
--   an nn.op, a module, a class of modules           its input is guessed, and said
--   { block = Residual(3, 6), input = { 2, 3, 8, 8 } }
--   { op = scale, inputs = { { 2, 3 }, cnn.rand(2, 3) } }     shapes, or the tensors themselves
--   a recipe                                         its whole net, one parameter after the other
--
-- Surprising: a net is moved along each parameter's own gradient, where the loss changes the most;
-- the slope there has to be the gradient's length. That finds what is wrong in two runs a parameter
-- and names the parameter; blocks and ops are checked index by index (cnn.gradcheck).

local C = require "cnn.ffi".C
local cnn = require "cnn"
local autograd = require "cnn.autograd"
local fail = require "cnn.fail"
local module = require "cnn.module"
local recipe = require "cnn.recipe"

local check = {}

local function shape_of(x) return tostring(x:shape()) end

-- ----------------------------------------------------------------------------- guessing an input

local input_shapes = {
  { 2, 3, 8, 8 }, { 2, 1, 8, 8 }, { 2, 4, 8, 8 }, { 2, 6, 8, 8 }, { 2, 3, 32, 32 }, { 2, 3 },
  { 4, 5 },
}
local class_arguments = { {}, { 3 }, { 3, 3 }, { 3, 6 }, { 2, 3, 4 }, { 3, 4, 5 } }
local op_inputs = { { { 2, 3, 4, 4 } }, { { 2, 3 } }, { { 2, 3 }, { 2, 3 } },
                    { { 2, 3, 4, 4 }, { 2, 3, 4, 4 } }, { { 2, 3 }, { 2, 3 }, { 2, 3 } } }

local function tensors_of(list)
  local tensors = {}
  for i, item in ipairs(list) do
    tensors[i] = cnn.is_tensor(item) and item or cnn.randn(unpack(item))
  end
  return tensors
end

-- Shapes that fit what the block is made of come first.
local function shapes_for(block)
  local list = {}
  for _, p in block:named_parameters() do
    if p:dim() == 4 then
      local side = math.max(8, 2 * p:size(3))
      list[#list + 1] = { 2, p:size(2), side, side }
    elseif p:dim() == 2 then
      list[#list + 1] = { 2, p:size(2) }
    elseif p:dim() == 1 then
      list[#list + 1] = { 2, p:size(1), 8, 8 }
      list[#list + 1] = { 4, p:size(1) }
    end
  end
  for _, shape in ipairs(input_shapes) do list[#list + 1] = shape end
  return list
end

local function input_of(block)
  local ok, shapes = pcall(shapes_for, block)
  for _, shape in ipairs(ok and shapes or input_shapes) do
    local fits, y = pcall(block, cnn.randn(unpack(shape)))
    if fits and cnn.is_tensor(y) then return { shape } end
  end
end

local function instance_of(class)
  for _, arguments in ipairs(class_arguments) do
    local ok, block = pcall(class, unpack(arguments))
    local inputs = ok and input_of(block)
    if inputs then return block, inputs end
  end
end

local function inputs_of_op(op)
  for _, inputs in ipairs(op_inputs) do
    local ok, y = pcall(op, unpack(tensors_of(inputs)))
    if ok and cnn.is_tensor(y) then return inputs end
  end
end

-- ---------------------------------------------------------------------------- collecting the cases

local HOW = "say how: { block = ..., input = { 2, 3, 8, 8 } } or { op = ..., inputs = { ... } }"

local function case_of_subject(name, subject, inputs)
  if module.is_class(subject) then
    local block, guessed = instance_of(subject)
    if not block then fail.run("%s cannot be made without knowing its arguments; %s", name, HOW) end
    subject, inputs = block, inputs or guessed
  elseif not inputs then
    inputs = module.is_module(subject) and input_of(subject) or autograd.is_op(subject)
      and inputs_of_op(subject)
    if not inputs then fail.run("no input was found that %s takes; %s", name, HOW) end
  end
  return { name = name, subject = subject, inputs = inputs }
end

local function is_subject(value)
  return module.is_module(value) or module.is_class(value) or autograd.is_op(value)
end

local function name_of(key, subject)
  if type(key) == "string" then return key end
  return module.is_module(subject) and subject:describe() or subject.kind or subject.name
end

local function add_cases(cases, key, value)
  if is_subject(value) then
    table.insert(cases, case_of_subject(name_of(key, value), value))
  elseif type(value) == "table" and value.net ~= nil and value.input ~= nil then
    local checked = recipe.check(value)
    table.insert(cases, { name = checked.name, net = checked.net, input = checked.input })
  elseif type(value) == "table" and is_subject(value.block or value.op) then
    local subject = value.block or value.op
    local inputs = value.inputs or value.input and { value.input }
    table.insert(cases, case_of_subject(name_of(key, subject), subject, inputs))
  elseif type(value) == "table" and not getmetatable(value) and key == nil then
    local keys = {}
    for inner in pairs(value) do keys[#keys + 1] = inner end
    table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
    for _, inner in ipairs(keys) do add_cases(cases, inner, value[inner]) end
  end
end

-- ------------------------------------------------------------------------------- a block or an op

-- Runs with gradients on, whoever asks: a layer may do something else where they are off.
local function with_gradients(fn, ...)
  local was = cnn.set_grad_enabled(true)
  local ok, y = pcall(fn, ...)
  cnn.set_grad_enabled(was)
  if not ok then error(y, 0) end
  return y
end

-- Narrower than gradcheck's own: a block has many relus, and each that changes sides is an error of
-- the differences. Those are accidents of the numbers drawn, a wrong gradient is wrong each time.
local LIMITS = { width = 2 ^ -8, rtol = 0.03, atol = 5e-3 }
local DRAWS = 3

-- true and what was compared, or nil and which index is wrong.
local function check_once(case)
  local inputs = tensors_of(case.inputs)
  local count, all, names, shapes = #inputs, {}, {}, {}
  for i, x in ipairs(inputs) do
    all[i], names[i], shapes[i] = x, "input " .. i, shape_of(x)
  end
  if module.is_module(case.subject) then
    case.subject:train()
    with_gradients(case.subject, unpack(inputs))
    for name, p in case.subject:named_parameters() do
      all[#all + 1], names[#all + 1] = p, name
    end
  end
  local function run(...)
    return with_gradients(case.subject, unpack({ ... }, 1, count))
  end
  local ok, why = cnn.gradcheck(run, all, {
    names = names, width = LIMITS.width, rtol = LIMITS.rtol, atol = LIMITS.atol,
  })
  if not ok then return nil, why end
  return true, ("on %s, %d gradients"):format(table.concat(shapes, ", "), #all)
end

local function check_case(case)
  local ok, what
  for _ = 1, DRAWS do
    ok, what = check_once(case)
    if ok then break end
  end
  return ok, what
end

-- ------------------------------------------------------------------------------------ a whole net

-- Changes of the loss that are tried: large against rounding, small against curvature. Where many
-- relus change sides the slope nears its limit with the width, and two widths give the limit.
local CHANGES = { 1e-2, 1e-3, 1e-4, 3e-5, 1e-5 }
local TOLERANCE = 0.05
local BATCH = 4
local NOTHING = 1e-4 -- a gradient that the loss's rounding hides, as a bias's before a batch norm

local function length_of(x)
  return cnn.no_grad(function() return x:norm():item() end)
end

-- The slope of the loss along a parameter's gradient, and the gradient's length.
local function slope_along(loss, p, grad, length, change)
  local start = p:detach():clone()
  local width = change / length
  local function at(t)
    cnn.no_grad(function() p:copy(start + grad * (t / length)) end)
    return loss():item()
  end
  local slope = (at(width) - at(-width)) / (2 * width)
  cnn.no_grad(function() p:copy(start) end)
  return slope
end

local function close(slope, length)
  return math.abs(slope - length) <= TOLERANCE * math.max(slope, length)
end

local function check_parameter(loss, name, p)
  local grad = p.grad and p.grad:detach():clone()
  local length = grad and length_of(grad) or 0
  if length ~= length then return ("%s: its gradient is not finite"):format(name) end
  if length < NOTHING then return nil end
  local last, last_change
  for _, change in ipairs(CHANGES) do
    local slope = slope_along(loss, p, grad, length, change)
    local limit = last and slope + (slope - last) * change / (last_change - change) or slope
    if close(slope, length) or close(limit, length) then return nil end
    last, last_change = slope, change
  end
  return ("%s: along its gradient the slope is %.6g, the gradient's length is %.6g"):format(name,
    last, length)
end

local function check_net(case)
  local net = case.net
  local x, y = require "cnn.made_up".batch(net, case.input, BATCH)
  local criterion = cnn.nn.CrossEntropyLoss()
  net:train()
  local stream = C.cnn_rng_stream()
  local function loss()
    C.cnn_set_rng_stream(stream)
    return with_gradients(cnn.step, function() return criterion(net(x), y) end)
  end
  net:zero_grad()
  loss():backward()
  local count = 0
  for name, p in net:named_parameters() do
    local wrong = check_parameter(loss, name, p)
    if wrong then return nil, wrong end
    count = count + 1
  end
  return true, ("on %s, %d parameters"):format(shape_of(x), count)
end

-- --------------------------------------------------------------------------------- the command

function check.check(options)
  recipe.prepare(options)
  local value = recipe.run_script(options.file)
  require "cnn.options".check()
  local cases = {}
  add_cases(cases, nil, value)
  if #cases == 0 then
    fail.run("%s returns nothing to check; it may return a module, an nn.op, a recipe, or %s",
      options.file, "{ block = ..., input = { 2, 3, 8, 8 } }, or a table of them")
  end
  local wrong, last = 0, nil
  for _, case in ipairs(cases) do
    local run = case.net and check_net or check_case
    local ok, what = run(case)
    if ok then
      print(("%s: right (%s)"):format(case.name, what))
    else
      wrong, last = wrong + 1, ("%s: %s"):format(case.name, what)
      print(("%s: WRONG: %s"):format(case.name, what))
    end
    io.flush()
  end
  if wrong > 0 then
    fail.run("wrong gradients: %d of %d; %s", wrong, #cases, last)
  end
end

return check
