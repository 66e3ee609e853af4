-- weights.lua - how parameters start.
--
-- Weights of Linear and Conv2d: Xavier-uniform (Glorot, Bengio 2010), bound
-- sqrt(6 / (fan_in + fan_out)). Biases: uniform within 1 / sqrt(fan_in).
--
-- Surprising: a convolution's weights are O x C x kh x kw to everyone, but lie in memory as
-- O kh kw C. They are drawn in that order, when they are first used.

local ffi = require "ffi"
local engine = require "cnn.ffi"
local argument = require "cnn.argument"
local err = require "cnn.error"
local autograd = require "cnn.autograd"
local bind = require "cnn.bind"
local handle = require "cnn.handle"

local C, wrap = engine.C, handle.wrap

local weights = {}

local function sizes_of(shape)
  local buffer = ffi.new("int64_t[?]", math.max(1, #shape))
  for i, size in ipairs(shape) do buffer[i - 1] = size end
  return buffer, #shape
end

local function uniform(shape, bound, device)
  local sizes, n = sizes_of(shape)
  return wrap(C.cnn_uniform(sizes, n, -bound, bound, device))
end

-- O x I
function weights.linear(features_out, features_in, device)
  local bound = math.sqrt(6 / (features_in + features_out))
  return uniform({ features_out, features_in }, bound, device)
end

-- O x C x kh x kw; `channels` is per group.
function weights.conv(out, channels, kh, kw, device)
  local bound = math.sqrt(6 / (kh * kw * (channels + out)))
  return bind.ops.permute(uniform({ out, kh, kw, channels }, bound, device), { 1, 4, 2, 3 })
end

function weights.bias(n, fan_in, device)
  return uniform({ n }, 1 / math.sqrt(math.max(1, fan_in)), device)
end

-- ------------------------------------------------------------------------- nn.init, in place

local init = {}
weights.init = init

local function check(who, w)
  if not handle.is_tensor(w) then
    err.raise(("nn.init.%s(w): expected a tensor, got %s"):format(who, err.got(w)))
  end
  return w
end

-- fan_in, fan_out of a weight: O x I or O x I x kh x kw.
local function fans(who, w)
  if not handle.is_tensor(w) or w:dim() < 2 then
    err.raise(("nn.init.%s(w): expected a weight with 2 axes or more, got %s")
      :format(who, err.got(w)))
  end
  local field = w:numel() / (w:size(1) * w:size(2))
  return w:size(2) * field, w:size(1) * field
end

local function overwrite(w, values)
  autograd.no_grad(w.copy, w, values)
  return w
end

local function draw_uniform(w, bound)
  return overwrite(w, uniform(w:shape(), bound, w.device))
end

local function draw_normal(w, mean, std)
  local sizes, n = sizes_of(w:shape())
  return overwrite(w, wrap(C.cnn_normal(sizes, n, mean, std, w.device)))
end

function init.xavier_uniform(w)
  local fan_in, fan_out = fans("xavier_uniform", w)
  return draw_uniform(w, math.sqrt(6 / (fan_in + fan_out)))
end

function init.xavier_normal(w)
  local fan_in, fan_out = fans("xavier_normal", w)
  return draw_normal(w, 0, math.sqrt(2 / (fan_in + fan_out)))
end

-- He et al. 2015, for layers that a ReLU follows.
function init.kaiming_uniform(w)
  return draw_uniform(w, math.sqrt(6 / (fans("kaiming_uniform", w))))
end

function init.kaiming_normal(w)
  return draw_normal(w, 0, math.sqrt(2 / (fans("kaiming_normal", w))))
end

function init.uniform(w, lo, hi)
  local sizes, n = sizes_of(check("uniform", w):shape())
  lo = argument.number("nn.init.uniform", "lo", lo or 0)
  hi = argument.number("nn.init.uniform", "hi", hi or 1)
  return overwrite(w, wrap(C.cnn_uniform(sizes, n, lo, hi, w.device)))
end

function init.normal(w, mean, std)
  check("normal", w)
  return draw_normal(w, argument.number("nn.init.normal", "mean", mean or 0),
    argument.number("nn.init.normal", "std", std or 1, 0))
end

function init.constant(w, value)
  check("constant", w)
  autograd.no_grad(w.fill, w, value)
  return w
end

function init.zeros(w) return init.constant(w, 0) end

function init.ones(w) return init.constant(w, 1) end

return weights
