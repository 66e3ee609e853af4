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

--- nn.init.xavier_uniform(w)
-- Overwrites w, uniform within sqrt(6 / (fan_in + fan_out)): how nn.Linear and nn.Conv2d start.
-- Returns w, as all of nn.init do.
-- Shapes: OxI or OxIxkhxkw; fan_in I * kh * kw, fan_out O * kh * kw
-- Errors: fewer than 2 axes; it has no options
-- Example: nn.init.xavier_uniform(cnn.zeros(3, 3)):max():item() < 1 --> true
-- Source: Glorot, Bengio 2010
-- See: nn.init.kaiming_uniform, net:apply
function init.xavier_uniform(w, options)
  local fan_in, fan_out = fans("xavier_uniform", w, options)
  return draw_uniform(w, math.sqrt(6 / (fan_in + fan_out)))
end

--- nn.init.xavier_normal(w)
-- Overwrites w, normal with standard deviation sqrt(2 / (fan_in + fan_out)).
-- Shapes: OxI or OxIxkhxkw; fan_in I * kh * kw, fan_out O * kh * kw
-- Errors: fewer than 2 axes; it has no options
-- Example: nn.init.xavier_normal(net[1].weight):shape() --> 8x1x3x3
-- Source: Glorot, Bengio 2010
-- See: nn.init.xavier_uniform
function init.xavier_normal(w, options)
  local fan_in, fan_out = fans("xavier_normal", w, options)
  return draw_normal(w, 0, math.sqrt(2 / (fan_in + fan_out)))
end

--- nn.init.kaiming_uniform(w)
-- Overwrites w, uniform within sqrt(6 / fan_in): for layers that a ReLU follows.
-- Shapes: OxI or OxIxkhxkw; fan_in I * kh * kw
-- Errors: fewer than 2 axes; it has no options
-- Example: nn.init.kaiming_uniform(cnn.zeros(4, 6)):max():item() < 1 --> true
-- Source: He, Zhang, Ren, Sun 2015
-- See: nn.init.xavier_uniform
function init.kaiming_uniform(w, options)
  return draw_uniform(w, math.sqrt(6 / (fans("kaiming_uniform", w, options))))
end

--- nn.init.kaiming_normal(w)
-- Overwrites w, normal with standard deviation sqrt(2 / fan_in): for layers that a ReLU follows.
-- Shapes: OxI or OxIxkhxkw; fan_in I * kh * kw
-- Errors: fewer than 2 axes; it has no options
-- Example: nn.init.kaiming_normal(net[1].weight):shape() --> 8x1x3x3
-- Source: He, Zhang, Ren, Sun 2015
-- See: nn.init.kaiming_uniform
function init.kaiming_normal(w, options)
  return draw_normal(w, 0, math.sqrt(2 / (fans("kaiming_normal", w, options))))
end

--- nn.init.uniform(w, lo = 0, hi = 1)
-- Overwrites w, uniform in [lo, hi).
-- Shapes: any shape
-- Errors: a bound that is not finite; it has no options
-- Example: nn.init.uniform(cnn.zeros(9), 2, 3):min():item() >= 2 --> true
-- See: nn.init.normal, cnn.rand
function init.uniform(w, lo, hi, options)
  check("uniform", w, options)
  lo = argument.number("nn.init.uniform", "lo", lo or 0)
  hi = argument.number("nn.init.uniform", "hi", hi or 1)
  return overwrite(w, uniform(w:shape(), lo, hi, w.device))
end

--- nn.init.normal(w, mean = 0, std = 1)
-- Overwrites w, normal.
-- Shapes: any shape
-- Errors: a std that is negative or not finite; it has no options
-- Example: nn.init.normal(cnn.zeros(2), 5, 0) --> f32[2] cpu 5 5
-- See: nn.init.uniform, cnn.randn
function init.normal(w, mean, std, options)
  check("normal", w, options)
  return draw_normal(w, argument.number("nn.init.normal", "mean", mean or 0),
    argument.number("nn.init.normal", "std", std or 1, 0))
end

--- nn.init.constant(w, value)
-- Overwrites w with one value.
-- Shapes: any shape
-- Errors: a value that is no number; it has no options
-- Example: nn.init.constant(cnn.zeros(2), 0.5) --> f32[2] cpu 0.5 0.5
-- See: nn.init.zeros, nn.init.ones
function init.constant(w, value, options)
  check("constant", w, options)
  autograd.no_grad(w.fill, w, value)
  return w
end

--- nn.init.zeros(w)
-- Overwrites w with zeros.
-- Shapes: any shape
-- Errors: what is no tensor; it has no options
-- Example: nn.init.zeros(cnn.ones(2)) --> f32[2] cpu 0 0
-- See: nn.init.constant
function init.zeros(w, options) return init.constant(w, 0, options) end

--- nn.init.ones(w)
-- Overwrites w with ones.
-- Shapes: any shape
-- Errors: what is no tensor; it has no options
-- Example: nn.init.ones(cnn.zeros(2)) --> f32[2] cpu 1 1
-- See: nn.init.constant
function init.ones(w, options) return init.constant(w, 1, options) end

return weights
