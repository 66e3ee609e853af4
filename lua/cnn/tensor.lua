-- tensor.lua - what a tensor does in Lua: methods, operators, fields, indexing.
--
-- The ops come from the header (bind.lua); here are those that need Lua: x:shape(), x:split(),
-- x:totable(), x[i], arithmetic with numbers, x.grad. tensor.methods lists all of them by name.
--
-- Surprising: adding or multiplying by a number is the engine's affine op, scale * x + shift;
-- dividing by one is not, because x * (1/3) and x / 3 differ in the last bit.

local ffi = require "ffi"
local engine = require "cnn.ffi"
local argument = require "cnn.argument"
local bind = require "cnn.bind"
local err = require "cnn.error"
local handle = require "cnn.handle"
local new_shape = require "cnn.shape"

local C, ops, istype = engine.C, bind.ops, ffi.istype
local tensor_type = ffi.typeof("cnn_tensor")
local wrap, fail, constant, is_tensor = handle.wrap, handle.fail, handle.constant, handle.is_tensor

local tensor = { is_tensor = is_tensor }
local methods = {}
tensor.methods = methods

for _, op in ipairs(bind.list) do
  if op.parameters[1].kind == "tensor" then methods[op.name] = ops[op.name] end
end

-- ------------------------------------------------------------------------------- questions

local function sizes_of(x)
  local sizes = {}
  for i = 1, C.cnn_dim(x) do sizes[i] = tonumber(C.cnn_size(x, i)) end
  return sizes
end

--- x:shape()
-- The sizes as a list that prints as 4x3x6x6, can be compared with == and be given to cnn.zeros and
-- x:view; x:shape():numel() is their product.
-- Example: cnn.zeros(4, 3):shape() == cnn.ones(4, 3):shape() --> true
-- See: x:size, x:dim, x:numel
function methods.shape(x) return new_shape(sizes_of(x)) end

--- x:dim()
-- The number of axes.
-- Example: cnn.zeros(4, 3, 6, 6):dim() --> 4
-- See: x:shape
function methods.dim(x) return C.cnn_dim(x) end

--- x:numel()
-- The number of elements.
-- Example: cnn.zeros(4, 3):numel() --> 12
-- See: x:shape
function methods.numel(x) return tonumber(C.cnn_numel(x)) end

local function check_axis(x, who, axis)
  local dim = C.cnn_dim(x)
  if type(axis) ~= "number" or axis % 1 ~= 0 or axis == 0 or math.abs(axis) > dim then
    err.raise(("%s: axis: expected 1 to %d, got %s"):format(who, dim, err.got(axis)))
  end
end

--- x:size(axis)
-- The size along an axis, from 1; -1 is the last axis. Without an axis x:shape().
-- Errors: an axis that x has not
-- Example: cnn.zeros(4, 3):size(2) --> 3
-- See: x:shape
function methods.size(x, axis)
  if axis == nil then return methods.shape(x) end
  check_axis(x, "x:size(axis)", axis)
  return tonumber(C.cnn_size(x, axis))
end

--- x:stride(axis)
-- How many elements apart in memory neighbours along an axis are.
-- Errors: an axis that x has not
-- Example: cnn.zeros(4, 3):stride(1) --> 3
-- See: x:contiguous, x:channels_last
function methods.stride(x, axis)
  check_axis(x, "x:stride(axis)", axis)
  return tonumber(C.cnn_stride(x, axis))
end

--- x:is_contiguous()
-- Whether the elements lie in memory row after row, without holes.
-- Example: cnn.zeros(4, 3):t():is_contiguous() --> false
-- See: x:contiguous
function methods.is_contiguous(x) return C.cnn_is_contiguous(x) ~= 0 end

local MOST_VALUES = 2 ^ 25 -- what Lua's own memory holds as tables

local one_value = ffi.new("double[1]")

--- x:item()
-- The value of a tensor with one element, as a number.
-- Errors: another number of elements; a tensor without values, on the device "meta"
-- Example: cnn.ones(2, 3):sum():item() --> 6
-- See: x:totable
function methods.item(x)
  if C.cnn_item(x, one_value) ~= 0 then fail() end
  return one_value[0]
end

