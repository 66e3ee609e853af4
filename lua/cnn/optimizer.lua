-- optimizer.lua - the optimizer and the schedule that a recipe's `train` asks for.
--
--   optimizer = "sgd" | "adam" | "adamw", beside it momentum, weight_decay, nesterov, betas, eps
--   optimizer = function(params, { lr = 0.1 }) return cnn.optim.SGD(params, ...) end
--   schedule = "cosine" | "step" | "constant" | { "step", 3, 0.5 } | { "warmup", 1, "cosine" }
--   schedule = function(time) return factor end         time in epochs from 0, fractions included
--
-- An optimizer of a script's own has step, zero_grad and lr. step runs in cnn.step: tensors that
-- are to last are made before, and copied into. For its runs to be resumed it also has what those
-- of cnn.optim have: state() gives a table of plain values and, as `tensors`, tensors by name;
-- load_state(state) takes such a table.
--
-- Surprising: a schedule gives factors of the learning rate, not rates, so --lr goes with any.

local err = require "cnn.error"
local handle = require "cnn.handle"
local optim = require "cnn.optim"
local fail = require "cnn.fail"

local optimizer = {}

local Chosen = {}
Chosen.__index = Chosen

local kinds = { sgd = "SGD", adam = "Adam", adamw = "AdamW" }
local settings = { "momentum", "weight_decay", "nesterov", "betas", "eps" }

local function options_of(train)
  local options = { lr = train.lr }
  for _, key in ipairs(settings) do options[key] = train[key] end
  return options
end

local function by_name(name, params, train)
  local kind = kinds[name:lower()]
  if not kind then
    fail.run("the recipe's optimizer '%s' is not known; there are sgd, adam and adamw, or a "
      .. "function of the parameters", name)
  end
  return optim[kind](params, options_of(train))
end

local function by_function(make, params, train)
  local made = err.call(make, params, options_of(train))
  if type(made) ~= "table" or type(made.step) ~= "function"
    or type(made.zero_grad) ~= "function" or type(made.lr) ~= "number" then
    fail.run "the recipe's optimizer(params, options) has to return one, such as cnn.optim.SGD"
  end
  return made
end

-- --------------------------------------------------------------------------------------- schedule

-- name -> how many numbers may follow it, and what makes it of them
local named = {
  constant = { 0, function() return optim.schedule.constant() end },
  cosine = { 2, function(epochs, total, least)
    return optim.schedule.cosine(total or epochs, least)
  end },
  step = { 2, function(epochs, size, gamma)
    return optim.schedule.step(size or math.max(1, math.ceil(epochs / 3)), gamma)
  end },
}

local function check_length(list, most)
  for key in pairs(list) do
    if type(key) ~= "number" or key > most then
      fail.run("the recipe's schedule '%s' takes a list of %d values at most, its name among them, "
        .. "got also [%s]", list[1], most, tostring(key))
    end
  end
end

local function check_number(list, i)
  local value = list[i]
  if value == nil then return end
  if type(value) ~= "number" or not (value >= 0 and value < math.huge) then
    fail.run("the recipe's schedule '%s': expected a number from 0, got %s", list[1],
      err.got(value))
  end
end

local function make_schedule(what, epochs)
  if what == nil then return optim.schedule.constant() end
  if type(what) == "function" then return what end
  local list = type(what) == "table" and what or { what }
  if list[1] == "warmup" then
    check_length(list, 3)
    check_number(list, 2)
    local length = list[2] or 1
    return optim.schedule.warmup(length, make_schedule(list[3], math.max(0, epochs - length)))
  end
  local found = named[list[1]]
  if not found then
    fail.run("the recipe's schedule: expected constant, cosine, step, warmup or a function of the "
      .. "time in epochs, got %s", err.got(list[1]))
  end
  local numbers, make = unpack(found)
  check_length(list, 1 + numbers)
  for i = 2, 1 + numbers do check_number(list, i) end
  return make(epochs, list[2], list[3])
end

-- ----------------------------------------------------------------------------------- what is used

-- time: in epochs, from 0
function Chosen:schedule(time)
  local factor = err.call(self.factor, time)
  if type(factor) ~= "number" or not (factor >= 0 and factor < math.huge) then
    fail.run("the recipe's schedule gives %s at %.3f epochs; a number from 0 is wanted",
      tostring(factor), time)
  end
  self.lr = self.base * factor
  self.inner.lr = self.lr
end

-- ----------------------------------------------------------------------------------------- resume

-- What the optimizer knows beside the parameters; nil for one that cannot take it up again.
local function state_of(inner)
  if type(inner.state) ~= "function" or type(inner.load_state) ~= "function" then return nil end
  local state = inner:state()
  if type(state) ~= "table" or type(state.tensors or {}) ~= "table" then
    fail.run("the optimizer's state() has to give a table of plain values and `tensors` by name, "
      .. "got %s", err.got(state))
  end
  return state
end

-- Whether it can be taken up again.
function Chosen:has_state() return state_of(self.inner) ~= nil end

-- The tensors of its state as { { name, tensor }, ... }, in a fixed order.
function Chosen:tensors()
  local list, state = {}, state_of(self.inner)
  for name, tensor in pairs(state and state.tensors or {}) do
    if type(name) ~= "string" or not handle.is_tensor(tensor) then
      fail.run("the optimizer's state().tensors has to have tensors by name, got %s = %s",
        tostring(name), err.got(tensor))
    end
    list[#list + 1] = { name, tensor }
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

local plain = { number = true, string = true, boolean = true }

local function check_plain(name, value)
  if type(value) == "table" then
    for key, inner in pairs(value) do check_plain(("%s.%s"):format(name, tostring(key)), inner) end
  elseif not plain[type(value)] then
    fail.run("the optimizer's state().%s cannot be saved: expected plain values, got %s", name,
      err.got(value))
  end
end

-- The rest of its state.
function Chosen:counters()
  local counters = {}
  for key, value in pairs(state_of(self.inner) or {}) do
    if key ~= "tensors" then
      check_plain(tostring(key), value)
      counters[key] = value
    end
  end
  return counters
end

-- counters: as above; names: of its tensors; read(name): that tensor.
function Chosen:restore(counters, names, read)
  if not state_of(self.inner) then
    fail.run("--resume: the recipe's optimizer has no state() and load_state(state), so it cannot "
      .. "go on where it was")
  end
  local state = { tensors = {} }
  for key, value in pairs(counters) do state[key] = value end
  for _, name in ipairs(names) do state.tensors[name] = read(name):to(self.device) end
  err.call(self.inner.load_state, self.inner, state)
end

-- train: a checked recipe's; its lr is what --lr said, if it did.
function optimizer.new(net, train)
  local params = net:parameters()
  if #params == 0 then fail.run "the recipe's net has no parameters to train" end
  local what = train.optimizer
  local inner
  if type(what) == "string" then
    inner = by_name(what, params, train)
  elseif type(what) == "function" then
    inner = by_function(what, params, train)
  else
    fail.run("the recipe's optimizer has to be a name or a function, got a %s", type(what))
  end
  return setmetatable({
    inner = inner, name = inner.name or "optimizer", base = inner.lr, lr = inner.lr,
    factor = make_schedule(train.schedule, train.epochs), device = params[1].device,
  }, Chosen)
end

return optimizer
