-- weights.lua - how parameters start.
--
-- Weights of Linear and Conv2d: Xavier-uniform (Glorot, Bengio 2010), bound
-- sqrt(6 / (fan_in + fan_out)). Biases: uniform within 1 / sqrt(fan_in).
--
-- Surprising: a convolution's weights are O x C x kh x kw to everyone, but lie in memory as
-- O kh kw C. They are drawn in that order, when they are first used.

local engine = require "cnn.ffi"
local argument = require "cnn.argument"
local err = require "cnn.error"
local autograd = require "cnn.autograd"
local bind = require "cnn.bind"
local handle = require "cnn.handle"
local sizes = require "cnn.sizes"

local C, wrap = engine.C, handle.wrap

local weights = {}

-- Within [lo, hi).
local function uniform(shape, lo, hi, device)
  local buffer, n = sizes.buffer("weights", shape)
  return wrap(C.cnn_uniform(buffer, n, lo, hi, device))
end

-- O x I
function weights.linear(features_out, features_in, device)
  local bound = math.sqrt(6 / (features_in + features_out))
  return uniform({ features_out, features_in }, -bound, bound, device)
end

-- O x C x kh x kw; `channels` is per group.
function weights.conv(out, channels, kh, kw, device)
  local bound = math.sqrt(6 / (kh * kw * (channels + out)))
  local values = uniform({ out, kh, kw, channels }, -bound, bound, device)
  return bind.ops.permute(values, { 1, 4, 2, 3 })
end

function weights.bias(n, fan_in, device)
  local bound = 1 / math.sqrt(math.max(1, fan_in))
  return uniform({ n }, -bound, bound, device)
end

-- ------------------------------------------------------------------------- nn.init, in place

local init = {}
weights.init = init

-- Checks the arguments of nn.init[name](w, ..., options); there are no options yet.
local function check(name, w, options)
  local who = "nn.init." .. name
  if not handle.is_tensor(w) then
    err.raise(("%s(w): expected a tensor, got %s"):format(who, err.got(w)))
  end
  argument.options(who, options, {})
end

-- fan_in, fan_out of a weight: O x I or O x I x kh x kw.
local function fans(name, w, options)
  check(name, w, options)
  if w:dim() < 2 then
    err.raise(("nn.init.%s(w): expected a weight with 2 axes or more, got %s")
      :format(name, err.got(w)))
  end
  local field = w:numel() / (w:size(1) * w:size(2))
  return w:size(2) * field, w:size(1) * field
end

local function overwrite(w, values)
  autograd.no_grad(w.copy, w, values)
  return w
end

local function draw_uniform(w, bound)
  return overwrite(w, uniform(w:shape(), -bound, bound, w.device))
end

local function draw_normal(w, mean, std)
  local buffer, n = sizes.buffer("nn.init", w:shape())
  return overwrite(w, wrap(C.cnn_normal(buffer, n, mean, std, w.device)))
end

function init.xavier_uniform(w, options)
  local fan_in, fan_out = fans("xavier_uniform", w, options)
  return draw_uniform(w, math.sqrt(6 / (fan_in + fan_out)))
end

function init.xavier_normal(w, options)
  local fan_in, fan_out = fans("xavier_normal", w, options)
  return draw_normal(w, 0, math.sqrt(2 / (fan_in + fan_out)))
end

-- He et al. 2015, for layers that a ReLU follows.
function init.kaiming_uniform(w, options)
  return draw_uniform(w, math.sqrt(6 / (fans("kaiming_uniform", w, options))))
end

function init.kaiming_normal(w, options)
  return draw_normal(w, 0, math.sqrt(2 / (fans("kaiming_normal", w, options))))
end

function init.uniform(w, lo, hi, options)
  check("uniform", w, options)
  lo = argument.number("nn.init.uniform", "lo", lo or 0)
  hi = argument.number("nn.init.uniform", "hi", hi or 1)
  return overwrite(w, uniform(w:shape(), lo, hi, w.device))
end

function init.normal(w, mean, std, options)
  check("normal", w, options)
  return draw_normal(w, argument.number("nn.init.normal", "mean", mean or 0),
    argument.number("nn.init.normal", "std", std or 1, 0))
end

function init.constant(w, value, options)
  check("constant", w, options)
  autograd.no_grad(w.fill, w, value)
  return w
end

function init.zeros(w, options) return init.constant(w, 0, options) end

function init.ones(w, options) return init.constant(w, 1, options) end

return weights