--- x:totable()
-- All values as nested tables; a number for a tensor without axes.
-- Errors: more than 33,554,432 values
-- Example: #cnn.zeros(4, 3):totable()[1] --> 3
-- See: cnn.tensor, x:item
function methods.totable(x)
  local count = tonumber(C.cnn_numel(x))
  if count > MOST_VALUES then
    err.raise(("x:totable(): expected at most %d values, got %.0f (%s)"):format(MOST_VALUES, count,
      tostring(methods.shape(x))))
  end
  local values = ffi.new("double[?]", math.max(1, count))
  if C.cnn_read(x, values) ~= 0 then fail() end
  local sizes, at = sizes_of(x), 0
  local function build(axis)
    if axis > #sizes then
      at = at + 1
      return values[at - 1]
    end
    local list = {}
    for i = 1, sizes[axis] do list[i] = build(axis + 1) end
    return list
  end
  return build(1)
end

-- ------------------------------------------------------------------------ ops made of others

--- x:t()
-- The transpose of a matrix, in the same memory.
-- Shapes: AxB -> BxA
-- Errors: x with another number of axes than 2
-- Example: cnn.zeros(4, 3):t():shape() --> 3x4
-- See: x:transpose, x:permute
function methods.t(x)
  if C.cnn_dim(x) ~= 2 then
    err.raise("x:t(): expected 2 axes, got " .. tostring(methods.shape(x)))
  end
  return ops.transpose(x, 1, 2)
end

--- x:flatten(first = 1)
-- All axes from `first` on become one.
-- Shapes: AxBxC from 2 on -> AxBC
-- Errors: an axis that x has not
-- Example: cnn.zeros(4, 3, 6, 6):flatten(2):shape() --> 4x108
-- See: x:view, nn.Flatten
function methods.flatten(x, first)
  local sizes = sizes_of(x)
  first = first or 1
  if #sizes > 0 or first ~= 1 then check_axis(x, "x:flatten(first)", first) end
  if first < 0 then first = first + #sizes + 1 end
  local flat, rest = {}, 1
  for i = 1, first - 1 do flat[i] = sizes[i] end
  for i = first, #sizes do rest = rest * sizes[i] end
  flat[first] = rest
  return ops.view(x, flat)
end

