-- autograd.lua - x:backward(), cnn.no_grad, and ops that are written in Lua.
--
--   local double = nn.op {
--     name = "double",
--     forward = function(ctx, x) return x * 2 end,
--     backward = function(ctx, dy) return dy * 2 end,   -- one gradient for each tensor argument
--   }
--
-- forward and backward run with gradients off. ctx is one table a call; ctx:save(a, b) keeps values
-- under ctx.saved, ctx.needs[i] tells whether argument i's gradient is wanted.
--
-- Surprising: C never calls Lua (LuaJIT cannot survive a callback from compiled code). backward
-- comes back at such an op with its number; its gradient is found here and handed in.

local ffi = require "ffi"
local engine = require "cnn.ffi"
local argument = require "cnn.argument"
local err = require "cnn.error"
local handle = require "cnn.handle"
local tensor = require "cnn.tensor"

local C, wrap, fail, is_tensor = engine.C, handle.wrap, handle.fail, handle.is_tensor

local autograd = {}

local calls = {} -- number -> { op =, ctx =, shapes = }, of the Lua ops in a graph
local last_number = 0

-- ------------------------------------------------------------------------------- switching

local function restore(was, ok, ...)
  C.cnn_set_grad_enabled(was)
  if not ok then error((...), 0) end
  return ...
end

--- cnn.no_grad(fn, ...)
-- Calls fn(...) without recording what backward would need, and returns its results. Gradients are
-- on again afterwards, also when fn fails.
-- Errors: fn that is no function: cnn.no_grad(function() ... end)
-- Example: cnn.no_grad(function() return net(x).requires_grad end) --> false
-- See: x:detach, cnn.set_grad_enabled
function autograd.no_grad(fn, ...)
  if type(fn) ~= "function" then
    err.raise("cnn.no_grad(fn, ...): fn: expected a function, got " .. err.got(fn))
  end
  return restore(C.cnn_set_grad_enabled(0), err.pcall(fn, ...))
end

--- cnn.is_grad_enabled()
-- Whether ops are recorded for backward.
-- Example: cnn.is_grad_enabled() --> true
-- See: cnn.no_grad
function autograd.is_grad_enabled() return C.cnn_grad_enabled() ~= 0 end

--- cnn.set_grad_enabled(on)
-- Switches the recording for backward on or off and returns what it was. cnn.no_grad does so for
-- one call, which is safer.
-- Errors: what is not true or false
-- Example: was = cnn.set_grad_enabled(false)
--   cnn.set_grad_enabled(was) --> false
-- See: cnn.no_grad
function autograd.set_grad_enabled(on)
  if type(on) ~= "boolean" then
    err.raise("cnn.set_grad_enabled(on): expected true or false, got " .. err.got(on))
  end
  return C.cnn_set_grad_enabled(on and 1 or 0) ~= 0
end

-- --------------------------------------------------------------------------------- backward

local function check_gradient(call, i, dx)
  local op, expected = call.op, call.shapes[i]
  if not is_tensor(dx) then
    err.raise(("%s: backward: gradient %d: expected a tensor of %s, got %s")
      :format(op.name, i, tostring(expected), err.got(dx)))
  end
  if dx:shape() ~= expected then
    err.raise(("%s: backward: gradient %d: expected %s like input %d, got %s")
      :format(op.name, i, tostring(expected), i, tostring(dx:shape())))
  end
end

