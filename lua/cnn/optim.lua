-- optim.lua - cnn.optim: SGD, Adam and AdamW.
--
--   local opt = cnn.optim.SGD(net:parameters(), { lr = 0.1, momentum = 0.9, weight_decay = 5e-4 })
--   opt:zero_grad() ; loss:backward() ; opt:step()
--
-- opt.lr (and momentum, weight_decay ...) may be set between steps. opt:state() is what a later run
-- needs: { step = n, counts = { n1, ... }, tensors = { ["velocity.1"] = tensor, ... } }; counts[i]
-- are the steps that moved parameter i. opt:load_state takes it back.
--
-- Surprising: a parameter without a gradient is left alone, weight decay included, as in PyTorch;
-- the bias corrections of Adam count its own steps, so one that comes in late starts afresh.

local engine = require "cnn.ffi"
local argument = require "cnn.argument"
local err = require "cnn.error"
local handle = require "cnn.handle"
local step = require "cnn.step"

local C, fail = engine.C, handle.fail

local optim = {}

-- -------------------------------------------------------------------------- what they share

local Optimizer = {}

-- A buffer of zeros with the layout of p: no op, so a step that fails leaves it whole.
local function zeros_like(p)
  return handle.keep(handle.wrap(C.cnn_full_like(p, 0)))
end

--- opt:zero_grad()
-- Takes the gradients of its parameters away; backward adds to what is there.
-- Example: opt:zero_grad()
-- See: opt:step, x:backward, net:zero_grad
function Optimizer:zero_grad()
  for _, p in ipairs(self.params) do
    if C.cnn_set_grad(p, nil) ~= 0 then fail() end
  end
end

local function same_counts(n, count)
  local counts = {}
  for i = 1, n do counts[i] = count end
  return counts
end

local function has_grad(p)
  local grad = C.cnn_grad(p)
  if grad == nil then return false end
  C.cnn_release(grad)
  return true
end

-- The buffer `name` of parameter i; made when it is first asked for.
function Optimizer:slot(name, i)
  local key = name .. "." .. i
  local x = self.tensors[key]
  if not x then
    x = zeros_like(self.params[i])
    self.tensors[key] = x
  end
  return x
end

local function update_all(self)
  self.steps = self.steps + 1
  for i, p in ipairs(self.params) do
    if has_grad(p) then
      self.counts[i] = (self.counts[i] or 0) + 1
      if self:update(i, p) ~= 0 then fail() end
    end
  end
end

--- opt:step()
-- Changes every parameter that has a gradient by it; one without is left alone. opt.lr,
-- opt.momentum and the like may be set between steps. A Ctrl-C finds all parameters changed, or
-- none.
-- Errors: a setting that is out of its range
-- Example: opt:zero_grad()
--   nn.CrossEntropyLoss()(net(x), y):backward()
--   opt:step()
-- See: opt:zero_grad, cnn.step, cnn.train
function Optimizer:step()
  self:check()
  step(update_all, self)
end

function Optimizer:check()
  for name, range in pairs(self.ranges) do
    local value = self[name]
    if name == "betas" then
      if type(value) ~= "table" or #value ~= 2 then
        err.raise(self.who .. ": betas: expected two numbers { b1, b2 }, got " .. err.got(value))
      end
      argument.number(self.who, "betas[1]", value[1], range[1], range[2])
      value = value[2]
    end
    argument.number(self.who, name, value, range[1], range[2])
  end
end

--- opt:state()
-- What another optimizer needs to go on: { step, counts, tensors = { ["velocity.1"] = ... } }.
-- counts[i] are the steps that changed parameter i.
-- Example: opt:state().step --> 0
-- See: opt:load_state, net:save
function Optimizer:state()
  local counts, tensors = {}, {}
  for i, count in ipairs(self.counts) do counts[i] = count end
  for key, x in pairs(self.tensors) do tensors[key] = x end
  return { step = self.steps, counts = counts, tensors = tensors }
end