--- x:split(size, axis = 1)
-- A list of views of x, each `size` long along the axis, the last one shorter where it must be.
-- Shapes: AxBxC -> sizexBxC, ...
-- Errors: a size below 1; an axis that x has not
-- Example: #cnn.zeros(10, 3):split(4) --> 3
-- See: x:narrow, cnn.cat
function methods.split(x, size, axis)
  axis = axis or 1
  argument.whole("x:split(size, axis)", "size", size, 1)
  check_axis(x, "x:split(size, axis)", axis)
  local pieces, total = {}, tonumber(C.cnn_size(x, axis))
  for start = 1, total, size do
    pieces[#pieces + 1] = ops.narrow(x, axis, start, math.min(size, total - start + 1))
  end
  return pieces
end

--- x:cpu()
-- The tensor on the CPU: x:to "cpu".
-- Shapes: any shape -> the same
-- Example: x:cpu().device --> "cpu"
-- See: x:to
function methods.cpu(x) return ops.to(x, "cpu") end

local pad = methods.pad

--- x:pad(sizes, value = 0)
-- See: cnn.cat, nn.Conv2d
function methods.pad(x, sizes, value) return pad(x, sizes, value or 0) end

-- ------------------------------------------------------------------------------- operators

local function operand(symbol, value)
  if is_tensor(value) then return value end
  if type(value) == "number" then return constant(value) end
  err.raise(("tensor %s: expected a tensor or a number, got %s"):format(symbol, err.got(value)))
end

local meta = {}

--- x[i]
-- Tensors in expressions: x + y, x - y, x * y, x / y, x ^ y and -x work element by element, with
-- numbers too; #x is the first size. x[i] is a view of index i of the first axis, x[-1] of its
-- last; x[i] = y writes in place.
-- Shapes: AxBxC -> BxC; of arithmetic as x:add
-- Errors: an index that is not in 1 .. #x; shapes that do not broadcast
-- Example: cnn.tensor({ { 1, 2 }, { 3, 4 } })[2] * 10 --> f32[2] cpu 30 40
-- See: x:narrow, x:select, x:add
function meta.__add(a, b)
  if type(b) == "number" then return ops.affine(a, 1, b) end
  if type(a) == "number" then return ops.affine(b, 1, a) end
  return ops.add(operand("+", a), operand("+", b))
end

function meta.__sub(a, b)
  if type(b) == "number" then return ops.affine(a, 1, -b) end
  if type(a) == "number" then return ops.affine(b, -1, a) end
  return ops.sub(operand("-", a), operand("-", b))
end

function meta.__mul(a, b)
  if type(b) == "number" then return ops.affine(a, b, 0) end
  if type(a) == "number" then return ops.affine(b, a, 0) end
  return ops.mul(operand("*", a), operand("*", b))
end

function meta.__div(a, b) return ops.div(operand("/", a), operand("/", b)) end

function meta.__pow(a, b)
  if type(b) == "number" then return ops.power(a, b) end
  return ops.pow(operand("^", a), operand("^", b))
end

function meta.__unm(x) return ops.neg(x) end

function meta.__len(x)
  if C.cnn_dim(x) == 0 then err.raise("#x: a tensor without axes has no length") end
  return tonumber(C.cnn_size(x, 1))
end

function meta.__tostring(x) return require("cnn.format").text(x) end

-- ------------------------------------------------------------------------ fields and indices

local fields = {} -- name -> reader
local setters = {} -- name -> writer

--- x.dtype
-- "f32", "bf16", "u8" or "i32".
-- Errors: it cannot be set; x:to "u8" gives another tensor
-- Example: y.dtype --> "i32"
-- See: x:to
function fields.dtype(x) return ffi.string(C.cnn_dtype(x)) end

--- x.device
-- "cpu", "cuda:0" and so on, or "meta": shapes without values.
-- Errors: it cannot be set; x:to "cuda" gives another tensor
-- Example: x.device --> "cpu"
-- See: x:to, net:to
function fields.device(x) return ffi.string(C.cnn_device(x)) end

--- x.requires_grad
-- Whether backward computes a gradient of it; can be set. What is computed from such a tensor
-- requires one, too.
-- Errors: what is not true or false; a computed tensor, or one of another dtype than f32
-- Example: net(x).requires_grad --> true
-- See: x.grad, x:backward, x:detach, nn.Parameter
function fields.requires_grad(x) return C.cnn_requires_grad(x) ~= 0 end

function setters.requires_grad(x, on)
  if type(on) ~= "boolean" then
    err.raise("x.requires_grad: expected true or false, got " .. err.got(on))
  end
  if C.cnn_set_requires_grad(x, on and 1 or 0) ~= 0 then fail() end
end

--- x.grad
-- The gradient that backward has added up here, a tensor of x's shape, or nil; can be set.
-- Errors: a tensor of another shape
-- Example: w = cnn.ones(2, { requires_grad = true })
--   (w * 3):sum():backward()
--   w.grad --> f32[2] cpu 3 3
-- See: x:backward, net:zero_grad, opt:zero_grad
function fields.grad(x)
  local grad = C.cnn_grad(x)
  if grad == nil then return nil end
  return wrap(grad)
end

function setters.grad(x, grad)
  if grad ~= nil and not is_tensor(grad) then
    err.raise("x.grad: expected a tensor or nil, got " .. err.got(grad))
  end
  if C.cnn_set_grad(x, grad) ~= 0 then fail() end
end

tensor.fields = fields

local function unknown(name)
  local known = {}
  for key in pairs(methods) do known[#known + 1] = key end
  for key in pairs(fields) do known[#known + 1] = key end
  table.sort(known)
  local hint = argument.nearest(tostring(name), known)
  err.raise(("a tensor has no field or method '%s'%s"):format(tostring(name),
    hint and " (did you mean '" .. hint .. "'?)" or ""))
end

local function select_first(x, i)
  if i % 1 ~= 0 then err.raise("x[i]: expected a whole number, got " .. err.got(i)) end
  return wrap(C.cnn_select(x, 1, i))
end

function meta.__index(x, key)
  local method = methods[key]
  if method then return method end
  if type(key) == "number" then return select_first(x, key) end
  local read = fields[key]
  if read then return read(x) end
  return unknown(key)
end

-- x[i] = tensor or number writes in place; x.requires_grad and x.grad can be set.
function meta.__newindex(x, key, value)
  if type(key) == "number" then
    local part = select_first(x, key)
    if type(value) == "number" then
      methods.fill(part, value)
    else
      methods.copy(part, value)
    end
  elseif setters[key] then
    setters[key](x, value)
  elseif fields[key] then
    err.raise(("x.%s cannot be set; x:to(where) gives a tensor elsewhere"):format(key))
  else
    unknown(key)
  end
end

ffi.metatype(tensor_type, meta)

-- x.shape() instead of x:shape() has to be an error, not a crash in C; bind's ops see to it
-- themselves.
local function checked(name, method)
  return function(x, ...)
    if not istype(tensor_type, x) then
      err.raise(("x:%s(): expected a tensor, got %s (a dot instead of a colon?)")
        :format(name, err.got(x)))
    end
    return method(x, ...)
  end
end

for name, method in pairs(methods) do
  if ops[name] ~= method then methods[name] = checked(name, method) end
end

-- For methods that live in other files.
function tensor.define(name, method) methods[name] = checked(name, method) end

return tensor
