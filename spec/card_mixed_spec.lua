-- What --precision bf16 does beside the ops (bf16_spec.lua has those): rows of bf16 that begin
-- anywhere, weights that become bf16 together, pictures that are made so, bytes that are counted.

local ffi = require "ffi"
local cnn = require "cnn"
local bind = require "cnn.bind"
local handle = require "cnn.handle"
local compare = require "spec.support.compare"
local engine = require "spec.support.engine"

local nn, ops, C = cnn.nn, bind.ops, engine.C
local SHAPES = 6

if not engine.has_card then
  describe("mixed precision", function()
    pending "needs a GPU, or the host double of make specs: spec/card_mixed_spec.lua"
  end)
  return
end

local function same_bits(got, expected, what)
  local p, n = engine.values(got)
  local q, m = engine.values(expected)
  assert.equal(m, n, what)
  local why = compare.equal(p, q, n)
  if why then error(what .. ": " .. why, 0) end
end

-- Deterministic picks, so that a failure comes again.
local state = 1
local function pick(from, to)
  state = (state * 16807) % 2147483647
  return from + state % (to - from + 1)
end

-- x as the channels from `first` on of a larger one that is NaN elsewhere.
local function slice(x, first, channels)
  local n, c, h, w = unpack(x:shape())
  local function beside(k)
    return cnn.full({ n, k, h, w }, 0 / 0, { device = "cuda" }):to "bf16":channels_last()
  end
  local parts = { x, beside(channels - first - c) }
  if first > 0 then table.insert(parts, 1, beside(first)) end
  return ops.narrow(ops.cat(parts, 2), 2, first + 1, c)
end

-- What each op makes of x, and of y where it takes two: results, each with its name. `recorded`:
-- norm, sum and ReLU join.
local walks = {}

function walks.norm(x, y, gamma, beta)
  local c = gamma:size(1)
  local mean, var = cnn.zeros(c):to "cuda", cnn.ones(c):to "cuda"
  local z = cnn.step(function()
    return (ops.batch_norm(x, gamma, beta, mean, var, 1, 0.1, 1e-5) + y):relu()
  end)
  return { z = z, mean = mean, var = var }
end

function walks.pool(x)
  local h, w = x:size(3), x:size(4)
  return {
    max = ops.max_pool2d(x, 2, 3, 1, 2, 1, 1),
    avg = ops.avg_pool2d(x, 3, 2, 2, 1, 1, 0),
    all = ops.avg_pool2d(x, h, w, 1, 1, 0, 0),
    adaptive = ops.adaptive_avg_pool2d(x, 2, 3),
  }
end

function walks.pointwise(x, y, gamma)
  return {
    add = x + y, scaled = x * gamma:view(1, -1, 1, 1):to "bf16", gelu = ops.gelu(x),
    where = ops.where(ops.gt(x, y), x, y), padded = ops.pad(x, { 1, 0, 0, 2 }, 0.5),
    clone = x:clone(),
  }
end

