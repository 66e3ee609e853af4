-- catalogue.lua - one row an op of core/cnn.h: how to call it, and what may be asked of the result.
--
-- row = { cases, wide }: a case is the list of the call's arguments (inputs.T for a tensor); `wide`
-- is a case large enough to be cut into pieces for several threads. Further fields:
--   grad = false            no input is differentiable
--   tolerance, floor        |got - generic| <= tolerance * (|generic| + floor * rms(generic))
--   step                    of the numeric gradient
--   writes                  the call changes its first tensor in place; its inputs may change
--   layouts                 of inputs.layouts, those that the op is tried in (all)
--   changes                 the call changes one of its other tensors (running statistics)
--   prepare(tensor, ...)    before the call
--
-- Surprising: nothing here says what an op computes. Right values come from the goldens and from
-- the numeric gradient; this table asks that every variant, layout and number of threads agree.

local inputs = require "spec.support.inputs"

local T, NONE = inputs.T, inputs.NONE
local catalogue = {}

local function row(names, definition)
  for name in names:gmatch "%S+" do catalogue[name] = definition end
end

-- -------------------------------------------------------------------------------- arithmetic

local function pairs_of(lo, hi, apart)
  local function t(...) return T { lo = lo, hi = hi, apart = apart, ... } end
  local function u(...) -- never within a step of a value of t
    return T { lo = lo + 0.013, hi = hi * 0.97, apart = apart, ... }
  end
  return {
    { t(2, 3, 4, 5), u(2, 3, 4, 5) }, { t(2, 3, 4, 5), u(1, 3, 1, 1) }, { t(2, 1, 3), u(4, 1) },
    { t(7), u() }, { t(), u(3, 1) }, { t(17, 33), u(17, 33) }, { t(5, 6, 7), u(6, 1) },
    { t(0, 3, 2, 2), u(1, 3, 1, 1) }, { t(2, 3, 4, 5), u(3, 4, 1) },
  }
end

local function wide_pair(lo, hi)
  return { T { 3, 33, 37, 19, lo = lo, hi = hi }, T { 1, 33, 1, 1, lo = lo, hi = hi } }
end

row("add sub mul", { cases = pairs_of(-2, 2), wide = wide_pair(-2, 2) })
row("power", {
  cases = {
    { T { 3, 4, lo = 0.5, hi = 2 }, 2 }, { T { 2, 3, 4, 5 }, 2 }, { T { 2, 3, 4, 5 }, 3 },
    { T { 7, lo = 0.5, hi = 2 }, 0.5 }, { T { 7, lo = 0.5, hi = 2 }, -1.5 }, { T { 0, 3 }, 2 },
    { T { 5 }, 1 },
  },
  wide = { wide_pair(0.5, 2)[1], 2 },
})
row("div pow", { cases = pairs_of(0.5, 2), wide = wide_pair(0.5, 2) })
row("maximum minimum", { cases = pairs_of(-2, 2, true), wide = wide_pair(-2, 2), step = 2 ^ -11 })
-- Whole numbers, so that many are equal.
local function few(lo, hi, ...) return T { lo = lo, hi = hi, whole = true, grad = false, ... } end

row("eq ne lt le gt ge", {
  grad = false, wide = wide_pair(-2, 2),
  cases = {
    { few(-1, 1, 2, 3, 4, 5), few(-1, 1, 3, 1, 5) },
    { T { 19, lo = 0, hi = 2, whole = true, dtype = "i32" }, few(0, 2, 19) },
    { T { 0, 2 }, T { 2 } },
  },
})
row("where", {
  cases = {
    { few(0, 1, 2, 3, 4, 5), T { 2, 3, 4, 5 }, T { 3, 1, 1 } },
    { T { 4, 1, lo = 0, hi = 1, whole = true, dtype = "u8" }, T { 3 }, T { 4, 3 } },
  },
  wide = { few(0, 1, 33, 37, 19), T { 33, 37, 19 }, T {} },
})

-- --------------------------------------------------------------------------------- one input

