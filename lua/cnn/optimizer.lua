-- optimizer.lua - the optimizer and the schedule that a recipe's `train` asks for.
--
--   optimizer = "sgd" | "adam" | "adamw", beside it momentum, weight_decay, nesterov, betas, eps
--   optimizer = function(params, { lr = 0.1 }) return cnn.optim.SGD(params, ...) end
--   schedule = "cosine" | "step" | "constant" | { "step", 3, 0.5 } | { "warmup", 1, "cosine" }
--   schedule = function(time) return factor end         time in epochs from 0, fractions included
--
-- Surprising: a schedule gives factors of the learning rate, not rates, so --lr goes with any.

local optim = require "cnn.optim"
local fail = require "cnn.fail"

local optimizer = {}

local Chosen = {}
Chosen.__index = Chosen

local kinds = { sgd = "SGD", adam = "Adam", adamw = "AdamW" }
local settings = { "momentum", "weight_decay", "nesterov", "betas", "eps" }

local function by_name(name, params, train)
  local kind = kinds[name:lower()]
  if not kind then
    fail.run("the recipe's optimizer '%s' is not known; there are sgd, adam and adamw, or a "
      .. "function of the parameters", name)
  end
  local options = { lr = train.lr }
  for _, key in ipairs(settings) do options[key] = train[key] end
  return optim[kind](params, options)
end

local function by_function(make, params, train)
  local made = make(params, { lr = train.lr })
  if type(made) ~= "table" or type(made.step) ~= "function"
    or type(made.zero_grad) ~= "function" or type(made.lr) ~= "number" then
    fail.run "the recipe's optimizer(params, options) has to return one, such as cnn.optim.SGD"
  end
  return made
end

-- --------------------------------------------------------------------------------------- schedule

local named = {
  constant = function() return optim.schedule.constant() end,
  cosine = function(epochs, total, least) return optim.schedule.cosine(total or epochs, least) end,
  step = function(epochs, size, gamma)
    return optim.schedule.step(size or math.max(1, math.ceil(epochs / 3)), gamma)
  end,
}

local function make_schedule(what, epochs)
  if what == nil then return optim.schedule.constant() end
  if type(what) == "function" then return what end
  local list = type(what) == "table" and what or { what }
  if list[1] == "warmup" then
    local length = list[2] or 1
    return optim.schedule.warmup(length, make_schedule(list[3], epochs - length))
  end
  if named[list[1]] then return named[list[1]](epochs, list[2], list[3]) end
  fail.run("the recipe's schedule '%s' is not known; there are constant, cosine, step and warmup, "
    .. "or a function of the time in epochs", tostring(list[1]))
end

-- ----------------------------------------------------------------------------------- what is used

-- time: in epochs, from 0
function Chosen:schedule(time)
  local factor = self.factor(time)
  if type(factor) ~= "number" or not (factor >= 0 and factor < math.huge) then
    fail.run("the recipe's schedule gives %s at %.3f epochs; a number from 0 is wanted",
      tostring(factor), time)
  end
  self.lr = self.base * factor
  self.inner.lr = self.lr
end

-- The tensors of its state as { { name, tensor }, ... }, in a fixed order.
function Chosen:tensors()
  local list = {}
  if self.inner.state then
    for name, tensor in pairs(self.inner:state().tensors) do list[#list + 1] = { name, tensor } end
    table.sort(list, function(a, b) return a[1] < b[1] end)
  end
  return list
end

function Chosen:counters()
  return { step = self.inner.steps }
end

-- counters: as above; read(name, tensor) fills the tensor of that name; names: those there are.
function Chosen:restore(counters, names, read)
  if not self.inner.slot then
    if #names > 0 then fail.run "this optimizer cannot take up a saved state" end
    return
  end
  self.inner.steps = counters.step
  for _, name in ipairs(names) do
    local slot, index = name:match "^(%a+)%.(%d+)$"
    if not slot or not self.inner.slots[slot] or not self.inner.params[tonumber(index)] then
      fail.run("the optimizer has no '%s'", name)
    end
    read(name, self.inner:slot(slot, tonumber(index)))
  end
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
    factor = make_schedule(train.schedule, train.epochs),
  }, Chosen)
end

return optimizer
