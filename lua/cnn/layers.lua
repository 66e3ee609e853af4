-- layers.lua - the layers with weights: Linear, Conv2d and the norms.
--
-- Constructors check everything at once; options are PyTorch's. The size of the input (features,
-- channels) may be nil: it is then found at the first input, and the weights are made there.
--
-- Surprising: a layer that has found its size while somebody only tried a shape (explain.lua looks
-- for the smallest input) forgets it again; calls.trial collects those.

local argument = require "cnn.argument"
local bind = require "cnn.bind"
local calls = require "cnn.calls"
local create = require "cnn.create"
local err = require "cnn.error"
local handle = require "cnn.handle"
local members = require "cnn.members"
local module = require "cnn.module"
local weights = require "cnn.weights"

local ops, Parameter, is_tensor = bind.ops, members.Parameter, handle.is_tensor

local layers = {}

local function layer(name) return module.layer(layers, name) end

-- (size along axis, device for the weights)
local function input_size(x, axis)
  if not is_tensor(x) then err.raise("expected a tensor, got " .. err.got(x)) end
  if x:dim() < math.abs(axis) then
    err.raise(("expected at least %d axes, got %s"):format(math.abs(axis), tostring(x:shape())))
  end
  return x:size(axis), x.device == "meta" and "cpu" or x.device
end

