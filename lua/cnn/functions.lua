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

--- nn.MaxPool2d(kernel, { stride = kernel, padding = 0 })
-- The maximum of each window. Sizes are a number or { h, w }.
-- Shapes: NxCxHxW -> NxCxOHxOW, OH = floor((H + 2 padding - kernel) / stride) + 1
-- Options: stride: pixels from window to window; padding: pixels around the picture that are never
--   the maximum, at most half the kernel
-- Errors: an input smaller than the window: which layer made it
-- Example: nn.MaxPool2d(3, { stride = 2 })(cnn.rand(1, 8, 54, 54)):shape() --> 1x8x26x26
-- See: nn.AvgPool2d, nn.AdaptiveAvgPool2d, x:max_pool2d
pool("MaxPool2d", ops.max_pool2d)

--- nn.AvgPool2d(kernel, { stride = kernel, padding = 0 })
-- The mean of each window. Sizes are a number or { h, w }.
-- Shapes: NxCxHxW -> NxCxOHxOW, OH = floor((H + 2 padding - kernel) / stride) + 1
-- Options: stride: pixels from window to window; padding: zeros around the picture, which count in
--   the mean, at most half the kernel
-- Errors: an input smaller than the window: which layer made it
-- Example: nn.AvgPool2d(2, { stride = 2 })(cnn.rand(1, 8, 28, 28)):shape() --> 1x8x14x14
-- See: nn.MaxPool2d, nn.AdaptiveAvgPool2d, x:avg_pool2d
pool("AvgPool2d", ops.avg_pool2d)

local AdaptiveAvgPool2d = layer "AdaptiveAvgPool2d"

--- nn.AdaptiveAvgPool2d(size)
-- Means of even parts of the picture, whatever its size: the output is size x size, or { h, w }.
-- With 1 it is global average pooling (Lin et al. 2013).
-- Shapes: NxCxHxW -> NxCxsizexsize
-- Errors: an input without 4 axes
-- Example: nn.AdaptiveAvgPool2d(1)(cnn.rand(2, 8, 7, 7)):shape() --> 2x8x1x1
-- See: nn.AvgPool2d, nn.Flatten
function AdaptiveAvgPool2d:init(size, options)
  no_options(self, options)
  self.oh, self.ow = argument.pair("nn.AdaptiveAvgPool2d", "size", size, 1)
end

function AdaptiveAvgPool2d:extra() return pair_text(self.oh, self.ow) end

function AdaptiveAvgPool2d:forward(x) return ops.adaptive_avg_pool2d(x, self.oh, self.ow) end

-- ---------------------------------------------------------------------------- activations

--- nn.ReLU()
-- max(x, 0) of each value.
-- Shapes: any -> the same
-- Errors: PyTorch's inplace is no option: the engine sees to memory itself
-- Example: nn.ReLU()(cnn.tensor { -1, 2 }) --> f32[2] cpu 0 2
-- See: nn.LeakyReLU, nn.GELU, x:relu

--- nn.GELU()
-- x * Phi(x) of each value, Phi being the normal distribution (the erf form).
-- Shapes: any -> the same
-- Errors: it has no options
-- Example: nn.GELU()(cnn.tensor { -1, 2 }) --> f32[2] cpu -0.1587 1.954
-- Source: Hendrycks, Gimpel 2016
-- See: nn.SiLU, x:gelu

--- nn.SiLU()
-- x * sigmoid(x) of each value.
-- Shapes: any -> the same
-- Errors: it has no options
-- Example: nn.SiLU()(cnn.tensor { -1, 2 }) --> f32[2] cpu -0.2689 1.762
-- Source: Hendrycks, Gimpel 2016; as Swish: Ramachandran, Zoph, Le 2017
-- See: nn.GELU, x:silu

--- nn.Sigmoid()
-- 1 / (1 + e^-x) of each value.
-- Shapes: any -> the same
-- Errors: it has no options
-- Example: nn.Sigmoid()(cnn.tensor { 0, 2 }) --> f32[2] cpu 0.5 0.8808
-- See: nn.Tanh, x:sigmoid

--- nn.Tanh()
-- tanh x of each value.
-- Shapes: any -> the same
-- Errors: it has no options
-- Example: nn.Tanh()(cnn.tensor { 0, 1 }) --> f32[2] cpu 0 0.7616
-- See: nn.Sigmoid, x:tanh

for name, op in pairs {
  ReLU = ops.relu, GELU = ops.gelu, SiLU = ops.silu, Sigmoid = ops.sigmoid, Tanh = ops.tanh,
} do
  local Activation = layer(name)
  Activation.init = no_options
  function Activation:extra() return "" end -- luacheck: ignore 212
  function Activation:forward(x) return op(x) end -- luacheck: ignore 212
end

local LeakyReLU = layer "LeakyReLU"