local function shapes(lo, hi, ...)
  local extra, cases = { ... }, {}
  for _, sizes in ipairs { { 2, 3, 4, 5 }, { 13, 7 }, { 1031 }, {}, { 0, 3 }, { 1, 17, 1, 3 } } do
    local spec = T { lo = lo, hi = hi, apart = true, unpack(sizes) }
    cases[#cases + 1] = { spec, unpack(extra) }
  end
  return cases
end

local function activation(lo, hi, ...)
  return {
    cases = shapes(lo, hi, ...), wide = { T { 3, 33, 37, 19, lo = lo, hi = hi }, ... },
    floor = 0.1, tolerance = 4e-6, step = 2 ^ -11,
  }
end

row("neg abs relu sign", activation(-2, 2))
row("tanh sigmoid gelu silu", activation(-9, 9))
for name in ("tanh sigmoid gelu silu"):gmatch "%S+" do
  catalogue[name].floor = 1 -- 1 - y^2 and the like cancel in the tails
end
row("exp", activation(-5, 5))
row("log sqrt", activation(0.1, 9))
row("leaky_relu", activation(-2, 2, 0.1))
row("clamp", activation(-2, 2, -0.4713, 0.9135))
row("affine", activation(-2, 2, -1.7, 0.3))

-- -------------------------------------------------------------------------------- reductions

local function reductions(empty, apart)
  local function t(...) return T { apart = apart, ... } end
  local list = {
    { t(2, 3, 4, 5), {} }, { t(2, 3, 4, 5), { 1, 3, 4 } }, { t(2, 3, 4, 5), { 2 } },
    { t(2, 3, 4, 5), { -1 } }, { t(3, 7), { 1 } }, { t(7, 3), { 2 } }, { t(131), {} },
    { t(), {} }, { t(5, 1, 3), { 2 } }, { t(2, 37, 3), { 3, 1 } },
  }
  if empty then list[#list + 1] = { T { 0, 3 }, { 1 } } end
  list[#list + 1] = { T { 0, 3, 2 }, { 2 } }
  return list
end

local wide_picture = T { 3, 33, 37, 19 }

row("sum", { cases = reductions(true), wide = { wide_picture, { 1, 3, 4 } } })
row("var", { cases = reductions(), wide = { wide_picture, { 1, 3, 4 } } })
row("mean norm", { cases = reductions(), wide = { wide_picture, {} }, step = 2 ^ -7 })
row("max min", {
  cases = reductions(false, true), wide = { wide_picture, { 2 } }, step = 2 ^ -11,
})
row("argmax", {
  grad = false, wide = { wide_picture, 2 },
  cases = {
    { T { 5, 10 }, 2 }, { T { 5, 10, lo = 0, hi = 2, whole = true }, -1 },
    { T { 2, 3, 4, 5 }, 2 }, { T { 2, 3, 4, 5 }, 1 }, { T { 0, 3 }, 2 },
  },
})

-- ---------------------------------------------------------------------------- losses, softmax

row("softmax log_softmax", {
  cases = {
    { T { 5, 10 }, 2 }, { T { 2, 3, 4, 5 }, 2 }, { T { 7, 3 }, 1 }, { T { 33 }, 1 },
    { T { 3, 1 }, 2 }, { T { 0, 10 }, 2 }, { T { 3, 10, lo = -90, hi = 90 }, -1 },
  },
  wide = { T { 257, 131 }, 2 }, tolerance = 1e-5, floor = 0.1,
})

local function labels(n, classes)
  return T { n, lo = 1, hi = classes, whole = true, dtype = "i32" }
end

row("cross_entropy", {
  cases = {
    { T { 5, 10 }, labels(5, 10) }, { T { 1, 3 }, labels(1, 3) },
    { T { 33, 7, lo = -30, hi = 30 }, labels(33, 7) },
    { T { 4, 3 }, T { 4, values = { 1, 3, 3, 2 }, grad = false } },
  },
  wide = { T { 1031, 17 }, labels(1031, 17) },
})
row("mse", {
  cases = { { T { 3, 4 }, T { 3, 4 } }, { T { 2, 3, 4, 5 }, T { 1, 3, 1, 1 } }, { T { 7 }, T {} } },
  wide = { wide_picture, wide_picture },
})

-- ---------------------------------------------------------------------------------- products

row("matmul", {
  floor = 1, tolerance = 3e-6, step = 2 ^ -5,
  cases = {
    { T { 3, 4 }, T { 4, 2 } }, { T { 1, 1 }, T { 1, 1 } }, { T { 17, 33 }, T { 33, 19 } },
    { T { 1, 65 }, T { 65, 9 } }, { T { 9, 65 }, T { 65, 1 } }, { T { 2, 3, 4 }, T { 2, 4, 5 } },
    { T { 2, 1, 3, 4 }, T { 3, 4, 2 } }, { T { 3, 4 }, T { 2, 4, 2 } }, { T { 0, 4 }, T { 4, 2 } },
    { T { 3, 0 }, T { 0, 2 } },
  },
  wide = { T { 131, 97 }, T { 97, 113 } },
})
row("linear", {
  floor = 1, tolerance = 3e-6, step = 2 ^ -5,
  cases = {
    { T { 3, 4 }, T { 2, 4 }, T { 2 } }, { T { 3, 4 }, T { 2, 4 }, NONE },
    { T { 17, 33 }, T { 19, 33 }, T { 19 } }, { T { 1, 257 }, T { 10, 257 }, T { 10 } },
    { T { 0, 4 }, T { 2, 4 }, T { 2 } },
  },
  wide = { T { 67, 113 }, T { 131, 113 }, T { 131 } },
})

-- ------------------------------------------------------------------------------ views, copies

local function copies(...)
  local list = {}
  for _, sizes in ipairs { { 2, 3, 4, 5 }, { 17, 33 }, { 7 }, {}, { 0, 3 } } do
    list[#list + 1] = { T(sizes), ... }
  end
  return list
end

row("contiguous clone", { cases = copies(), wide = { T { 3, 33, 37, 19 } } })
row("channels_last", {
  cases = {
    { T { 2, 3, 4, 5 } }, { T { 1, 17, 3, 1 } }, { T { 0, 3, 2, 2 } }, { T { 2, 1, 3, 3 } },
  },
  wide = { T { 3, 33, 37, 19 } },
})
row("detach", { cases = copies(), wide = { T { 33, 37 } }, grad = false })
row("to", { cases = copies "f32", wide = { T { 33, 37 }, "f32" } })
row("view reshape", {
  cases = {
    { T { 2, 3, 4, 5 }, { 2, -1 } }, { T { 2, 3, 4 }, { 4, 6 } }, { T { 6 }, { 2, 3, 1 } },
    { T { 1 }, {} }, { T { 0, 3 }, { 3, 0 } }, { T { 2, 3, 4, 5 }, { -1 } },
  },
  wide = { T { 3, 33, 37, 19 }, { 3, -1 } },
})
row("transpose", {
  cases = { { T { 3, 4 }, 1, 2 }, { T { 2, 3, 4, 5 }, 2, -1 }, { T { 0, 3 }, 1, 2 } },
  wide = { T { 97, 33, 7 }, 1, 3 },
})
row("permute", {
  cases = { { T { 2, 3, 4, 5 }, { 1, 3, 4, 2 } }, { T { 2, 3 }, { 2, 1 } }, { T {}, {} } },
  wide = { T { 3, 33, 37, 19 }, { 1, 3, 4, 2 } },
})
row("narrow", {
  cases = { { T { 2, 7, 4, 5 }, 2, 3, 4 }, { T { 7 }, -1, 7, 1 }, { T { 3, 4 }, 1, 2, 0 } },
  wide = { T { 3, 33, 37, 19 }, 2, 5, 20 },
})
row("select", {
  cases = { { T { 2, 7, 4, 5 }, 2, 3 }, { T { 7 }, 1, 7 }, { T { 3, 4 }, 2, 1 } },
  wide = { T { 3, 33, 37, 19 }, 3, 5 },
})
row("expand", {
  cases = {
    { T { 1, 3, 1, 1 }, { 2, 3, 4, 5 } }, { T { 3 }, { 2, 3 } }, { T {}, { 5 } },
    { T { 2, 1 }, { -1, 3 } }, { T { 1, 3 }, { 0, 3 } },
  },
  wide = { T { 1, 33, 1, 19 }, { 3, 33, 37, 19 } },
})
row("squeeze", {
  cases = { { T { 2, 1, 4, 1 }, {} }, { T { 2, 1, 4, 1 }, { 2 } }, { T { 1, 3 }, { 1 } } },
  wide = { T { 33, 1, 37, 19 }, {} },
})
row("unsqueeze", {
  cases = { { T { 2, 3 }, 1 }, { T { 2, 3 }, 3 }, { T { 2, 3 }, -1 }, { T {}, 1 } },
  wide = { T { 33, 37, 19 }, 2 },
})
row("cat", {
  cases = {
    { { T { 2, 3, 4, 5 }, T { 2, 1, 4, 5 }, T { 2, 7, 4, 5 } }, 2 }, { { T { 3 }, T { 5 } }, 1 },
    { { T { 2, 3 }, T { 2, 0 }, T { 2, 2 } }, -1 }, { { T { 2, 2, 2, 2 } }, 1 },
    { { T { 2, 3, 2, 3 }, T { 2, 1, 2, 3 }, T { 2, 5, 2, 3 }, T { 2, 2, 2, 3 }, T { 2, 4, 2, 3 } },
      2 },
    { { T { 1 }, T { 2 }, T { 1 }, T { 3 }, T { 1 }, T { 1 }, T { 2 }, T { 1 }, T { 4 } }, 1 },
  },
  wide = { { T { 3, 33, 37, 19 }, T { 3, 7, 37, 19 } }, 2 },
})
row("stack", {
  cases = {
    { { T { 3, 4 }, T { 3, 4 } }, 1 }, { { T { 3 }, T { 3 }, T { 3 } }, 2 }, { { T {} }, 1 },
  },
  wide = { { T { 33, 37, 19 }, T { 33, 37, 19 } }, 2 },
})
row("pad", {
  cases = {
    { T { 2, 3, 4, 5 }, { 1, 2, 0, 1 }, 0.5 }, { T { 3 }, { 0, 0 }, 0 },
    { T { 2, 3 }, { 0, 1, 2, 0 }, -1 }, { T { 0, 2 }, { 1, 1 }, 7 },
  },
  wide = { T { 3, 33, 37, 19 }, { 1, 1, 1, 1 }, 0 },
})
row("index_select", {
  cases = {
    { T { 2, 4, 2 }, 2, T { 5, values = { 3, 1, 3, 4, 3 }, dtype = "i32" } },
    { T { 7 }, 1, T { 2, values = { 7, 1 }, grad = false } },
    { T { 3, 4 }, 1, T { 0, dtype = "i32" } },
    { T { 3, 4, 2, 5 }, -1, T { 3, values = { 5, 5, 1 }, dtype = "i32" } },
  },
  wide = { T { 33, 97, 19 }, 2, T { 120, lo = 1, hi = 97, whole = true, dtype = "i32" } },
})
row("copy", {
  writes = true, grad = false, wide = { T { 3, 33, 37, 19 }, T { 33, 1, 1 } },
  cases = {
    { T { 2, 3, 4, 5 }, T { 2, 3, 4, 5 } }, { T { 2, 3 }, T {} }, { T { 2, 3 }, T { 3 } },
    { T { 0, 3 }, T { 3 } },
  },
  layouts = { "dense", "channels_last", "transposed", "sliced", "channel_slice" },
})
row("fill", {
  writes = true, grad = false, wide = { T { 3, 33, 37, 19 }, 2.5 },
  cases = { { T { 2, 3, 4, 5 }, 2.5 }, { T {}, -1 }, { T { 0, 3 }, 1 } },
  layouts = { "dense", "channels_last", "transposed", "sliced", "channel_slice" },
})

-- ------------------------------------------------------------------------------------ layers

local function convolution(x, w, bias, sh, sw, ph, pw, dh, dw, groups)
  return { T(x), T(w), bias and T { w[1] } or NONE, sh, sw, ph, pw, dh, dw, groups }
end

row("conv2d", {
  floor = 1, tolerance = 5e-6, step = 2 ^ -5,
  cases = {
    convolution({ 2, 3, 5, 5 }, { 4, 3, 3, 3 }, true, 1, 1, 1, 1, 1, 1, 1),
    convolution({ 2, 3, 3, 2 }, { 4, 3, 1, 1 }, false, 1, 1, 0, 0, 1, 1, 1),
    convolution({ 1, 2, 5, 4 }, { 3, 2, 2, 3 }, true, 2, 1, 1, 2, 1, 1, 1),
    convolution({ 1, 2, 6, 4 }, { 2, 2, 3, 3 }, true, 1, 1, 1, 1, 2, 1, 1),
    convolution({ 2, 4, 4, 3 }, { 6, 2, 3, 3 }, true, 1, 1, 1, 1, 1, 1, 2),
    convolution({ 1, 3, 5, 5 }, { 3, 1, 3, 3 }, true, 2, 2, 1, 1, 1, 1, 3),
    convolution({ 1, 4, 7, 6 }, { 4, 2, 2, 3 }, false, 2, 1, 1, 2, 3, 2, 2),
    convolution({ 1, 1, 13, 12 }, { 5, 1, 11, 11 }, true, 4, 4, 1, 1, 1, 1, 1),
    convolution({ 2, 17, 7, 9 }, { 33, 17, 3, 3 }, true, 1, 1, 1, 1, 1, 1, 1),
    convolution({ 2, 19, 7, 5 }, { 21, 19, 1, 1 }, true, 2, 2, 0, 0, 1, 1, 1),
    convolution({ 1, 3, 9, 9 }, { 16, 3, 7, 7 }, true, 2, 2, 3, 3, 1, 1, 1),
    convolution({ 1, 16, 3, 3 }, { 32, 16, 5, 5 }, false, 1, 1, 2, 2, 1, 1, 1),
    convolution({ 0, 3, 5, 5 }, { 4, 3, 3, 3 }, true, 1, 1, 1, 1, 1, 1, 1),
    convolution({ 1, 2, 3, 4 }, { 3, 2, 2, 1 }, true, 9, 7, 0, 0, 1, 1, 1),
  },
  wide = convolution({ 3, 17, 19, 23 }, { 33, 17, 3, 3 }, true, 1, 1, 1, 1, 1, 1, 1),
})

local function pools()
  local function t(...) return T { apart = true, ... } end
  return {
    { t(2, 3, 5, 5), 3, 3, 2, 2, 1, 1 }, { t(2, 2, 5, 4), 2, 2, 2, 2, 0, 0 },
    { t(1, 2, 4, 6), 3, 2, 1, 2, 1, 0 }, { t(1, 17, 7, 7), 3, 3, 1, 1, 1, 1 },
    { t(1, 33, 6, 5), 3, 3, 2, 2, 0, 0 }, { t(2, 1, 1, 1), 1, 1, 1, 1, 0, 0 },
    { t(1, 2, 17, 18), 16, 16, 1, 1, 0, 0 },
    { T { 0, 3, 4, 4 }, 2, 2, 2, 2, 0, 0 },
  }
end

row("max_pool2d avg_pool2d", {
  cases = pools(), wide = { T { 3, 33, 37, 19 }, 3, 3, 2, 2, 1, 1 }, step = 2 ^ -11,
})
row("adaptive_avg_pool2d", {
  cases = {
    { T { 2, 3, 7, 5 }, 3, 2 }, { T { 2, 17, 5, 5 }, 1, 1 }, { T { 1, 2, 3, 2 }, 5, 3 },
    { T { 0, 3, 4, 4 }, 1, 1 },
  },
  wide = { T { 3, 33, 37, 19 }, 4, 3 },
})

local function gamma(...) return T { lo = 0.5, hi = 1.5, ... } end
local function running(...) return T { lo = 0.5, hi = 1.5, grad = false, fixed = true, ... } end

row("batch_norm", {
  floor = 1, tolerance = 2e-5, changes = true, step = 2 ^ -7,
  cases = {
    { T { 4, 3, 2, 2 }, gamma(3), T { 3 }, running(3), running(3), 1, 0.1, 1e-5 },
    { T { 4, 3, 2, 2 }, gamma(3), T { 3 }, running(3), running(3), 0, 0.1, 1e-5 },
    { T { 5, 3 }, gamma(3), T { 3 }, running(3), running(3), 1, 0.1, 1e-5 },
    { T { 2, 17, 5, 3 }, NONE, NONE, NONE, NONE, 1, 0.1, 1e-5 },
    { T { 3, 33, 3, 3, lo = 100, hi = 101 }, gamma(33), NONE, running(33), running(33), 1, 0.3,
      1e-3 },
    { T { 0, 3, 2, 2 }, gamma(3), T { 3 }, running(3), running(3), 0, 0.1, 1e-5 },
  },
  wide = { T { 3, 33, 37, 19 }, gamma(33), T { 33 }, running(33), running(33), 1, 0.1, 1e-5 },
})
row("layer_norm", {
  floor = 1, tolerance = 2e-5, step = 2 ^ -7,
  cases = {
    { T { 2, 3, 4 }, 1, gamma(4), T { 4 }, 1e-5 },
    { T { 2, 3, 2 }, 2, gamma(3, 2), T { 3, 2 }, 0.01 },
    { T { 3, 19 }, 1, NONE, NONE, 1e-5 }, { T { 2, 3, 4, 5 }, 3, NONE, NONE, 1e-5 },
    { T { 0, 4 }, 1, gamma(4), T { 4 }, 1e-5 },
  },
  wide = { T { 257, 131 }, 1, gamma(131), T { 131 }, 1e-5 },
})
row("group_norm", {
  floor = 1, tolerance = 2e-5, step = 2 ^ -7,
  cases = {
    { T { 2, 4, 2, 3 }, 2, gamma(4), T { 4 }, 1e-5 }, { T { 2, 6, 3, 3 }, 1, NONE, NONE, 1e-5 },
    { T { 2, 34, 3, 5 }, 17, gamma(34), T { 34 }, 1e-5 },
    { T { 3, 8 }, 4, gamma(8), T { 8 }, 1e-5 },
    { T { 0, 4, 2, 2 }, 2, NONE, NONE, 1e-5 },
  },
  wide = { T { 5, 32, 37, 19 }, 8, gamma(32), T { 32 }, 1e-5 },
})
row("dropout", {
  cases = { { T { 2, 3, 4, 5 }, 0.5 }, { T { 1031 }, 0.1 }, { T { 7 }, 0 }, { T { 0, 3 }, 0.5 } },
  wide = { T { 3, 33, 37, 19 }, 0.3 },
  layouts = { "dense" }, -- the mask follows the order in memory
})

-- -------------------------------------------------------------------------------- optimizers

local function with_gradient(p)
  local g = p:clone()
  p.grad = (g * 0.3 + 0.1):detach()
end

local function buffer(...) return T { lo = 0, hi = 0.1, fixed = true, ... } end

row("sgd", {
  writes = true, grad = false, layouts = { "dense" }, prepare = with_gradient,
  cases = {
    { T { 17 }, NONE, 0.1, 0, 0, 0, 1 }, { T { 3, 7 }, buffer(3, 7), 0.1, 0.9, 0.01, 0, 1 },
    { T { 3, 7 }, buffer(3, 7), 0.1, 0.9, 0.01, 1, 0 }, { T { 1031 }, NONE, 0.1, 0, 0.05, 0, 0 },
  },
  wide = { T { 70001 }, buffer(70001), 0.1, 0.9, 0.01, 1, 0 },
})
row("adam", {
  writes = true, grad = false, layouts = { "dense" }, prepare = with_gradient,
  cases = {
    { T { 17 }, buffer(17), buffer(17), 0.01, 0.9, 0.999, 1e-8, 0, 0, 1 },
    { T { 3, 7 }, buffer(3, 7), buffer(3, 7), 0.01, 0.8, 0.95, 1e-3, 0.1, 0, 4 },
    { T { 1031 }, buffer(1031), buffer(1031), 0.01, 0.9, 0.999, 1e-8, 0.1, 1, 9 },
  },
  wide = { T { 70001 }, buffer(70001), buffer(70001), 0.01, 0.9, 0.999, 1e-8, 0.1, 1, 9 },
})

return catalogue