-- A state without counts is one of before there were any: all parameters took every step.
local function counts_of(self, state)
  if state.counts == nil then return same_counts(#self.params, state.step) end
  if type(state.counts) ~= "table" or #state.counts ~= #self.params then
    err.raise(("%s: load_state: counts: expected %d of them, one for each parameter, got %s")
      :format(self.who, #self.params, type(state.counts) == "table" and #state.counts
        or err.got(state.counts)))
  end
  local counts = {}
  for i, count in ipairs(state.counts) do
    counts[i] = argument.whole(self.who, ("load_state: counts[%d]"):format(i), count, 0)
  end
  return counts
end

--- opt:load_state(state)
-- Takes over what opt:state gave, by copying.
-- Errors: a state whose names or shapes do not fit the parameters
-- Example: opt:load_state(opt:state())
-- See: opt:state
function Optimizer:load_state(state)
  if type(state) ~= "table" or type(state.tensors) ~= "table" then
    err.raise(self.who .. ": load_state: expected a table { step, tensors }, got " ..
      err.got(state))
  end
  argument.whole(self.who, "load_state: step", state.step, 0)
  local counts, fresh = counts_of(self, state), {}
  for key, x in pairs(state.tensors) do
    local name, i = tostring(key):match("^(%a+)%.(%d+)$")
    local p = self.params[tonumber(i)]
    if not p or not self.slots[name] then
      err.raise(("%s: load_state: there is no '%s' here"):format(self.who, tostring(key)))
    end
    if not handle.is_tensor(x) or x:shape() ~= p:shape() then
      err.raise(("%s: load_state: %s: expected %s, got %s"):format(self.who, key,
        tostring(p:shape()), handle.is_tensor(x) and tostring(x:shape()) or err.got(x)))
    end
    fresh[key] = zeros_like(p)
    fresh[key]:copy(x)
  end
  self.tensors, self.steps, self.counts = fresh, state.step, counts
end

local function check_params(who, params)
  if type(params) ~= "table" or params[1] == nil then
    err.raise(("%s: params: expected a table of tensors, such as net:parameters(), got %s")
      :format(who, type(params) == "table" and "an empty table" or err.got(params)))
  end
  for i, p in ipairs(params) do
    if not handle.is_tensor(p) then
      err.raise(("%s: params[%d]: expected a tensor, got %s"):format(who, i, err.got(p)))
    end
  end
end

-- Defines cnn.optim[name]. `defaults` are the options in order: { name, default, least, below };
-- a default of nil has to be given. `slots` names the buffers of a parameter.
local function define(name, defaults, slots, update)
  local class = setmetatable({ who = "optim." .. name, slots = {}, ranges = {} },
    { __index = Optimizer })
  class.__index = class
  class.update = update
  local known = {}
  for i, row in ipairs(defaults) do
    known[i] = row[1]
    if type(row[2]) ~= "boolean" then class.ranges[row[1]] = { row[3], row[4] } end
  end
  for _, slot in ipairs(slots) do class.slots[slot] = true end

  optim[name] = function(params, options)
    check_params(class.who, params)
    options = argument.options(class.who, options, known)
    local self = setmetatable({
      name = name, params = params, tensors = {}, steps = 0, counts = same_counts(#params, 0),
    }, class)
    for _, row in ipairs(defaults) do
      local key, default = row[1], row[2]
      if options[key] ~= nil then self[key] = options[key] else self[key] = default end
      if type(default) == "boolean" then argument.boolean(class.who, key, self[key]) end
    end
    self:check()
    if self.nesterov and self.momentum == 0 then
      err.raise(class.who .. ": nesterov: expected a momentum above 0 with it, got 0")
    end
    return self
  end
end

-- ------------------------------------------------------------------------------ the algorithms

--- cnn.optim.SGD(params, { lr, momentum = 0, weight_decay = 0, nesterov = false })
-- Stochastic gradient descent, as in PyTorch: velocity = momentum * velocity + gradient, and the
-- parameter changes by -lr * velocity. Fields: opt.lr and the other options.
-- Options: lr: the learning rate, which has to be given; momentum: from 0; weight_decay: this times
--   the parameter is added to the gradient; nesterov: look ahead by the momentum
-- Errors: params that are no list of tensors; no lr; a negative value; nesterov without momentum
-- Example: opt = cnn.optim.SGD(net:parameters(), { lr = 0.05, momentum = 0.9 })
-- Source: Polyak 1964; Nesterov 1983; Sutskever et al. 2013
-- See: opt:step, cnn.optim.schedule.cosine, cnn.optim.Adam
define("SGD", {
  { "lr", nil, 0 }, { "momentum", 0, 0 }, { "weight_decay", 0, 0 }, { "nesterov", false },
}, { "velocity" }, function(self, i, p)
  local velocity, first
  if self.momentum ~= 0 then
    first = not self.tensors["velocity." .. i]
    velocity = self:slot("velocity", i)
  end
  return C.cnn_sgd(p, velocity, self.lr, self.momentum, self.weight_decay,
    self.nesterov and 1 or 0, first and 1 or 0)
end)

local adam_options = {
  { "lr", 1e-3, 0 }, { "betas", { 0.9, 0.999 }, 0, 1 }, { "eps", 1e-8, 0 },
  { "weight_decay", 0, 0 },
}

local function adam(decoupled)
  return function(self, i, p)
    return C.cnn_adam(p, self:slot("m", i), self:slot("v", i), self.lr, self.betas[1],
      self.betas[2], self.eps, self.weight_decay, decoupled, self.counts[i])
  end
end

--- cnn.optim.Adam(params, { lr = 1e-3, betas = { 0.9, 0.999 }, eps = 1e-8, weight_decay = 0 })
-- Steps by running means of gradient and square, with bias correction.
-- Options: lr: the learning rate; betas: how much of the two means stays, each from 0 to below 1;
--   eps: added to the root of the second; weight_decay: this times the parameter is added to the
--   gradient
-- Errors: params that are no list of tensors; a value out of its range
-- Example: cnn.optim.Adam(net:parameters()).lr --> 0.001
-- Source: Kingma, Ba 2015
-- See: cnn.optim.AdamW, opt:step
define("Adam", adam_options, { "m", "v" }, adam(0))

local adamw_options = { unpack(adam_options) }
adamw_options[4] = { "weight_decay", 0.01, 0 }
--- cnn.optim.AdamW(params, { lr = 1e-3, betas = { 0.9, 0.999 }, eps = 1e-8, weight_decay = 0.01 })
-- Adam whose weight decay shrinks the parameter itself, by lr * weight_decay, and is not in the
-- gradient.
-- Options: lr: the learning rate; betas: how much of the two means stays, each from 0 to below 1;
--   eps: added to the root of the second; weight_decay: the share that each step with lr = 1 takes
-- Errors: params that are no list of tensors; a value out of its range
-- Example: cnn.optim.AdamW(net:parameters()).weight_decay --> 0.01
-- Source: Loshchilov, Hutter 2019
-- See: cnn.optim.Adam, opt:step
define("AdamW", adamw_options, { "m", "v" }, adam(1))

optim.schedule = require "cnn.schedule"

return optim