-- All results, and the gradients of what they are made of; `at`: where x and y begin.
local function walk(name, values, at, channels)
  local leaves = {}
  for i, v in ipairs(values) do
    leaves[i] = v:clone()
    leaves[i].requires_grad = true
  end
  local x, y = leaves[1]:to "bf16", leaves[2]:to "bf16"
  if at then x, y = slice(x, at, channels), slice(y, at, channels) end
  local results = walks[name](x, y, leaves[3], leaves[4])
  local keys, total = {}, nil
  for key, z in pairs(results) do
    if z.requires_grad then keys[#keys + 1] = key end
  end
  table.sort(keys)
  for _, key in ipairs(keys) do -- the gradient of each lies as a slice does, too
    local z = results[key]
    cnn.manual_seed(3)
    local weights = cnn.randn(z:shape()):to "cuda":to "bf16"
    local loss = ((at and slice(z, at, channels) or z) * weights):to "f32":sum()
    results["loss of " .. key] = loss
    total = total and total + loss or loss
  end
  total:backward()
  for i, leaf in ipairs(leaves) do results["gradient " .. i] = leaf.grad end
  return results
end

describe("rows of bf16", function()
  after_each(function()
    engine.clean()
    engine.use(nil)
  end)

  -- Eight channels go at once where rows allow it, else four, else one: nobody sees which.
  for _, name in ipairs { "norm", "pool", "pointwise" } do
    it("give the same bits wherever they begin: " .. name, function()
      engine.use(engine.card_variants[#engine.card_variants])
      assert(C.cnn_cuda_set_precision "bf16" == 0)
      for _ = 1, SHAPES do
        local n, h, w = pick(1, 3), pick(3, 9), pick(3, 9)
        local c = pick(1, 4) == 1 and pick(1, 70) or 4 * pick(1, 18)
        local function random(...) return cnn.randn({ ... }):to "cuda" end
        local values = {
          random(n, c, h, w):channels_last(), random(n, c, h, w):channels_last(), random(c),
          random(c),
        }
        local expected = walk(name, values)
        for _, at in ipairs { 0, 1, 4, 8 } do
          local channels = c + at + pick(0, 2) * 4
          local got = walk(name, values, at, channels)
          for key, value in pairs(expected) do
            same_bits(got[key], value, ("%s of %dx%dx%dx%d at %d of %d"):format(key, n, c, h, w,
              at, channels))
          end
        end
      end
    end)
  end
end)

describe("weights", function()
  after_each(function()
    engine.clean()
    engine.use(nil)
  end)

  -- Two updates in one step: what the second forward takes is not there when the first begins.
  local function trained(recorded)
    cnn.manual_seed(8)
    local net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.Flatten(),
      nn.Linear(32, 6), nn.Linear(6, 3)):to "cuda"
    local opt = cnn.optim.SGD(net:parameters(), { lr = 0.05, momentum = 0.9 })
    local x, losses = cnn.randn({ 5, 1, 6, 6 }):to "cuda", {}
    local y = cnn.tensor({ 1, 2, 3, 1, 2 }):to "cuda"
    local function update()
      opt:zero_grad()
      local loss = nn.CrossEntropyLoss()(net(x), y)
      loss:backward()
      opt:step()
      return loss
    end
    local function twice() return update() + update() end
    for i = 1, 5 do losses[i] = recorded and cnn.step(twice) or twice() end
    return losses, net:parameters()
  end

  it("become bf16 at once, those that are there, and each time that they have changed", function()
    engine.use(engine.card_variants[1])
    assert(C.cnn_cuda_set_precision "bf16" == 0)
    local losses, weights = trained(false)
    local got, others = trained(true)
    for i = 1, #losses do same_bits(got[i], losses[i], "loss " .. i) end
    for i = 1, #weights do same_bits(others[i], weights[i], "parameter " .. i) end
    assert.is_true(losses[5]:item() < losses[1]:item())
  end)

  -- Sizes around a thread's eight and a block's 4096, more of them than one launch names.
  it("are rounded as one by one", function()
    engine.use(engine.card_variants[1])
    assert(C.cnn_cuda_set_precision "bf16" == 0)
    local sizes, given, expected = { 1, 7, 8, 9, 0, 4095, 4096, 4097, 9000 }, {}, {}
    for i = 1, 160 do
      local n = sizes[i] or pick(1, 60)
      given[i] = cnn.randn({ n + 1 }):to "cuda"
      if i % 3 == 0 then given[i] = given[i]:narrow(1, 2, n):clone() end
      expected[i] = given[i]:to "bf16"
    end
    for _ = 1, 3 do
      local results = { cnn.step(function()
        local list = {}
        for i, x in ipairs(given) do list[i] = x:to "bf16" end
        return unpack(list)
      end) }
      for i, x in ipairs(results) do same_bits(x, expected[i], "array " .. i) end
    end
  end)
end)

describe("activation bytes", function()
  after_each(function()
    engine.clean()
    engine.use(nil)
  end)

  it("are counted as they will lie", function()
    local net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
      nn.Flatten(), nn.Linear(36, 3))
    local function bytes(precision)
      assert(C.cnn_cuda_set_precision(precision) == 0)
      local list = {}
      for i, row in ipairs(net:shapes({ 2, 1, 8, 8 }, { quiet = true })) do list[i] = row.bytes end
      return list
    end
    local wide, narrow = bytes "fp32", bytes "bf16"
    for i, n in ipairs { 288, 288, 288, 72, 72, 6 } do
      assert.equal(4 * n, wide[i])
      assert.equal(i == 6 and 4 * n or 2 * n, narrow[i]) -- products answer sums: f32
    end
  end)
end)

describe("pictures", function()
  after_each(function()
    engine.clean()
    engine.use(nil)
  end)

  local function batch(p, first, count)
    local x, y = ffi.new "cnn_tensor *[1]", ffi.new "cnn_tensor *[1]"
    assert.equal(0, C.cnn_pictures_batch(p, first, count, x, y))
    return handle.wrap(x[0]), handle.wrap(y[0])
  end

  it("are made as bf16 where that is what they are used as", function()
    engine.use(engine.card_variants[1])
    assert(C.cnn_cuda_set_precision "bf16" == 0)
    local data = cnn.data.from({
      train = { images = (cnn.rand(40, 1, 7, 9) * 255):to "u8", labels = cnn.ones(40) },
      test = { images = (cnn.rand(2, 1, 7, 9) * 255):to "u8", labels = cnn.ones(2) },
      classes = { "a" },
    })
    local p = C.cnn_pictures_new(data.train.dataset, 30, 9, 13)
    assert.equal(0, C.cnn_pictures_shuffle(p, 3, 1))
    local conv = nn.Conv2d(1, 3, 3):to "cuda"
    for i = 1, 5 do -- the third time and after that a graph
      local x, labels = batch(p, 1 + i, 7)
      local plain = batch(p, 1 + i, 7)
      local expected = (plain + 0):to "bf16" -- of f32 values
      same_bits(batch(p, 1 + i, 7):to "bf16", expected, "a batch")
      same_bits(batch(p, 1 + i, 7):view(7, -1):to "bf16", expected, "a batch as rows")
      local whole, seen = cnn.step(function() return conv(x), x:to "bf16" end)
      same_bits(seen, expected, "a batch within a step")
      same_bits(whole, conv(expected), "a convolution")
      local changed = batch(p, 1 + i, 7)
      local zeros = cnn.step(function()
        changed:fill(0)
        return changed:to "bf16"
      end)
      same_bits(zeros, expected * 0, "a batch that was written to")
      assert.equal(7, labels:size(1))
    end
    C.cnn_pictures_release(p)
  end)
end)
