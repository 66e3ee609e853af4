-- bind.lua - makes a Lua function of every prototype in the catalogue of ops.
--
-- bind.ops is a table name -> function, bind.list the parsed catalogue. Tensors may be numbers
-- (constants) or nil (NULL), int and int64_t must be whole, a pointer with its length is one Lua
-- table, or the remaining arguments where it comes last. An op that answers int returns its first
-- tensor.
--
-- Surprising: the functions are generated as source text, one straight line of checks and a call,
-- because a loop over parameter kinds is what a binding's time otherwise goes to.

local ffi = require "ffi"
local engine = require "cnn.ffi"
local catalogue = require "cnn.catalogue"
local err = require "cnn.error"
local handle = require "cnn.handle"

local bind = { list = catalogue.parse(engine.header), ops = {} }

local MAX_AXES = 16 -- more than any op takes; the engine says so itself
local buffers = {
  axes = ffi.new("int[?]", MAX_AXES),
  sizes = ffi.new("int64_t[?]", MAX_AXES),
  list = ffi.new("cnn_tensor *[?]", MAX_AXES),
}
local list_room = MAX_AXES
local limits = { axes = 2 ^ 31 - 1, sizes = 2 ^ 53 } -- of the C type; beyond, it would wrap around

local expected = {
  tensor = "a tensor or a number",
  whole = "a whole number",
  number = "a number",
  string = "a string",
  axes = "whole numbers",
  sizes = "whole numbers",
  list = "a table of tensors",
}

-- The wrong argument `value` for parameter `index` of op: raises.
local function complain(op, index, value)
  local parameter = op.parameters[index]
  err.raise(("%s: %s: expected %s, got %s"):format(catalogue.signature(op), parameter.name,
    index == 1 and parameter.kind == "tensor" and "a tensor" or expected[parameter.kind],
    err.got(value)))
end

-- A number that comes first may come back as the result (x:contiguous() is x): it gets a tensor of
-- its own, and nobody can write into a constant that is kept.
local function tensor_of(op, index, value)
  if type(value) == "number" then
    return index == 1 and handle.scalar(value) or handle.constant(value)
  end
  if value ~= nil or index == 1 then complain(op, index, value) end
  return nil
end

local function put(op, index, kind, values, n)
  if n > MAX_AXES then err.raise(("%s: expected at most %d numbers, got %d")
    :format(catalogue.signature(op), MAX_AXES, n)) end
  local buffer, limit = buffers[kind], limits[kind]
  for i = 1, n do
    local v = values[i]
    if type(v) ~= "number" or v % 1 ~= 0 or v > limit or v < -limit then complain(op, index, v) end
    buffer[i - 1] = v
  end
  return buffer, n
end

-- (buffer, n) of whole numbers, from a table or from what is left of the arguments.
local function numbers_of(op, index, kind, ...)
  local first = ...
  if type(first) == "table" then return put(op, index, kind, first, #first) end
  return put(op, index, kind, { ... }, select("#", ...))
end

-- Only what the table itself holds: the buffer does not keep alive what an __index would make.
local function tensors_of(op, index, list)
  if type(list) ~= "table" then complain(op, index, list) end
  local n = #list
  if n > list_room then
    list_room = 2 * n
    buffers.list = ffi.new("cnn_tensor *[?]", list_room)
  end
  local buffer = buffers.list
  for i = 1, n do
    local x = rawget(list, i)
    if not handle.is_tensor(x) then complain(op, index, x) end
    buffer[i - 1] = x
  end
  return buffer, n
end

-- Lines that check and convert parameter i, and what is passed to C for it.
local convert = {}

function convert.tensor(i, p)
  return ("if not istype(ct, %s) then %s = tensor_of(op, %d, %s) end")
    :format(p.name, p.name, i, p.name), p.name
end

function convert.whole(i, p)
  return ("if type(%s) ~= 'number' or %s %% 1 ~= 0 or %s > %.0f or %s < -%.0f then " ..
    "complain(op, %d, %s) end"):format(p.name, p.name, p.name, p.limit, p.name, p.limit, i,
    p.name), p.name
end

function convert.number(i, p)
  return ("if type(%s) ~= 'number' then complain(op, %d, %s) end"):format(p.name, i, p.name),
    p.name
end

function convert.string(i, p)
  return ("if type(%s) ~= 'string' then complain(op, %d, %s) end"):format(p.name, i, p.name),
    p.name
end

function convert.axes(i, p, last)
  return ("local %s_p, %s_n = numbers_of(op, %d, '%s', %s)")
    :format(p.name, p.name, i, p.kind, last and "..." or p.name),
    ("%s_p, %s_n"):format(p.name, p.name)
end
convert.sizes = convert.axes

function convert.list(i, p)
  return ("local %s_p, %s_n = tensors_of(op, %d, %s)"):format(p.name, p.name, i, p.name),
    ("%s_p, %s_n"):format(p.name, p.name)
end

local function source_of(op)
  local names, lines, arguments = {}, {}, {}
  for i, p in ipairs(op.parameters) do
    local varargs = i == #op.parameters and (p.kind == "axes" or p.kind == "sizes")
    names[i] = varargs and "..." or p.name
    lines[i], arguments[i] = convert[p.kind](i, p, varargs)
  end
  local call = ("C.cnn_%s(%s)"):format(op.name, table.concat(arguments, ", "))
  local tensor = op.returns == "tensor"
  return ([[
local C, ct, istype, type, op, tensor_of, numbers_of, tensors_of, complain = ...
local wrap, fail, ran_out = select(10, ...)
return function(%s)
  %s
  local result = %s
  if result %s and ran_out() then result = %s end
  %s
end]]):format(table.concat(names, ", "), table.concat(lines, "\n  "), call,
    tensor and "== nil" or "~= 0", call, tensor and "return wrap(result)"
    or "if result ~= 0 then fail() end\n  return " .. names[1])
end

for _, op in ipairs(bind.list) do
  local make = assert(loadstring(source_of(op), err.chunk(op.name)))
  bind.ops[op.name] = make(engine.C, ffi.typeof("cnn_tensor"), ffi.istype, type, op, tensor_of,
    numbers_of, tensors_of, complain, handle.wrap, handle.fail, handle.ran_out)
end

return bind
