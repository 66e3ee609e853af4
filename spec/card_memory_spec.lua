-- The CUDA device's memory: that it does not grow, what graphs hold of it, and what happens where
-- there is little. On a machine without a card its host double takes part (see
-- spec/support/engine.lua), whose memory is as small as a test wants it.

local ffi = require "ffi"
local cnn = require "cnn"
local bind = require "cnn.bind"
local engine = require "spec.support.engine"
local made_up = require "spec.support.made_up"

local nn, C = cnn.nn, engine.C

if not engine.has_card then
  describe("the memory of a CUDA device", function()
    pending "needs a GPU, or the host double of make specs: spec/card_memory_spec.lua"
  end)
  return
end

local function graphs() return tonumber(C.cnn_cuda_graphs()) end

local criterion = nn.CrossEntropyLoss()

describe("a card's memory", function()
  it("does not grow over 1,000 steps", function()
    local net = made_up.small_net()
    net(cnn.zeros(2, 1, 8, 8))
    net:to "cuda"
    local x, y = cnn.rand({ 4, 1, 8, 8 }, { device = "cuda" }), cnn.ones({ 4 }, { device = "cuda" })
    local opt = cnn.optim.SGD(net:parameters(), { lr = 0.01 })
    local function some(count)
      for _ = 1, count do
        cnn.step(function()
          opt:zero_grad()
          criterion(net(x), y):backward()
          opt:step()
          opt:zero_grad()
        end)
      end
      collectgarbage()
      collectgarbage()
      return cnn.cuda.memory()
    end
    local before = some(20)
    local after = some(1000)
    assert.equal(before.in_use, after.in_use)
    assert.equal(before.held, after.held)
  end)

  it("holds no more for a captured step than for one that runs op by op", function()
    local x = cnn.rand({ 1000, 100 }, { device = "cuda" })
    local function step()
      return cnn.step(function()
        local y = x
        for i = 1, 20 do y = (y * i):sigmoid() end
        return y:sum()
      end)
    end
    collectgarbage()
    cnn.cuda.empty_cache()
    cnn.cuda.reset_peak()
    local before = cnn.cuda.memory().in_use
    step():item()
    local plain = cnn.cuda.memory().peak - before
    cnn.cuda.reset_peak()
    step():item()
    assert.is_true(cnn.cuda.memory().peak - before <= plain * 1.1 + 65536,
      ("%d bytes, %d op by op"):format(cnn.cuda.memory().peak - before, plain))
  end)

  it("is the graphs' no longer when a step that runs op by op needs it", function()
    local function sum(rows)
      local x = cnn.ones({ rows, 1000 }, { device = "cuda" })
      return cnn.step(function()
        local y = x
        for i = 1, 6 do y = cnn.cat({ y:narrow(1, 1, rows - 1) * i, y:narrow(1, 1, 1) }, 1) end
        return y:sum()
      end):item()
    end
    local function collect()
      collectgarbage()
      collectgarbage()
      cnn.cuda.empty_cache()
      return cnn.cuda.memory()
    end
    local before = collect()
    for _ = 1, 3 do sum(1000) end
    local m = collect()
    local room = math.ceil((m.held + (m.held - before.held) * 0.7) / 2 ^ 20)
    ffi.C.setenv("CNN_HOST_CARD_MB", tostring(room), 1) -- a real card has what it has
    local ok, why = pcall(sum, 990)
    ffi.C.unsetenv "CNN_HOST_CARD_MB"
    assert.is_true(ok, tostring(why))
  end)

  it("is counted, and given back", function()
    collectgarbage()
    collectgarbage()
    cnn.cuda.reset_peak()
    local before = cnn.cuda.memory()
    local x = cnn.zeros({ 1000, 1000 }, { device = "cuda" })
    assert.equal(0, x[1][1]:item())
    local with = cnn.cuda.memory()
    assert.is_true(with.in_use - before.in_use >= 4e6)
    assert.is_true(with.peak >= with.in_use)
    assert.is_true(with.held >= with.in_use)
    C.cnn_release(ffi.gc(x, nil))
    collectgarbage()
    collectgarbage()
    cnn.cuda.empty_cache()
    assert.is_true(cnn.cuda.memory().in_use < with.in_use)
  end)

  it("ends in one line that says how much there is", function()
    local ok, why = pcall(function()
      return cnn.zeros({ 1e6, 1e6 }, { device = "cuda" })[1][1]:item()
    end)
    assert.is_false(ok)
    assert.truthy(tostring(why):find("out of memory on cuda:0: 4000000.0 MB more asked for", 1,
      true), tostring(why))
    assert.equal(3, cnn.full({ 2 }, 3, { device = "cuda" })[2]:item())
  end)
end)

