-- The layers of the eight nets in their real shapes: forward, data gradient and weight gradient of
-- every kernel variant, in memory that was full of NaN before.
--
-- generic is the judge up to GENERIC_MACS; it is naive loops, so above that the best variant is
-- compared with the others instead. BATCH images are enough: tiles are cut within a picture.

local cnn = require "cnn"
local bind = require "cnn.bind"
local calls = require "cnn.calls"
local engine = require "spec.support.engine"
local golden = require "spec.support.golden"
local scripts = require "spec.support.scripts"

local BATCH = 2
local GENERIC_MACS = 30e6
local DOUBLE_MACS = 10e6 -- the host double of a card is some ten times slower still
local TOLERANCE = 5e-5 -- of the largest deviation, relative to the root mean square

-- kind -> the op's name and its arguments, where T{...} stands for a tensor that gets a gradient
local function T(...) return { sizes = { ... } } end

local arguments = {
  Conv2d = function(layer, n, c, h, w)
    local o = layer.channels_out
    return "conv2d", { T(n, c, h, w), T(o, c / layer.groups, layer.kh, layer.kw), T(o), layer.sh,
      layer.sw, layer.ph, layer.pw, layer.dh, layer.dw, layer.groups }
  end,
  Linear = function(layer, n, features)
    return "linear", { T(n, features), T(layer.features_out, features), T(layer.features_out) }
  end,
  MaxPool2d = function(layer, ...)
    return "max_pool2d", { T(...), layer.kh, layer.kw, layer.sh, layer.sw, layer.ph, layer.pw }
  end,
  AvgPool2d = function(layer, ...)
    return "avg_pool2d", { T(...), layer.kh, layer.kw, layer.sh, layer.sw, layer.ph, layer.pw }
  end,
  AdaptiveAvgPool2d = function(layer, ...)
    return "adaptive_avg_pool2d", { T(...), layer.oh, layer.ow }
  end,
  BatchNorm2d = function(layer, n, c, ...)
    return "batch_norm", { T(n, c, ...), T(c), T(c), nil, nil, 1, layer.momentum, layer.eps }
  end,
  ReLU = function(_, ...) return "relu", { T(...) } end,
}

local function describe_call(op, list)
  local words = {}
  for i = 1, table.maxn(list) do
    local argument = list[i]
    words[i] = type(argument) == "table" and table.concat(argument.sizes, "x") or tostring(argument)
  end
  return op .. "(" .. table.concat(words, ", ") .. ")"
end

-- What a net calls, each shape once over all nets: { op, arguments, text, macs }.
local function layers_of(name, seen)
  local recipe, list = scripts.recipe(name), {}
  local function enter(layer, _, x)
    local make = arguments[layer.kind]
    if not make then return end
    local op, call = make(layer, unpack(x:shape()))
    local text = describe_call(op, call)
    if seen[text] then return end
    seen[text] = true
    list[#list + 1] = { op = op, call = call, text = text }
  end
  local x = cnn.zeros({ BATCH, unpack(recipe.input) }, { device = "meta" })
  calls.observe({ enter = enter, leave = function() end }, function()
    cnn.no_grad(function() recipe.net(x) end)
  end)
  return list
end

-- ------------------------------------------------------------------------------------- one layer

local function make_tensors(layer)
  cnn.manual_seed(5)
  local tensors, all = {}, {}
  for i = 1, table.maxn(layer.call) do
    local argument = layer.call[i]
    if type(argument) == "table" then
      local x = cnn.randn(argument.sizes)
      argument = (#argument.sizes == 4 and x:channels_last() or x):to(engine.device)
      tensors[#tensors + 1] = argument
    end
    all[i] = argument
  end
  return all, tensors
end

-- The output and the inputs' gradients, in order; in bf16 the first input is an activation.
local function run(layer, precision)
  cnn.precision(precision)
  local all, tensors = make_tensors(layer)
  local total = 0
  for _, x in ipairs(tensors) do
    x.requires_grad = true
    total = total + x:numel()
  end
  engine.poison(math.max(2 * total, 2 ^ 20))
  if precision == "bf16" then all[1] = bind.ops.to(all[1], "bf16") end
  local y = bind.ops[layer.op](unpack(all, 1, table.maxn(layer.call)))
  local seed = cnn.randn({ unpack(y:shape()) }):to(engine.device):to(y.dtype)
  engine.C.cnn_data(seed)
  engine.poison(math.max(2 * total, 2 ^ 20))
  y:backward(seed)
  engine.clean()
  local results = { y:detach():to("cpu"):to "f32" }
  for _, x in ipairs(tensors) do results[#results + 1] = x.grad:to "cpu" end
  return results
end

-- Of bf16 two roundings of the largest value may be neighbours.
local function allowed(e, precision)
  if precision == "bf16" then return e:abs():max():item() / 128 end
  return TOLERANCE * (e * e):mean():sqrt():item()
end

local function assert_same(layer, precision, variant, judge, got, expected)
  assert.equal(#expected, #got)
  for i, e in ipairs(expected) do
    local most = allowed(e, precision)
    local deviation = (got[i] - e):abs():max():item()
    if not (deviation <= most) then
      error(("%s, %s: %s differs from %s by %g in %s, where %g is allowed"):format(layer.text,
        precision, variant, judge, deviation, i == 1 and "the output" or "gradient " .. i - 1,
        most), 0)
    end
  end
end

-- Whether a variant can do so many multiply-adds in a moment.
local function is_quick(variant, layer, macs)
  if engine.card_is_double and variant == "cuda" then return macs <= DOUBLE_MACS end
  if variant == "generic" then return macs <= GENERIC_MACS end
  return variant ~= "blas" or layer.op ~= "conv2d" -- it has none of its own
end

-- How many variants were compared with the judge, the CPU's best one.
local function check_layer(layer, precision, variants, judge)
  engine.C.cnn_macs()
  local best = engine.with(judge, run, layer, precision)
  local macs = tonumber(engine.C.cnn_macs())
  local compared = 0
  for _, variant in ipairs(variants) do
    if variant ~= judge and is_quick(variant, layer, macs) then
      local other = engine.with(variant, run, layer, precision)
      assert_same(layer, precision, judge, variant, best, other)
      compared = compared + 1
    end
  end
  return compared
end

local function check_fp32(layer)
  local cpu = engine.cpu_variants
  return check_layer(layer, "fp32", engine.variants, cpu[#cpu])
end

local function check_bf16(layer)
  local cpu = engine.cpu_mixed_variants
  return check_layer(layer, "bf16", cpu, cpu[#cpu])
end

describe("the kernels agree on the layers of", function()
  local seen = {}
  after_each(function()
    engine.clean()
    engine.use(nil)
    collectgarbage()
  end)

  for _, name in ipairs(golden.nets) do
    it(name, function()
      local compared = 0
      for _, layer in ipairs(layers_of(name, seen)) do
        compared = compared + check_fp32(layer) + check_bf16(layer)
      end
      assert.is_true(compared > 0 or name == "bn_lenet", "nothing was compared")
    end)
  end
end)