-- Makes the weights of a layer whose input size is x's size along `axis`.
local function build_at(self, x, axis)
  local size, device = input_size(x, axis)
  self:build(size, device)
  rawset(self, "unbuilt", nil)
  if calls.trial then calls.trial[#calls.trial + 1] = self end
end

-- Back to before its first input.
local function forget(self)
  self.weight, self.bias = nil, nil
  rawset(self, "unbuilt", true)
end

-- { stride = 4, padding = 1 } of what differs from the defaults, as text after a comma.
local function settings(rows)
  local parts = {}
  for _, row in ipairs(rows) do
    local name, value, default = row[1], row[2], row[3]
    if value ~= default then parts[#parts + 1] = name .. " = " .. value end
  end
  if #parts == 0 then return "" end
  return ", { " .. table.concat(parts, ", ") .. " }"
end

local function pair_text(h, w)
  if h == w then return tostring(h) end
  return ("{ %d, %d }"):format(h, w)
end

layers.settings, layers.pair_text = settings, pair_text

-- --------------------------------------------------------------------------------- Linear

local Linear = layer "Linear"

--- nn.Linear(features_in, features_out, { bias = true })
-- x w^T + b along the last axis. features_in may be nil: it is found at the first input, also one
-- of shapes only. w starts Xavier-uniform, b uniform within 1 / sqrt(features_in).
-- Shapes: NxI -> NxO, or any axes before I; weight OxI, bias O
-- Options: bias: whether b is added
-- Errors: an input with other features: which layer made it, and from what
-- Example: nn.Linear(6400, 4096)(cnn.rand(2, 6400)):shape() --> 2x4096
-- Source: the start: Glorot, Bengio 2010
-- See: nn.Flatten, nn.Conv2d, x:linear
function Linear:init(features_in, features_out, options)
  local who = "nn.Linear"
  options = argument.options(who, options, { "bias" })
  self.features_in = argument.optional_whole(who, "features_in", features_in)
  self.features_out = argument.whole(who, "features_out", features_out, 1)
  self.has_bias = argument.boolean(who, "bias", options.bias, true)
  if self.features_in then
    self:build(self.features_in, "cpu")
  else
    self.unbuilt = true
  end
end

function Linear:build(features_in, device)
  self.weight = Parameter(weights.linear(self.features_out, features_in, device))
  if self.has_bias then
    self.bias = Parameter(weights.bias(self.features_out, features_in, device))
  end
end

Linear.forget = forget

function Linear:extra()
  local features_in = self.weight and self.weight:size(2) or "nil"
  return ("%s, %d%s"):format(features_in, self.features_out, self.has_bias and "" or
    ", { bias = false }")
end

function Linear:forward(x)
  if not self.weight then build_at(self, x, -1) end
  return ops.linear(x, self.weight, self.bias)
end

-- --------------------------------------------------------------------------------- Conv2d

local Conv2d = layer "Conv2d"

--- nn.Conv2d(channels_in, channels_out, kernel, { stride = 1, padding = 0, dilation = 1,
---   groups = 1, bias = true })
-- Convolution of pictures. Sizes are a number or { h, w }. channels_in may be nil: it is found at
-- the first input, also one of shapes only. Weights start Xavier-uniform, the bias uniform within
-- 1 / sqrt(C/groups KH KW).
-- Shapes: NxCxHxW -> NxOxOHxOW, OH = floor((H + 2 padding - dilation (kernel - 1) - 1) / stride) +
--   1; weight OxC/groupsxKHxKW, bias O
-- Options: stride: pixels from window to window; padding: zeros around the picture; dilation:
--   pixels from tap to tap; groups: output group i sees input group i only; bias: whether one is
--   added
-- Errors: an input with other channels, or smaller than the window: which layer made it; groups
--   that do not divide the channels
-- Example: nn.Conv2d(1, 96, 11, { stride = 4, padding = 1 })(cnn.rand(1, 1, 224, 224)):shape()
--   --> 1x96x54x54
-- Source: the start: Glorot, Bengio 2010
-- See: nn.MaxPool2d, nn.BatchNorm2d, net:filters, x:conv2d
function Conv2d:init(channels_in, channels_out, kernel, options)
  local who = "nn.Conv2d"
  options = argument.options(who, options, { "stride", "padding", "dilation", "groups", "bias" })
  self.channels_in = argument.optional_whole(who, "channels_in", channels_in)
  self.channels_out = argument.whole(who, "channels_out", channels_out, 1)
  self.kh, self.kw = argument.pair(who, "kernel", kernel, 1)
  self.sh, self.sw = argument.pair(who, "stride", options.stride or 1, 1)
  self.ph, self.pw = argument.pair(who, "padding", options.padding or 0, 0)
  self.dh, self.dw = argument.pair(who, "dilation", options.dilation or 1, 1)
  self.groups = argument.whole(who, "groups", options.groups or 1, 1)
  self.has_bias = argument.boolean(who, "bias", options.bias, true)
  if self.channels_out % self.groups ~= 0 then
    err.raise(("nn.Conv2d: groups: expected a divisor of %d output channels, got %d")
      :format(self.channels_out, self.groups))
  end
  if self.channels_in then
    self:build(self.channels_in, "cpu")
  else
    self.unbuilt = true
  end
end

function Conv2d:build(channels_in, device)
  if channels_in % self.groups ~= 0 then
    err.raise(("nn.Conv2d: groups: expected a divisor of %d input channels, got %d")
      :format(channels_in, self.groups))
  end
  local channels = channels_in / self.groups
  self.weight = Parameter(weights.conv(self.channels_out, channels, self.kh, self.kw, device))
  if self.has_bias then
    self.bias = Parameter(weights.bias(self.channels_out, channels * self.kh * self.kw, device))
  end
end

Conv2d.forget = forget

function Conv2d:extra()
  local channels_in = self.weight and self.weight:size(2) * self.groups or "nil"
  return ("%s, %d, %s%s"):format(channels_in, self.channels_out, pair_text(self.kh, self.kw),
    settings {
      { "stride", pair_text(self.sh, self.sw), "1" },
      { "padding", pair_text(self.ph, self.pw), "0" },
      { "dilation", pair_text(self.dh, self.dw), "1" },
      { "groups", tostring(self.groups), "1" },
      { "bias", tostring(self.has_bias), "true" },
    })
end

function Conv2d:forward(x)
  if not self.weight then build_at(self, x, 2) end
  return ops.conv2d(x, self.weight, self.bias, self.sh, self.sw, self.ph, self.pw, self.dh,
    self.dw, self.groups)
end

-- ---------------------------------------------------------------------------------- norms

local function make_affine(self, shape)
  self.weight = Parameter(create.ones(shape))
  self.bias = Parameter(create.zeros(shape))
end

local function batch_norm(name, axes, layout)
  local BatchNorm = layer(name)
  local who = "nn." .. name

  function BatchNorm:init(channels, options)
    options = argument.options(who, options,
      { "eps", "momentum", "affine", "track_running_stats" })
    self.channels = argument.optional_whole(who, "channels", channels)
    self.eps = argument.number(who, "eps", options.eps or 1e-5, 0)
    self.momentum = argument.number(who, "momentum", options.momentum or 0.1, 0)
    if self.momentum > 1 then
      err.raise(("%s: momentum: expected a number from 0 to 1, got %g"):format(who, self.momentum))
    end
    self.affine = argument.boolean(who, "affine", options.affine, true)
    self.tracks = argument.boolean(who, "track_running_stats", options.track_running_stats, true)
    if self.channels then
      self:build(self.channels, "cpu")
    else
      self.unbuilt = true
    end
  end

  function BatchNorm:build(channels, device)
    self.channels = channels
    if self.affine then
      self.weight = Parameter(create.ones({ channels }, { device = device }))
      self.bias = Parameter(create.zeros({ channels }, { device = device }))
    end
    if self.tracks then
      self:buffer("running_mean", create.zeros({ channels }, { device = device }))
      self:buffer("running_var", create.ones({ channels }, { device = device }))
    end
  end

  function BatchNorm:forget()
    local state = members.state(self)
    forget(self)
    self.channels = nil
    state.buffers.running_mean, state.buffers.running_var = nil, nil
  end

  function BatchNorm:extra()
    return (self.channels or "nil") .. settings {
      { "eps", self.eps, 1e-5 },
      { "momentum", self.momentum, 0.1 },
      { "affine", tostring(self.affine), "true" },
      { "track_running_stats", tostring(self.tracks), "true" },
    }
  end

  function BatchNorm:forward(x)
    if self.unbuilt then build_at(self, x, 2) end
    if not is_tensor(x) or not axes[x:dim()] then
      err.raise(("expected an input of %s, got %s")
        :format(layout, is_tensor(x) and tostring(x:shape()) or err.got(x)))
    end
    local training = (self.training or not self.tracks) and 1 or 0
    return ops.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var,
      training, self.momentum, self.eps)
  end
end

--- nn.BatchNorm1d(channels, { eps = 1e-5, momentum = 0.1, affine = true,
---   track_running_stats = true })
-- Batch normalization of features: nn.BatchNorm2d for NxC.
-- Shapes: NxC -> NxC; weight, bias, running_mean, running_var C
-- Options: as nn.BatchNorm2d
-- Errors: other axes or channels; in training a batch of one
-- Example: nn.BatchNorm1d(120)(cnn.rand(8, 120)):shape() --> 8x120
-- Source: Ioffe, Szegedy 2015
-- See: nn.BatchNorm2d
batch_norm("BatchNorm1d", { [2] = true }, "NxC")

--- nn.BatchNorm2d(channels, { eps = 1e-5, momentum = 0.1, affine = true,
---   track_running_stats = true })
-- Batch normalization: each channel to mean 0 and variance 1, times weight plus bias. In training
-- by the batch's statistics, which also move the running averages; else by those. channels may be
-- nil: it is found at the first input.
-- Shapes: NxCxHxW -> NxCxHxW; weight, bias, running_mean, running_var C
-- Options: eps: added to the variance; momentum: the share of the batch in the running averages;
--   affine: whether there are weight and bias; track_running_stats: whether there are running
--   averages, without which the batch's statistics always count
-- Errors: other axes or channels; in training one value a channel
-- Example: nn.BatchNorm2d(3)(cnn.rand(8, 3, 4, 4)):mean():abs():item() < 1e-5 --> true
-- Source: Ioffe, Szegedy 2015
-- See: nn.BatchNorm1d, nn.GroupNorm, nn.LayerNorm, net:eval
batch_norm("BatchNorm2d", { [4] = true }, "NxCxHxW")

local LayerNorm = layer "LayerNorm"

--- nn.LayerNorm(shape, { eps = 1e-5, elementwise_affine = true })
-- Each sample's last axes to mean 0 and variance 1, times weight plus bias. `shape` is the size of
-- the last axis, or a list of sizes of the last axes.
-- Shapes: any that ends in shape -> the same; weight, bias shape
-- Options: eps: added to the variance; elementwise_affine: whether there are weight and bias
-- Errors: an input that does not end in shape
-- Example: nn.LayerNorm(8)(cnn.rand(2, 8)):mean():abs():item() < 1e-5 --> true
-- Source: Ba, Kiros, Hinton 2016
-- See: nn.BatchNorm2d, nn.GroupNorm
function LayerNorm:init(shape, options)
  local who = "nn.LayerNorm"
  options = argument.options(who, options, { "eps", "elementwise_affine" })
  self.sizes = type(shape) == "table" and shape or { shape }
  if #self.sizes == 0 then err.raise(who .. ": shape: expected one size or more, got none") end
  for _, size in ipairs(self.sizes) do argument.whole(who, "shape", size, 1) end
  self.eps = argument.number(who, "eps", options.eps or 1e-5, 0)
  if argument.boolean(who, "elementwise_affine", options.elementwise_affine, true) then
    make_affine(self, self.sizes)
  end
end

function LayerNorm:extra()
  local sizes = #self.sizes == 1 and tostring(self.sizes[1])
    or "{ " .. table.concat(self.sizes, ", ") .. " }"
  return sizes .. settings {
    { "eps", self.eps, 1e-5 },
    { "elementwise_affine", tostring(self.weight ~= nil), "true" },
  }
end

function LayerNorm:forward(x)
  local n = #self.sizes
  local fits = is_tensor(x) and x:dim() >= n
  for i = 1, n do fits = fits and x:size(x:dim() - n + i) == self.sizes[i] end
  if not fits then
    err.raise(("expected an input that ends in %s, got %s"):format(table.concat(self.sizes, "x"),
      is_tensor(x) and tostring(x:shape()) or err.got(x)))
  end
  return ops.layer_norm(x, n, self.weight, self.bias, self.eps)
end

local GroupNorm = layer "GroupNorm"

--- nn.GroupNorm(groups, channels, { eps = 1e-5, affine = true })
-- Each sample's groups of channels to mean 0 and variance 1, times weight plus bias.
-- Shapes: NxC or NxCxHxW -> the same; weight, bias C
-- Options: eps: added to the variance; affine: whether there are weight and bias
-- Errors: groups that do not divide the channels; an input with other channels
-- Example: nn.GroupNorm(2, 8)(cnn.rand(4, 8, 6, 6)):shape() --> 4x8x6x6
-- Source: Wu, He 2018
-- See: nn.BatchNorm2d, nn.LayerNorm
function GroupNorm:init(groups, channels, options)
  local who = "nn.GroupNorm"
  options = argument.options(who, options, { "eps", "affine" })
  self.groups = argument.whole(who, "groups", groups, 1)
  self.channels = argument.whole(who, "channels", channels, 1)
  if self.channels % self.groups ~= 0 then
    err.raise(("%s: groups: expected a divisor of %d channels, got %d")
      :format(who, self.channels, self.groups))
  end
  self.eps = argument.number(who, "eps", options.eps or 1e-5, 0)
  if argument.boolean(who, "affine", options.affine, true) then
    make_affine(self, { self.channels })
  end
end

function GroupNorm:extra()
  return ("%d, %d%s"):format(self.groups, self.channels, settings {
    { "eps", self.eps, 1e-5 },
    { "affine", tostring(self.weight ~= nil), "true" },
  })
end

function GroupNorm:forward(x)
  if is_tensor(x) and x:dim() >= 2 and x:size(2) ~= self.channels then
    err.raise(("expected %d channels, got %d"):format(self.channels, x:size(2)))
  end
  return ops.group_norm(x, self.groups, self.weight, self.bias, self.eps)
end

return layers