-- ---------------------------------------------------------------------------------- little memory

-- Calls fn with `mb` MB more on the card than what it holds now. (A real card has what it has.)
local function with_room(mb, fn, ...)
  C.cnn_use_kernels(nil) -- no graphs
  collectgarbage()
  collectgarbage()
  cnn.cuda.empty_cache()
  local room = math.ceil(cnn.cuda.memory().held / 2 ^ 20) + mb
  ffi.C.setenv("CNN_HOST_CARD_MB", tostring(room), 1)
  C.cnn_cuda_spare(1) -- it is not asked for each step
  local ok, result = pcall(fn, ...)
  ffi.C.unsetenv "CNN_HOST_CARD_MB"
  C.cnn_cuda_spare(1)
  return ok, result
end

describe("a card with little memory", function()
  local SIZE = { 1000, 400 } -- 1.6 MB, which takes 2
  local function ones() return cnn.ones(SIZE, { device = "cuda" }) end

  -- Losses and sums of what steps return: large tensors, for which a graph needs memory besides.
  local function steps(count)
    cnn.manual_seed(4)
    local w = cnn.rand(SIZE, { device = "cuda" })
    w.requires_grad = true
    local opt, list = cnn.optim.SGD({ w }, { lr = 0.01 }), {}
    for i = 1, count do
      local x = cnn.full(SIZE, i / count, { device = "cuda" })
      local loss, y = cnn.step(function()
        local y = (bind.ops.dropout(x * w, 0.2) * 2):sigmoid()
        local z = cnn.cat({ y, y * w }, 1)
        local loss = (z * z):mean()
        loss:backward()
        opt:step()
        opt:zero_grad()
        return loss, y
      end)
      list[i] = { loss:item(), y:mean():item() }
      collectgarbage()
    end
    return list
  end

  it("goes on op by op where a step cannot be captured for want of memory", function()
    local expected, least, before = steps(5), nil, graphs()
    for mb = 14, 34, 4 do
      local ok, got = with_room(mb, steps, 5)
      if ok then assert.same(expected, got) end
      least = least or ok and mb
      assert.is_true(ok or not least,
        ("%d MB are enough, %d are not: %s"):format(least or 0, mb, tostring(got)))
    end
    assert.is_true(least and least <= 22, ("it needs %s MB"):format(least))
    assert.is_true(graphs() > before)
  end)

  it("captures the step once there is room", function()
    local x = ones()
    local function step()
      return cnn.step(function()
        local y = x
        for i = 1, 4 do y = cnn.cat({ (y * i):narrow(1, 1, 999), y:narrow(1, 1, 1) }, 1) end
        return y
      end):mean():item()
    end
    local ok, got = with_room(10, function()
      local list = {}
      for i = 1, 4 do
        list[i] = step()
        collectgarbage()
      end
      return list
    end)
    assert.is_true(ok, got)
    local before = graphs()
    for _ = 1, 12 do table.insert(got, step()) end
    for _, v in ipairs(got) do assert.equal(got[1], v) end
    assert.is_true(graphs() > before)
  end)

  local function goes_on(mb, fn)
    local ok, why = with_room(mb, function()
      for _ = 1, 30 do fn() end
    end)
    assert.is_true(ok, tostring(why))
  end

  it("is not full of garbage: ops one by one", function()
    local x = ones()
    goes_on(12, function()
      local y = (x * 2 + 1):relu() - x
      local z = cnn.zeros(SIZE, { device = "cuda" })
      assert.equal(2, z:copy(y)[1000][400]:item())
    end)
  end)

  it("is not full of garbage: the same random numbers", function()
    local x = ones()
    local function masks()
      cnn.manual_seed(3)
      local list = {}
      for i = 1, 10 do list[i] = bind.ops.dropout(x, 0.5):sum():item() end
      return list
    end
    local expected = masks()
    local ok, got = with_room(6, masks)
    assert.is_true(ok, tostring(got))
    assert.same(expected, got)
  end)

  it("is not full of garbage: backward, and what steps return", function()
    local w = ones()
    w.requires_grad = true
    goes_on(24, function()
      w.grad = nil
      local loss = ((w * 2):sigmoid() * w):sum()
      loss:backward()
      loss:item()
    end)
    w = w:detach()
    goes_on(16, function()
      cnn.step(function() return cnn.cat({ w:sigmoid() + 1, w }, 1):narrow(1, 500, 1000) * 2 end)
    end)
  end)
end)
