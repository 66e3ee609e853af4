-- create.lua - new tensors: cnn.zeros, ones, full, rand, randn, arange, tensor.
--
-- Sizes are arguments or one table: cnn.zeros(2, 3), cnn.zeros({ 2, 3 }, options). A trailing table
-- of options takes dtype, device and requires_grad.
--
-- Surprising: nothing is filled or drawn here. A tensor gets memory and values when it is first
-- used, so cnn.zeros on the device "meta" costs nothing, whatever its sizes.

local ffi = require "ffi"
local engine = require "cnn.ffi"
local argument = require "cnn.argument"
local bind = require "cnn.bind"
local err = require "cnn.error"
local handle = require "cnn.handle"
local sizes_buffer = require "cnn.sizes".buffer

local C, wrap = engine.C, handle.wrap

local create = {}
local known = { "dtype", "device", "requires_grad" }

local function read_options(who, options)
  argument.options(who, options, known)
  for _, key in ipairs { "dtype", "device" } do
    if options[key] ~= nil and type(options[key]) ~= "string" then
      err.raise(("%s: %s: expected a string, got %s"):format(who, key, err.got(options[key])))
    end
  end
  argument.boolean(who, "requires_grad", options.requires_grad)
  return options
end

local function is_options(value)
  return type(value) == "table" and getmetatable(value) == nil and value[1] == nil
    and next(value) ~= nil
end

-- (buffer, n, options) of (2, 3, options), ({ 2, 3 }, options) or (options).
local function read_sizes(who, ...)
  local arguments, n = { ... }, select("#", ...)
  local options = {}
  if is_options(arguments[n]) or n > 1 and type(arguments[n]) == "table" then
    options = read_options(who, arguments[n])
    n = n - 1
  end
  local sizes = arguments
  if n == 2 and arguments[2] == nil and type(arguments[1]) == "table" then n = 1 end
  if n == 1 and type(arguments[1]) == "table" then
    sizes = arguments[1]
  else
    arguments[n + 1] = nil
    for i = 1, n do argument.whole(who, "size " .. i, arguments[i], 0) end
  end
  local buffer, count = sizes_buffer(who, sizes)
  return buffer, count, options
end

-- The tensor at p; the engine's reason under the name that the user called.
local function take(who, p)
  if p == nil then err.raise(who .. ": " .. ffi.string(C.cnn_error()):gsub("^%w+: ", "")) end
  return wrap(p)
end

local function finish(x, options)
  if options.dtype and options.dtype ~= "f32" then x = bind.ops.to(x, options.dtype) end
  if options.requires_grad then x.requires_grad = true end
  return x
end

local function filled(who, value, ...)
  local sizes, n, options = read_sizes(who, ...)
  local x = take(who, C.cnn_full(sizes, n, value, options.dtype or "f32",
    options.device or "cpu"))
  if options.requires_grad then x.requires_grad = true end
  return x
end

--- cnn.zeros(sizes, { dtype = "f32", device = "cpu", requires_grad = false })
-- A tensor of zeros. Sizes are numbers or one list: cnn.zeros(2, 3), cnn.zeros({ 2, 3 }, options).
-- Options: dtype: "f32", "bf16", "u8" or "i32"; device: "cpu", "cuda", "cuda:1", or "meta", which
--   has shapes and no values; requires_grad: whether backward gives it a gradient
-- Errors: a size that is no whole number from 0; a device that is not there
-- Example: cnn.zeros(2, 3) --> f32[2x3] cpu 0 0 0 0 0 0
-- See: cnn.ones, cnn.full, cnn.tensor
function create.zeros(...) return filled("cnn.zeros", 0, ...) end

--- cnn.ones(sizes, { dtype = "f32", device = "cpu", requires_grad = false })
-- A tensor of ones. Sizes are given as to cnn.zeros.
-- Options: as cnn.zeros
-- Errors: a size that is no whole number from 0; a device that is not there
-- Example: cnn.ones({ 2 }, { dtype = "i32" }) --> i32[2] cpu 1 1
-- See: cnn.zeros, cnn.full
function create.ones(...) return filled("cnn.ones", 1, ...) end

--- cnn.full(sizes, value, { dtype = "f32", device = "cpu", requires_grad = false })
-- A tensor that is `value` everywhere. The sizes are one list.
-- Options: as cnn.zeros
-- Errors: sizes that are no list; a value that is no number
-- Example: cnn.full({ 2, 2 }, 7) --> f32[2x2] cpu 7 7 7 7
-- See: cnn.zeros, x:fill
function create.full(sizes, value, options)
  if type(sizes) ~= "table" then
    err.raise("cnn.full(sizes, value): sizes: expected a table, got " .. err.got(sizes))
  end
  if type(value) ~= "number" then
    err.raise("cnn.full(sizes, value): value: expected a number, got " .. err.got(value))
  end
  return filled("cnn.full", value, sizes, options or {})
end

--- cnn.rand(sizes, { dtype = "f32", device = "cpu", requires_grad = false })
-- Random numbers, uniform in [0, 1). Sizes are given as to cnn.zeros; the numbers depend on
-- cnn.manual_seed and on how many random tensors were made since.
-- Options: as cnn.zeros
-- Errors: a size that is no whole number from 0; a device that is not there
-- Example: cnn.rand(1000):max():item() < 1 --> true
-- See: cnn.randn, cnn.manual_seed, nn.init.uniform
function create.rand(...)
  local sizes, n, options = read_sizes("cnn.rand", ...)
  return finish(take("cnn.rand", C.cnn_uniform(sizes, n, 0, 1, options.device or "cpu")), options)
end

