-- gradcheck.lua - compares gradients with differences of the function's own values.
--
--   assert(cnn.gradcheck(fn, { x, w }, { names = { "x", "w" } }))
--
-- fn(x, w) returns a tensor of any shape, or is a module: its parameters are then checked too. The
-- answer is true, or nil and a line that says which input and which index is wrong.
--
-- The scalar under test is sum(r * fn(...)) with fixed random r, added up here in doubles. Each
-- input is first moved along random directions; only when one of those disagrees is every index
-- looked at. Differences are central, and extrapolated from two widths.
--
-- Surprising: across a kink (a relu's 0, a tie of maxima) differences mean nothing. So an index
-- that disagrees is tried again closer by, and is right where its two one-sided slopes bracket it.

local ffi = require "ffi"
local engine = require "cnn.ffi"
local argument = require "cnn.argument"
local autograd = require "cnn.autograd"
local err = require "cnn.error"
local handle = require "cnn.handle"
local module = require "cnn.module"
local tensor = require "cnn.tensor"

local C = engine.C
local DIRECTIONS = 3

-- A small generator of its own: a check must not move the engine's random streams.
local function generator(seed)
  return function() -- normal, by twelve uniforms
    local sum = -6
    for _ = 1, 12 do
      seed = (seed * 16807) % 2147483647
      sum = sum + seed / 2147483647
    end
    return sum
  end
end

local function read(x)
  local n = tonumber(C.cnn_numel(x))
  local values = ffi.new("double[?]", math.max(1, n))
  if C.cnn_read(x, values) ~= 0 then handle.fail() end
  return values, n
end

local function write(x, values, n)
  local data = ffi.new("float[?]", math.max(1, n))
  for i = 0, n - 1 do data[i] = values[i] end
  local count = ffi.new("int64_t[1]", n)
  local flat = handle.wrap(C.cnn_from_data(count, 1, "f32", data))
  autograd.no_grad(x.copy, x, flat:view(x:shape()))
end

-- "[2][1][3]" of a position in row-major order.
local function index_text(x, position)
  local shape, parts = x:shape(), {}
  for axis = #shape, 1, -1 do
    table.insert(parts, 1, "[" .. position % shape[axis] + 1 .. "]")
    position = math.floor(position / shape[axis])
  end
  return table.concat(parts)
end

-- What is differentiated: { name, tensor } for each f32 input and each parameter.
local function subjects(fn, inputs, names)
  local list = {}
  for i, x in ipairs(inputs) do
    if tensor.is_tensor(x) and x.dtype == "f32" then
      list[#list + 1] = { name = names[i] or "input " .. i, x = x }
    end
  end
  if module.is_module(fn) then
    for name, p in fn:named_parameters() do list[#list + 1] = { name = name, x = p } end
  end
  return list
end

-- The scalar sum(r * fn(inputs)), in double; every evaluation draws the same random numbers.
local function objective(fn, inputs)
  local stream = C.cnn_rng_stream()
  local weights = nil

  local function output()
    C.cnn_set_rng_stream(stream)
    local y = fn(unpack(inputs))
    if not tensor.is_tensor(y) then
      err.raise("cnn.gradcheck: fn: expected it to return a tensor, got " .. err.got(y))
    end
    return y
  end

  local function value()
    local y, n = read(autograd.no_grad(output))
    if not weights then
      local normal = generator(20240229)
      weights = ffi.new("double[?]", math.max(1, n))
      for i = 0, n - 1 do weights[i] = normal() end
    end
    local sum = 0
    for i = 0, n - 1 do sum = sum + weights[i] * y[i] end
    return sum
  end

  local function backward()
    value()
    local y = output()
    if not y.requires_grad then return end
    local seed = y:detach():clone()
    write(seed, weights, tonumber(C.cnn_numel(seed)))
    y:backward(seed)
  end

  return value, backward
end

-- The slope of value() when x moves along `direction`; and the two one-sided ones.
local function slope(value, x, start, n, direction, width)
  local moved = ffi.new("double[?]", math.max(1, n))
  local function at(t)
    for i = 0, n - 1 do moved[i] = ffi.cast("float", start[i] + t * direction[i]) end
    write(x, moved, n)
    return value()
  end
  local here = at(0)
  local far, near = at(width) - here, at(width / 2) - here
  local back_far, back_near = at(-width) - here, at(-width / 2) - here
  at(0)
  local wide, narrow = (far - back_far) / (2 * width), (near - back_near) / width
  return (4 * narrow - wide) / 3, near / (width / 2), -back_near / (width / 2)
end

local function close(a, b, options, scale)
  return math.abs(a - b) <= options.atol * scale + options.rtol * math.max(math.abs(a), math.abs(b))
end

-- Whether `found` is the slope of value() along `direction`, at one of three widths; and the slope.
local function agrees(found, value, subject, direction, options)
  local first
  for _, part in ipairs { 1, 1 / 4, 1 / 16 } do
    local numeric, right, left = slope(value, subject.x, subject.start, subject.n, direction,
      options.width * part)
    first = first or numeric
    if close(found, numeric, options, 1) then return true end
    local low, high = math.min(left, right), math.max(left, right)
    local slack = options.atol + options.rtol * math.max(math.abs(low), math.abs(high))
    local kink = high - low > 4 * slack
    if kink and found >= low - slack and found <= high + slack then return true end
  end
  return false, first
end

-- The worst wrong index of a subject, as text; nil when each is right.
local function wrong_index(value, subject, options)
  local direction = ffi.new("double[?]", math.max(1, subject.n))
  local worst, message = -1, nil
  for i = 0, subject.n - 1 do
    local found = subject.grad[i]
    direction[i] = 1
    local right, numeric = agrees(found, value, subject, direction, options)
    direction[i] = 0
    if not right then
      local gap = math.abs(found - numeric)
      if gap ~= gap then gap = math.huge end
      if gap > worst then
        worst = gap
        message = ("%s%s: gradient %.6g, by differences %.6g")
          :format(subject.name, index_text(subject.x, i), found, numeric)
      end
    end
  end
  return message
end

local function check(subject, value, options)
  local normal = generator(977)
  local direction = ffi.new("double[?]", math.max(1, subject.n))
  for _ = 1, DIRECTIONS do
    local expected, size = 0, 0
    for i = 0, subject.n - 1 do
      direction[i] = normal()
      expected = expected + direction[i] * subject.grad[i]
      size = size + direction[i] ^ 2
    end
    local numeric = slope(value, subject.x, subject.start, subject.n, direction, options.width)
    if not close(expected, numeric, options, math.sqrt(size)) then
      return wrong_index(value, subject, options)
    end
  end
end

local function run(fn, inputs, options)
  local list = subjects(fn, inputs, options.names)
  local value, backward = objective(fn, inputs)
  for _, subject in ipairs(list) do
    local x = subject.x
    subject.required, subject.before = x.requires_grad, x.grad
    x.requires_grad, x.grad = true, nil
    subject.start, subject.n = read(x)
  end
  backward()
  local failed
  for _, subject in ipairs(list) do
    local grad = subject.x.grad
    subject.grad = grad and read(grad) or ffi.new("double[?]", math.max(1, subject.n))
    failed = failed or check(subject, value, options)
  end
  for _, subject in ipairs(list) do
    subject.x.grad, subject.x.requires_grad = subject.before, subject.required
  end
  return failed
end

--- cnn.gradcheck(fn, inputs, { names = {}, width = 2^-5, rtol = 1e-2, atol = 1e-3 })
-- Compares the gradients of fn(unpack(inputs)) with differences of its values. fn is a function, or
-- a module, whose parameters are checked too. True, or nil and a line that says which input and
-- which index is wrong, the worst first: assert(cnn.gradcheck(block, { x })).
-- Shapes: inputs: a list of tensors; fn may give any shape
-- Options: names: what to call the inputs; width: of the differences; rtol: relative error that is
--   allowed; atol: absolute error that is allowed
-- Errors: inputs that are no table; fn that returns no tensor
-- Example: cnn.gradcheck(nn.Linear(3, 2), { cnn.rand(4, 3) }) --> true
-- See: nn.op, nn.module, cnnlua check
return function(fn, inputs, options)
  local who = "cnn.gradcheck"
  if type(inputs) ~= "table" then
    err.raise(who .. ": inputs: expected a table of tensors, got " .. err.got(inputs))
  end
  options = argument.options(who, options, { "names", "width", "rtol", "atol" })
  local failed = run(fn, inputs, {
    names = options.names or {},
    width = argument.number(who, "width", options.width or 2 ^ -5, 0),
    rtol = argument.number(who, "rtol", options.rtol or 1e-2, 0),
    atol = argument.number(who, "atol", options.atol or 1e-3, 0),
  })
  if failed then return nil, failed end
  return true
end
