-- Concatenation in place (core/layout.c): what a recorded step concatenates is made where it will
-- lie. The same values and gradients as op by op, less memory, and copies where a part has to stay
-- as it is.

local cnn = require "cnn"
local engine = require "spec.support.engine"
local compare = require "spec.support.compare"
local ops = require("cnn.bind").ops

local nn, C = cnn.nn, engine.C

-- Where all cancels, as in the gradient of a shift before a norm, what is left is no value.
local NOTHING = 1e-3

local function close(got, expected, tolerance, what)
  local p, n = engine.values(got)
  local q, m = engine.values(expected)
  assert.equal(m, n)
  local most = 0
  for i = 0, n - 1 do most = math.max(most, math.abs(p[i]), math.abs(q[i])) end
  local why = most > NOTHING * tolerance and compare.close(p, q, n, tolerance, 1)
  if why then error(what .. ": " .. why, 0) end
end

-- Calls f(inputs, parameters) op by op, and as a step three times, which a card then replays. f
-- answers the loss and what else is to be compared.
local function check(f, leaves, tolerance)
  local function run(recorded)
    for _, x in ipairs(leaves) do x.grad = nil end
    local function all()
      local results = { f() }
      results[1]:backward()
      return unpack(results)
    end
    local results
    if recorded then results = { cnn.step(all) } else results = { all() } end
    for _, x in ipairs(leaves) do results[#results + 1] = x.grad and x.grad:clone() end
    return results
  end
  local expected = run(false)
  for time = 1, 3 do
    local got = run(true)
    assert.equal(#expected, #got)
    for i, e in ipairs(expected) do
      close(got[i], e, tolerance, ("time %d, result %d"):format(time, i))
    end
  end
end

local function picture(...)
  local x = cnn.randn(...):channels_last():to(engine.device)
  x.requires_grad = true
  return x
end

-- Every case on every variant; on a card with bf16 activations too.
local function everywhere(name, f)
  it(name, function()
    for _, variant in ipairs(engine.variants) do
      engine.with(variant, function()
        cnn.manual_seed(11)
        f(2e-5)
        if engine.device == "cpu" then return end
        assert(C.cnn_cuda_set_precision "bf16" == 0)
        cnn.manual_seed(11)
        f(0.06)
      end)
    end
  end)
end

local function layer(net) return net:to(engine.device) end

describe("concatenation in a recorded step", function()
  after_each(function() engine.use(nil) end)

  everywhere("is the same for a dense block", function(tolerance)
    local x, blocks, leaves = picture(2, 8, 6, 5), {}, {}
    leaves[1] = x
    for i = 1, 3 do
      blocks[i] = layer(nn.Sequential(nn.BatchNorm2d(8 * i), nn.ReLU(),
        nn.Conv2d(8 * i, 8, 3, { padding = 1 })))
      for _, p in ipairs(blocks[i]:parameters()) do leaves[#leaves + 1] = p end
    end
    check(function()
      local y = x:max_pool2d(2, 2, 1, 1, 0, 0)
      for _, block in ipairs(blocks) do y = ops.cat({ y, block(y) }, 2) end
      return (y * y):sum()
    end, leaves, tolerance)
  end)

  everywhere("is the same for parallel paths, with parts that cannot lie there", function(tolerance)
    local x = picture(3, 8, 5, 4)
    local one = layer(nn.Conv2d(8, 16, 1))
    local odd = layer(nn.Conv2d(8, 5, 3, { padding = 1 }))
    local three = layer(nn.Conv2d(8, 8, 3, { padding = 1, bias = false }))
    check(function()
      local a, b, c = one(x):relu(), odd(x):relu(), three(x)
      local pooled = x:max_pool2d(3, 3, 1, 1, 1, 1)
      local y = ops.cat({ a, b, c, pooled, x, a }, 2) -- b of odd width, x a leaf, a twice
      local z = ops.cat({ a, c }, 2)                  -- both lie elsewhere already
      return (y * y):sum() + (z * z):sum(), c
    end, { x, one.weight, one.bias, odd.weight, three.weight }, tolerance)
  end)

  everywhere("is the same where a part is viewed, returned or written to", function(tolerance)
    local x = picture(2, 8, 4, 4)
    local one, two = layer(nn.Conv2d(8, 8, 1)), layer(nn.Conv2d(8, 8, 1))
    check(function()
      local a, b = one(x), two(x)
      local y = ops.cat({ a, b:relu() }, 2)
      local flat = a:view(2, -1)
      return (y * y):sum() + (flat * flat):sum(), b, y
    end, { x, one.weight, two.weight }, tolerance)
    check(function()
      local a = cnn.no_grad(function() return one(x) end)
      a:fill(2)
      local y = ops.cat({ a, two(x) }, 2)
      return (y * y):sum()
    end, { x, two.weight }, tolerance)
  end)

  everywhere("is the same where the whole is written to", function(tolerance)
    local x = picture(2, 8, 4, 4)
    local one, two = layer(nn.Conv2d(8, 8, 1)), layer(nn.Conv2d(8, 8, 1))
    check(function()
      local a, b = one(x), two(x)
      local y = cnn.no_grad(function()
        local whole = ops.cat({ a, ops.cat({ b, a }, 2) }, 2)
        whole:narrow(2, 1, 8):fill(0)
        return whole
      end)
      return (a * a):sum() + (b * b):sum(), y
    end, { x, one.weight, two.weight }, tolerance)
  end)

  everywhere("is the same of a part that is all there is, along other axes, without gradients",
    function(tolerance)
      local x = picture(2, 8, 3, 4)
      local one = layer(nn.Conv2d(8, 8, 1))
      check(function()
        local a, b = one(x), x:relu()
        local y = ops.cat({ ops.cat({ a }, 2), b }, 2)
        local z = ops.cat({ ops.cat({ a, b }, 1), ops.cat({ b, a }, 1) }, 3)
        local w = cnn.no_grad(function() return ops.cat({ one(x):relu(), x:sigmoid() }, 2) end)
        return (y * y):sum() + (z * z):sum(), w
      end, { x, one.weight }, tolerance)
    end)

  -- Random nets: each layer takes something made before, some of it concatenated.
  everywhere("is the same for random nets", function(tolerance)
    for seed = 1, tolerance > 0.01 and 5 or 12 do
      local random = engine.random(seed + 100)
      local function pick(n) return 1 + math.floor(random() * n) end
      local x, leaves, plan, widths = picture(2, 8, 4, 5), {}, {}, { 8 }
      leaves[1] = x
      for i = 2, 9 do
        local kind, from = pick(5), pick(#widths)
        local entry = { kind = kind, from = from }
        local width = widths[from]
        if kind == 1 then
          width = pick(4) == 1 and 5 or 8
          entry.layer = layer(nn.Conv2d(widths[from], width, 3, { padding = 1 }))
        elseif kind == 2 then
          entry.layer = layer(nn.BatchNorm2d(width))
        elseif kind > 3 then
          entry.others = { from, pick(#widths), pick(#widths) }
          width = 0
          for _, k in ipairs(entry.others) do width = width + widths[k] end
        end
        for _, p in ipairs(entry.layer and entry.layer:parameters() or {}) do
          leaves[#leaves + 1] = p
        end
        plan[i], widths[i] = entry, width
      end
      check(function()
        local made = { x:affine(0.5, 0) }
        for i = 2, #widths do
          local e = plan[i]
          if e.layer then made[i] = e.layer(made[e.from])
          elseif e.kind == 3 then made[i] = made[e.from]:relu()
          else
            local parts = {}
            for k, from in ipairs(e.others) do parts[k] = made[from] end
            made[i] = ops.cat(parts, 2)
          end
        end
        local loss = (made[#made] * made[#made]):mean()
        for i = 2, #made - 1 do loss = loss + made[i]:mean() end
        return loss
      end, leaves, tolerance * 5)
    end
  end)

  it("takes no memory of its own for the parts", function()
    local n = 16 * 64 * 64 * 2
    local x = cnn.randn(2, 16, 64, 64):channels_last()
    local function peak(f)
      collectgarbage()
      C.cnn_reset_peak()
      local before = tonumber(C.cnn_bytes_peak()) -- of the CPU; what is alive counts a card's too
      cnn.no_grad(function() cnn.step(f) end)
      return (tonumber(C.cnn_bytes_peak()) - before) / (4 * n)
    end
    -- x is there; two parts and the whole of twice their size make 4, in place 2.
    local within = peak(function() return ops.cat({ x:relu(), x:abs() }, 2) end)
    local copied = peak(function() return ops.cat({ x:relu(), x:abs() }, 3) end)
    assert.is_true(within < 2.2, tostring(within))
    assert.is_true(copied > 2.8, tostring(copied))
  end)
end)
