-- functions.lua - the layers without weights: pooling, activations, dropout, shapes, losses.

local argument = require "cnn.argument"
local bind = require "cnn.bind"
local err = require "cnn.error"
local module = require "cnn.module"
local layers = require "cnn.layers"
local tensor = require "cnn.tensor"

local ops, settings, pair_text = bind.ops, layers.settings, layers.pair_text

local functions = {}

local function layer(name) return module.layer(functions, name) end

-- An option that may also come first without its name: nn.Dropout(0.3), nn.Dropout { p = 0.3 }.
local function value_of(self, name, value, options, default)
  if type(value) == "table" then value, options = nil, value end
  options = argument.options("nn." .. self.kind, options, { name })
  if value ~= nil and options[name] ~= nil then
    err.raise(("nn.%s: %s is given twice"):format(self.kind, name))
  end
  if value == nil then value = options[name] end
  if value == nil then return default end
  return value
end

-- For layers that have none: PyTorch's inplace = true and the like are not passed over in silence.
local function no_options(self, options) argument.options("nn." .. self.kind, options, {}) end

-- -------------------------------------------------------------------------------- pooling

-- nn.MaxPool2d(kernel, { stride = kernel, padding = 0 }), likewise nn.AvgPool2d.
local function pool(name, op)
  local Pool = layer(name)
  local who = "nn." .. name

  function Pool:init(kernel, options)
    options = argument.options(who, options, { "stride", "padding" })
    self.kh, self.kw = argument.pair(who, "kernel", kernel, 1)
    self.sh, self.sw = argument.pair(who, "stride", options.stride or kernel, 1)
    self.ph, self.pw = argument.pair(who, "padding", options.padding or 0, 0)
  end

  function Pool:extra()
    local kernel = pair_text(self.kh, self.kw)
    return kernel .. settings {
      { "stride", pair_text(self.sh, self.sw), kernel },
      { "padding", pair_text(self.ph, self.pw), "0" },
    }
  end

  function Pool:forward(x)
    return op(x, self.kh, self.kw, self.sh, self.sw, self.ph, self.pw)
  end
end

pool("MaxPool2d", ops.max_pool2d)
pool("AvgPool2d", ops.avg_pool2d)

local AdaptiveAvgPool2d = layer "AdaptiveAvgPool2d"

-- nn.AdaptiveAvgPool2d(size): the output is size x size, or {h, w}.
function AdaptiveAvgPool2d:init(size, options)
  no_options(self, options)
  self.oh, self.ow = argument.pair("nn.AdaptiveAvgPool2d", "size", size, 1)
end

function AdaptiveAvgPool2d:extra() return pair_text(self.oh, self.ow) end

function AdaptiveAvgPool2d:forward(x) return ops.adaptive_avg_pool2d(x, self.oh, self.ow) end

-- ---------------------------------------------------------------------------- activations

for name, op in pairs {
  ReLU = ops.relu, GELU = ops.gelu, SiLU = ops.silu, Sigmoid = ops.sigmoid, Tanh = ops.tanh,
} do
  local Activation = layer(name)
  Activation.init = no_options
  function Activation:extra() return "" end -- luacheck: ignore 212
  function Activation:forward(x) return op(x) end -- luacheck: ignore 212
end

local LeakyReLU = layer "LeakyReLU"

-- nn.LeakyReLU { negative_slope = 0.01 }
function LeakyReLU:init(slope, options)
  slope = value_of(self, "negative_slope", slope, options, 0.01)
  self.slope = argument.number("nn.LeakyReLU", "negative_slope", slope)
end

function LeakyReLU:extra() return tostring(self.slope) end

function LeakyReLU:forward(x) return ops.leaky_relu(x, self.slope) end

-- nn.Softmax { dim = 2 }, nn.LogSoftmax { dim = 2 }: over that axis
for name, op in pairs { Softmax = ops.softmax, LogSoftmax = ops.log_softmax } do
  local Softmax = layer(name)

  function Softmax:init(axis, options)
    axis = value_of(self, "dim", axis, options, 2)
    self.axis = argument.whole("nn." .. name, "dim", axis, -8)
  end

  function Softmax:extra() return tostring(self.axis) end
  function Softmax:forward(x) return op(x, self.axis) end
end

local Dropout = layer "Dropout"

-- nn.Dropout { p = 0.5 }: in training, each value is 0 with probability p.
function Dropout:init(p, options)
  self.p = argument.number("nn.Dropout", "p", value_of(self, "p", p, options, 0.5), 0, 1)
end

function Dropout:extra() return tostring(self.p) end

function Dropout:forward(x)
  if not self.training or self.p == 0 then return x end
  return ops.dropout(x, self.p)
end

-- --------------------------------------------------------------------------------- shapes

local Flatten = layer "Flatten"

-- nn.Flatten { start_dim = 2 }: the axes from that one on become one.
function Flatten:init(first, options)
  first = value_of(self, "start_dim", first, options, 2)
  self.first = argument.whole("nn.Flatten", "start_dim", first, 1)
end

function Flatten:extra() return self.first == 2 and "" or tostring(self.first) end

local flatten = tensor.methods.flatten

function Flatten:forward(x) return flatten(x, self.first) end

local Identity = layer "Identity"

Identity.init = no_options

function Identity:extra() return "" end -- luacheck: ignore 212

function Identity:forward(x) return x end -- luacheck: ignore 212

-- --------------------------------------------------------------------------------- losses

-- loss(scores, labels): scores NxC, labels N class indices from 1; the mean over the batch.
local CrossEntropyLoss = layer "CrossEntropyLoss"

CrossEntropyLoss.init = no_options

function CrossEntropyLoss:extra() return "" end -- luacheck: ignore 212

function CrossEntropyLoss:forward(x, label) -- luacheck: ignore 212
  return ops.cross_entropy(x, label)
end

-- loss(a, b): the mean of (a - b)^2.
local MSELoss = layer "MSELoss"

MSELoss.init = no_options

function MSELoss:extra() return "" end -- luacheck: ignore 212

function MSELoss:forward(a, b) return ops.mse(a, b) end -- luacheck: ignore 212

return functions