--- nn.LeakyReLU({ negative_slope = 0.01 })
-- x where it is above 0, else negative_slope * x. The slope may come as a bare number.
-- Shapes: any -> the same
-- Options: negative_slope: the slope below 0
-- Errors: a slope that is not finite
-- Example: nn.LeakyReLU(0.1)(cnn.tensor { -1, 2 }) --> f32[2] cpu -0.1 2
-- Source: Maas, Hannun, Ng 2013
-- See: nn.ReLU, x:leaky_relu
function LeakyReLU:init(slope, options)
  slope = value_of(self, "negative_slope", slope, options, 0.01)
  self.slope = argument.number("nn.LeakyReLU", "negative_slope", slope)
end

function LeakyReLU:extra() return tostring(self.slope) end

function LeakyReLU:forward(x) return ops.leaky_relu(x, self.slope) end

--- nn.Softmax({ dim = 2 })
-- e^x / sum e^x along an axis, which may come as a bare number.
-- Shapes: any -> the same
-- Options: dim: the axis, from 1; -1 is the last
-- Errors: an axis that the input has not
-- Example: nn.Softmax()(cnn.zeros(1, 2)) --> f32[1x2] cpu 0.5 0.5
-- See: nn.LogSoftmax, nn.CrossEntropyLoss, x:softmax

--- nn.LogSoftmax({ dim = 2 })
-- x - ln sum e^x along an axis, which may come as a bare number.
-- Shapes: any -> the same
-- Options: dim: the axis, from 1; -1 is the last
-- Errors: an axis that the input has not
-- Example: nn.LogSoftmax()(cnn.zeros(1, 2)) --> f32[1x2] cpu -0.6931 -0.6931
-- See: nn.Softmax, x:log_softmax

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

--- nn.Dropout({ p = 0.5 })
-- In training each value is 0 with probability p, else x / (1 - p); in prediction x. p may come as
-- a bare number.
-- Shapes: any -> the same
-- Options: p: the probability, from 0 to below 1
-- Errors: p outside of [0, 1)
-- Example: nn.Dropout(0.5):eval()(cnn.ones(3)) --> f32[3] cpu 1 1 1
-- Source: Srivastava et al. 2014
-- See: net:eval, x:dropout, cnn.manual_seed
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

--- nn.Flatten({ start_dim = 2 })
-- The axes from start_dim on become one. It may come as a bare number.
-- Shapes: NxCxHxW -> NxCHW
-- Options: start_dim: the first of these axes, from 1
-- Errors: an axis that the input has not
-- Example: nn.Flatten()(cnn.rand(2, 8, 5, 5)):shape() --> 2x200
-- See: nn.Linear, x:flatten
function Flatten:init(first, options)
  first = value_of(self, "start_dim", first, options, 2)
  self.first = argument.whole("nn.Flatten", "start_dim", first, 1)
end

function Flatten:extra() return self.first == 2 and "" or tostring(self.first) end

local flatten = tensor.methods.flatten

function Flatten:forward(x) return flatten(x, self.first) end

local Identity = layer "Identity"

--- nn.Identity()
-- The input as it is: a place for a layer.
-- Shapes: any -> the same
-- Errors: it has no options
-- Example: nn.Identity()(x):shape() == x:shape() --> true
-- See: nn.Sequential
Identity.init = no_options

function Identity:extra() return "" end -- luacheck: ignore 212

function Identity:forward(x) return x end -- luacheck: ignore 212

-- --------------------------------------------------------------------------------- losses

--- nn.CrossEntropyLoss()
-- The mean over the batch of -ln softmax(scores) at the label: loss(scores, labels). It takes
-- scores as the last layer gives them, without a softmax.
-- Shapes: scores NxC, labels N whole numbers 1..C in any dtype -> no axis
-- Errors: a label that is not in 1..C; another number of labels than rows
-- Example: nn.CrossEntropyLoss()(cnn.zeros(2, 10), cnn.tensor { 1, 10 }) --> f32[] cpu: 2.303
-- See: nn.MSELoss, x:cross_entropy, x:backward
local CrossEntropyLoss = layer "CrossEntropyLoss"

CrossEntropyLoss.init = no_options

function CrossEntropyLoss:extra() return "" end -- luacheck: ignore 212

function CrossEntropyLoss:forward(x, label) -- luacheck: ignore 212
  return ops.cross_entropy(x, label)
end

--- nn.MSELoss()
-- The mean of (a - b)^2: loss(a, b).
-- Shapes: a, b that broadcast -> no axis
-- Errors: shapes that do not broadcast
-- Example: nn.MSELoss()(cnn.ones(4), cnn.zeros(4)):item() --> 1
-- See: nn.CrossEntropyLoss, x:mse
local MSELoss = layer "MSELoss"

MSELoss.init = no_options

function MSELoss:extra() return "" end -- luacheck: ignore 212

function MSELoss:forward(a, b) return ops.mse(a, b) end -- luacheck: ignore 212

return functions