--- cnn.randn(sizes, { dtype = "f32", device = "cpu", requires_grad = false })
-- Random numbers, normal with mean 0 and standard deviation 1. Sizes are given as to cnn.zeros.
-- Options: as cnn.zeros
-- Errors: a size that is no whole number from 0; a device that is not there
-- Example: cnn.randn(4, 3, 6, 6):shape() --> 4x3x6x6
-- See: cnn.rand, cnn.manual_seed, nn.init.normal
function create.randn(...)
  local sizes, n, options = read_sizes("cnn.randn", ...)
  return finish(take("cnn.randn", C.cnn_normal(sizes, n, 0, 1, options.device or "cpu")), options)
end

--- cnn.arange(first, last, step, { dtype = "f32", device = "cpu", requires_grad = false })
-- The numbers from `first` to `last` in steps of `step` (1), both ends included. One number alone
-- is the last: cnn.arange(5) is 1 2 3 4 5.
-- Options: as cnn.zeros
-- Errors: a step of 0; bounds that are not finite
-- Example: cnn.arange(1, 2, 0.25) --> f32[5] cpu 1 1.25 1.5 1.75 2
-- See: cnn.tensor, x:view
function create.arange(...)
  local arguments, n = { ... }, select("#", ...)
  local options = {}
  if is_options(arguments[n]) then
    options = read_options("cnn.arange", arguments[n])
    n = n - 1
  end
  local first, last, step = 1, arguments[1], 1
  if n >= 2 then first, last, step = arguments[1], arguments[2], n >= 3 and arguments[3] or 1 end
  argument.number("cnn.arange", "first", first)
  argument.number("cnn.arange", "last", last)
  argument.number("cnn.arange", "step", step)
  local x = take("cnn.arange", C.cnn_arange(first, last, step, options.device or "cpu"))
  return finish(x, options)
end

-- ------------------------------------------------------------------------- tensors of values

local c_types = { f32 = "float[?]", bf16 = "float[?]", u8 = "uint8_t[?]", i32 = "int32_t[?]" }
local ranges = { u8 = { 0, 255 }, i32 = { -2 ^ 31, 2 ^ 31 - 1 } }

local MAX_AXES = 8 -- as in the engine

local function place(indices, axis)
  local path = { "values" }
  for i = 1, axis - 1 do path[i + 1] = "[" .. indices[i] .. "]" end
  return table.concat(path)
end

-- Appends the numbers of nested tables to `flat`; `sizes` is filled on the way down the first
-- branch, and its field `depth` at the first number.
local function flatten(value, axis, indices, flat, sizes)
  local kind = type(value)
  if kind == "number" and not sizes[axis] then
    sizes.depth = axis - 1
    flat[#flat + 1] = value
    return
  end
  if kind ~= "table" or sizes.depth and axis > sizes.depth then
    local wanted = sizes[axis] and "ragged table: expected a table of " .. sizes[axis]
      or sizes.depth and "expected a number" or "expected a number or a table"
    err.raise(("cnn.tensor: %s at %s, got %s")
      :format(wanted, place(indices, axis), err.got(value)))
  end
  if axis > MAX_AXES then
    err.raise(("cnn.tensor: expected at most %d axes, got tables nested deeper"):format(MAX_AXES))
  end
  sizes[axis] = sizes[axis] or #value
  if #value ~= sizes[axis] then
    err.raise(("cnn.tensor: ragged table: expected %d values at %s, got %d")
      :format(sizes[axis], place(indices, axis), #value))
  end
  for i = 1, #value do
    indices[axis] = i
    flatten(value[i], axis + 1, indices, flat, sizes)
  end
end

local function check_range(dtype, flat)
  local range = ranges[dtype]
  if not range then return end
  for i = 1, #flat do
    local v = flat[i]
    if v % 1 ~= 0 or v < range[1] or v > range[2] then
      err.raise(("cnn.tensor: %g does not fit in %s, whole numbers from %d to %d")
        :format(v, dtype, range[1], range[2]))
    end
  end
end

--- cnn.tensor(values, shape, { dtype = "f32", device = "cpu", requires_grad = false })
-- A tensor of given values: nested tables of numbers, or a flat list and a shape.
-- Shapes: that of the tables' nesting, or `shape`, as x:view takes it
-- Options: as cnn.zeros
-- Errors: tables that are not of one length, with the place; a number that does not fit the dtype;
--   more than 8 axes
-- Example: cnn.tensor({ 1, 2, 3, 4, 5, 6 }, { 2, 3 }) --> f32[2x3] cpu 1 2 3 4 5 6
-- See: cnn.arange, x:totable
function create.tensor(values, shape, options)
  if options == nil and is_options(shape) then shape, options = nil, shape end
  options = read_options("cnn.tensor", options or {})
  local dtype, device = options.dtype or "f32", options.device or "cpu"
  if not c_types[dtype] then
    err.raise("cnn.tensor: dtype: expected f32, bf16, u8 or i32, got " .. err.got(dtype))
  end
  local flat, sizes = {}, {}
  flatten(values, 1, {}, flat, sizes)
  check_range(dtype, flat)
  local buffer, n = sizes_buffer("cnn.tensor", sizes)
  local data = ffi.new(c_types[dtype], math.max(1, #flat))
  for i = 1, #flat do data[i - 1] = flat[i] end
  local x = take("cnn.tensor", C.cnn_from_data(buffer, n, dtype == "bf16" and "f32" or dtype, data))
  if dtype == "bf16" then x = bind.ops.to(x, dtype) end
  if shape ~= nil then x = bind.ops.view(x, shape) end
  if device ~= "cpu" then x = bind.ops.to(x, device) end
  if options.requires_grad then x.requires_grad = true end
  return x
end

return create