local function hand_in(call, ...)
  local n = select("#", ...)
  if n ~= #call.shapes then
    err.raise(("%s: backward: expected %d gradients, one for each tensor given to it, got %d")
      :format(call.op.name, #call.shapes, n))
  end
  for i = 1, n do
    local dx = select(i, ...)
    if dx ~= nil then
      check_gradient(call, i, dx)
      if C.cnn_backward_give(i, dx) ~= 0 then fail() end
    end
  end
end

-- The engine waits for the gradient of an op written in Lua.
local function answer(call)
  local dy = wrap(C.cnn_backward_dy())
  hand_in(call, autograd.no_grad(call.op.backward, call.ctx, dy))
end

local function forget_dropped()
  local number = C.cnn_custom_dropped()
  while number ~= 0 do
    calls[number] = nil
    number = C.cnn_custom_dropped()
  end
end

--- x:backward(seed)
-- Computes the gradients of x, a loss, and adds them to the .grad of all that requires one.
-- Shapes: x with one element, or seed of x's shape: the gradient to start from
-- Errors: x with more elements and no seed; x that depends on no tensor that requires a gradient
-- Example: w = cnn.ones(3, { requires_grad = true })
--   (w * w):sum():backward()
--   w.grad --> f32[3] cpu 2 2 2
-- See: x.grad, x.requires_grad, net:zero_grad, cnn.gradcheck
local function backward(x, seed)
  if seed ~= nil and not is_tensor(seed) then
    err.raise("x:backward(seed): seed: expected a tensor, got " .. err.got(seed))
  end
  handle.make_room()
  local number = C.cnn_backward(x, seed)
  while number > 0 do
    local ok, why = err.pcall(answer, calls[number])
    if not ok then
      C.cnn_backward_abandon()
      error(why, 0)
    end
    number = C.cnn_backward_resume()
  end
  if number < 0 then fail() end
  forget_dropped()
end

tensor.define("backward", backward)

-- --------------------------------------------------------------------------- ops written in Lua

local Context = {}
Context.__index = Context

function Context:save(...) self.saved = { ... } end

local Op = {}
Op.__index = Op

function Op:__tostring() return "nn.op " .. self.name end

local function check_result(op, y)
  if not is_tensor(y) then
    err.raise(("%s: forward: expected one tensor, got %s"):format(op.name, err.got(y)))
  end
end

function Op:__call(...)
  local list, shapes, needs = {}, {}, {}
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if is_tensor(value) then
      list[#list + 1] = value
      shapes[#list] = value:shape()
      needs[#list] = C.cnn_requires_grad(value) ~= 0
    end
  end
  local ctx = setmetatable({ needs = needs }, Context)
  local y = autograd.no_grad(self.forward, ctx, ...)
  check_result(self, y)
  forget_dropped()
  last_number = last_number + 1
  calls[last_number] = { op = self, ctx = ctx, shapes = shapes }
  local inputs = ffi.new("cnn_tensor *[?]", math.max(1, #list))
  for i = 1, #list do inputs[i - 1] = list[i] end
  local tied = C.cnn_custom(y, last_number, inputs, #list)
  if tied == nil or C.cnn_requires_grad(tied) == 0 then calls[last_number] = nil end
  return wrap(tied)
end

--- nn.op({ name, forward, backward })
-- A function whose gradient is written by hand. forward(ctx, ...) returns a tensor, backward(ctx,
-- dy) one gradient for each tensor that forward was given, or nil. ctx:save(a, b) keeps values for
-- backward as ctx.saved; ctx.needs[i] tells whether gradient i is wanted.
-- Shapes: gradient i as tensor i
-- Options: name: what messages call it, "op" by default; forward: ctx and the arguments -> y;
--   backward: ctx and the gradient of y -> gradients
-- Errors: another number of gradients than of tensors, or one of another shape
-- Example: double = nn.op {
--     forward = function(ctx, a) return a * 2 end,
--     backward = function(ctx, dy) return dy * 2 end,
--   }
--   cnn.gradcheck(double, { cnn.rand(3) }) --> true
-- See: cnn.gradcheck, nn.module
function autograd.op(definition)
  if type(definition) ~= "table" then
    err.raise("nn.op: expected a table { name, forward, backward }, got " .. err.got(definition))
  end
  argument.options("nn.op", definition, { "name", "forward", "backward" })
  for _, key in ipairs { "forward", "backward" } do
    if type(definition[key]) ~= "function" then
      err.raise(("nn.op: %s: expected a function, got %s"):format(key, err.got(definition[key])))
    end
  end
  return setmetatable({
    name = definition.name or "op", forward = definition.forward, backward = definition.backward,
  }, Op)
end

function autograd.is_op(value) return getmetatable(value) == Op end

return autograd
