-- The gradients of a linear layer, whose weight and bias get theirs at once: every variant, every
-- way in which the gradient of its output can lie, each set of wanted ones, recorded and not.

local cnn = require "cnn"
local engine = require "spec.support.engine"

local function near(what, got, expected, tolerance)
  assert.same({ unpack(expected:shape()) }, { unpack(got:shape()) }, what)
  local p, n = engine.values(got)
  local q = engine.values(expected)
  for i = 0, n - 1 do
    local off = math.abs(p[i] - q[i])
    assert.is_true(off <= tolerance * math.max(1, math.abs(q[i])),
      ("%s: element %d: got %.9g, expected %.9g"):format(what, i + 1, p[i], q[i]))
  end
end

-- f(y, c) of the layer's output and a constant of its sizes; the gradient of its sum by y is then
-- g(c), stored as the name says.
local ways = {
  ["row by row"] = {
    function(y, c) return y * c end,
    function(c) return c end,
  },
  ["column by column"] = {
    function(y, c) return y:transpose(1, 2) * c:transpose(1, 2):contiguous() end,
    function(c) return c end,
  },
  ["as one number"] = {
    function(y) return y end,
    function(c) return c * 0 + 1 end,
  },
  ["as a slice"] = {
    function(y, c) return cnn.cat({ c, y }, 2) * cnn.cat({ c, c }, 2) end,
    function(c) return c end,
  },
}

-- samples, features in, features out
local shapes = {
  { 5, 3, 4 }, { 1, 7, 5 }, { 6, 1, 3 }, { 6, 3, 1 }, { 1, 1, 1 }, { 0, 3, 4 }, { 33, 17, 65 },
  { 260, 9, 12 },
}

-- Numbers that are the same in bf16.
local function random(...) return cnn.randn({ ... }):to "bf16":to "f32" end

local function values_of(n, i, o)
  cnn.manual_seed(3)
  return random(n, i), random(o, i), random(o), random(n, o)
end

local function gradients(precision, wants, recorded, f, x, w, b, c)
  if engine.device == "cuda" then cnn.cuda.precision(precision) end
  local given = { x = x:clone(), w = w:clone(), b = b:clone() }
  c = c:to(engine.device)
  for name, tensor in pairs(given) do
    given[name] = tensor:to(engine.device)
    given[name].requires_grad = wants:find(name) ~= nil
  end
  local function forward()
    local sum = f(given.x:linear(given.w, given.b), c):sum()
    sum:backward()
    return sum
  end
  if recorded then cnn.step(forward) else forward() end
  local grads = {}
  for name, tensor in pairs(given) do grads[name] = tensor.grad and tensor.grad:to "cpu" end
  return grads
end

local function check(variant, precision, way, shape)
  local x, w, b, c = values_of(unpack(shape))
  local dy = way[2](c)
  local expected = engine.with("generic", function()
    local dw, db = dy:transpose(1, 2):matmul(x), dy:sum(1):view(shape[3])
    return { x = dy:matmul(w), w = dw, b = db }
  end)
  for _, recorded in ipairs { false, true } do
    for _, wants in ipairs { "xwb", "wb", "w", "b" } do
      local got = engine.with(variant, gradients, precision, wants, recorded, way[1], x, w, b, c)
      for k in ("xwb"):gmatch "." do
        local what = ("d%s of %s, wanted %s"):format(k, table.concat(shape, "x"), wants)
        assert.equal(wants:find(k) ~= nil, got[k] ~= nil, what)
        if got[k] then near(what, got[k], expected[k], 2e-5) end
      end
    end
  end
end

describe("a linear layer's gradients", function()
  after_each(function()
    if engine.has_card then cnn.cuda.precision "auto" end
    engine.use(nil)
  end)

  for name, way in pairs(ways) do
    for i, variant in ipairs(engine.variants) do
      local on_card = i > #engine.cpu_variants
      for _, precision in ipairs(on_card and { "fp32", "bf16" } or { "fp32" }) do
        it(("are right when its output's lies %s: %s, %s"):format(name, variant, precision),
          function()
            for _, shape in ipairs(shapes) do check(variant, precision, way, shape) end
          end)
      end
    end
  end
end)
