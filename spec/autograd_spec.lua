-- Gradients: where they arrive, when they are added, what switches them off, what spoils them, ops
-- written in Lua, and the same step run eagerly and recorded.

local cnn = require "cnn"
local nn = cnn.nn
local engine = require "spec.support.engine"
local errors = require "spec.support.errors"

local expect, values = errors.expect, engine.list

local function leaf(...)
  local x = cnn.tensor(...)
  x.requires_grad = true
  return x
end

describe("backward", function()
  it("fills x.grad of what requires it, and of nothing else", function()
    local x, c = leaf { 1, 2, 3 }, cnn.tensor { 4, 5, 6 }
    local loss = (x * c):sum()
    loss:backward()
    assert.same({ 4, 5, 6 }, values(x.grad))
    assert.is_nil(c.grad)
    assert.is_nil(loss.grad)
  end)

  it("adds to what is there, until it is set to nil", function()
    local x = leaf { 1, 2 }
    for i = 1, 3 do
      local y = x * x
      y:sum():backward()
      assert.same({ 2 * i, 4 * i }, values(x.grad))
    end
    x.grad = nil
    assert.is_nil(x.grad)
  end)

  it("adds up the ways by which a value is used", function()
    local x = leaf { 3 }
    local y = x * x + x + x:clone():view(1)
    y:sum():backward()
    assert.same({ 8 }, values(x.grad))
  end)

  it("undoes broadcasting", function()
    local a, b = leaf({ 1, 2, 3 }, { 1, 3 }), leaf({ 1, 1 }, { 2, 1 })
    local y = a * b
    y:sum():backward()
    assert.same({ 2, 2, 2 }, values(a.grad))
    assert.same({ 6, 6 }, values(b.grad))
  end)

  it("passes through views, slices and concatenation", function()
    local x = leaf({ 1, 2, 3, 4, 5, 6 }, { 2, 3 })
    local y = cnn.cat({ x:narrow(2, 2, 2), x:transpose(1, 2):narrow(1, 1, 2):transpose(1, 2) }, 2)
    local weighted = y * cnn.tensor({ 1, 2, 3, 4, 5, 6, 7, 8 }, { 2, 4 })
    weighted:sum():backward()
    assert.same({ { 3, 1 + 4, 2 }, { 7, 5 + 8, 6 } }, x.grad:totable())
    x.grad = nil
    x[2]:sum():backward()
    assert.same({ { 0, 0, 0 }, { 1, 1, 1 } }, x.grad:totable())
  end)

  it("takes a seed of the loss's shape", function()
    local x = leaf { 1, 2 }
    local y = x * 3
    expect("one element.*2", y.backward, y)
    expect("seed of shape 2, got 3", y.backward, y, cnn.ones(3))
    y:backward(cnn.tensor { 1, 10 })
    assert.same({ 3, 30 }, values(x.grad))
  end)

  it("runs once for each forward", function()
    local x = leaf { 1, 2 }
    local loss = (x * x):sum()
    loss:backward()
    expect("earlier backward.*forward again", loss.backward, loss)
    assert.same({ 2, 4 }, values(x.grad))
  end)

  it("needs something that requires a gradient", function()
    local loss = cnn.ones(3):sum()
    expect("does not depend on anything", loss.backward, loss)
    expect("f32", function() cnn.ones(2, { dtype = "i32" }).requires_grad = true end)
    expect("leaf.*mul", function() (leaf { 1 } * leaf { 1 }).requires_grad = false end)
  end)

  it("is not stopped by a chain of 20000 ops", function()
    local x = leaf { 1 }
    local y = x
    for _ = 1, 20000 do y = y + 1 end
    y:sum():backward()
    assert.same({ 1 }, values(x.grad))
  end)

  it("says which op needs a value that was changed in place", function()
    local a, b = leaf { 1, 2 }, cnn.tensor { 3, 4 }
    local y = a * b
    b:fill(0)
    expect({ "mul", "2", "changed in place" }, function() y:sum():backward() end)
    local x = leaf { 1, 2 }
    local e = x:exp()
    cnn.no_grad(function() e:fill(0) end)
    expect({ "exp", "changed in place" }, function() e:sum():backward() end)
    local w = leaf { 1, 2 }
    local z = (w * 2):sum() -- needs no value of w
    cnn.no_grad(function() w:fill(9) end)
    z:backward()
    assert.same({ 2, 2 }, values(w.grad))
  end)

  it("never lets in-place writing lose a gradient in silence", function()
    local x = leaf { 1, 2 }
    expect("requires a gradient", x.fill, x, 0)
    expect("gradient would be lost", function() cnn.zeros(2):copy(x * 2) end)
    cnn.no_grad(function() x:fill(7) end)
    assert.same({ 7, 7 }, values(x))
  end)
end)

describe("gradients are off", function()
  it("inside of cnn.no_grad, errors included", function()
    local x = leaf { 1, 2 }
    assert.is_true(cnn.is_grad_enabled())
    local y, enabled = cnn.no_grad(function() return x * 2, cnn.is_grad_enabled() end)
    assert.is_false(enabled)
    assert.is_false(y.requires_grad)
    assert.is_false((pcall(cnn.no_grad, function() error "x" end)))
    assert.is_true(cnn.is_grad_enabled())
    cnn.no_grad(function()
      cnn.no_grad(function() end)
      assert.is_false(cnn.is_grad_enabled())
    end)
  end)

  it("behind detach", function()
    local x = leaf { 1, 2 }
    local y = x * x:detach()
    y:sum():backward()
    assert.same({ 1, 2 }, values(x.grad))
    assert.is_false(x:detach().requires_grad)
  end)
end)

describe("an op written in Lua", function()
  local cube = nn.op {
    name = "cube",
    forward = function(ctx, x)
      ctx:save(x)
      return x * x * x
    end,
    backward = function(ctx, dy)
      local x = unpack(ctx.saved)
      return dy * x * x * 3
    end,
  }

  it("is called like a function and differentiated by its own rule", function()
    local x = leaf { 1, 2 }
    local y = cube(x * 2)
    assert.same({ 8, 64 }, values(y))
    y:sum():backward()
    assert.same({ 24, 96 }, values(x.grad))
  end)

  it("works several times in a graph, and in a recorded step", function()
    local x = leaf { 1 }
    cube(cube(x) + cube(x)):sum():backward()
    assert.same({ 72 }, values(x.grad))
    x.grad = nil
    cnn.step(function() cube(cube(x) + cube(x)):sum():backward() end)
    assert.same({ 72 }, values(x.grad))
  end)

  it("may have several inputs, some without gradient", function()
    local seen
    local scaled = nn.op {
      forward = function(_, a, b, k) return a * b * k end,
      backward = function(ctx, dy)
        seen = ctx.needs
        return dy * 5, nil
      end,
    }
    local a, b = leaf { 1, 2 }, cnn.tensor { 3, 4 }
    scaled(a, b, 2):sum():backward()
    assert.same({ 5, 5 }, values(a.grad))
    assert.same({ true, false }, seen)
  end)

  it("says what its backward gave wrong", function()
    local function op_with(backward)
      return nn.op { name = "mine", forward = function(_, x) return x * 1 end, backward = backward }
    end
    local function run(backward) op_with(backward)(leaf { 1, 2 }):sum():backward() end
    expect({ "mine", "gradient 1", "expected 2", "got 3" }, run, function() return cnn.ones(3) end)
    expect({ "mine", "1 gradients", "got 2" }, run, function(_, dy) return dy, dy end)
    expect({ "mine", "the string 'x'" }, run, function() return "x" end)
    assert.truthy(errors.message(run, function() error "my own" end):find "my own")
    expect("forward", nn.op, { backward = print })
    local x = leaf { 2 }
    cube(x):sum():backward() -- an error before leaves nothing behind
    assert.same({ 12 }, values(x.grad))
  end)

  it("gives each leaf a gradient of its own, whatever its backward answers", function()
    local a, b, c = leaf { 1, 2 }, leaf { 3, 4 }, leaf { 5, 6 }
    local answer
    local op = nn.op {
      forward = function(_, x, y, z) return x + y + z end,
      backward = function(_, dy)
        answer = dy * 1
        return answer, answer, c
      end,
    }
    op(a, b, c):sum():backward()
    cnn.no_grad(function()
      a.grad:fill(0)
      c.grad:fill(7)
    end)
    assert.same({ 1, 1 }, values(b.grad))
    assert.same({ 1, 1 }, values(answer))
    assert.same({ 5, 6 }, values(c:detach()))
  end)

  it("may answer a parameter, which stays on its device in a pass over shapes", function()
    local w = leaf { 1, 2 }
    local op = nn.op { forward = function() return w end, backward = function(_, dy) return dy end }
    assert.equal("meta", op(cnn.zeros({ 2 }, { device = "meta" })).device)
    assert.equal("cpu", w.device)
    assert.same({ 1, 2 }, values(w:detach()))
  end)

  it("lets go of the graph when its backward fails", function()
    local op = nn.op {
      forward = function(_, x) return x * 1 end, backward = function() error "no" end,
    }
    collectgarbage()
    local before = tonumber(engine.C.cnn_bytes_alive())
    local function run()
      local x = cnn.rand(2 ^ 20)
      x.requires_grad = true
      op(x:exp():exp()):exp():sum():backward()
    end
    assert.is_false(pcall(run))
    collectgarbage()
    collectgarbage()
    assert.is_true(tonumber(engine.C.cnn_bytes_alive()) - before < 2 ^ 20)
  end)

  it("gives its record back", function()
    local alive = setmetatable({}, { __mode = "k" })
    local op = nn.op {
      forward = function(ctx, x)
        alive[ctx] = true
        return x * 1
      end,
      backward = function(_, dy) return dy end,
    }
    local x = leaf { 1 }
    for _ = 1, 50 do op(x):sum():backward() end
    for _ = 1, 50 do op(x) end
    collectgarbage()
    collectgarbage()
    op(x):sum():backward()
    collectgarbage()
    collectgarbage()
    local n = 0
    for _ in pairs(alive) do n = n + 1 end
    assert.is_true(n <= 3, n .. " records are still held")
  end)
end)

describe("a recorded step", function()
  local function small_net()
    cnn.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
      nn.Flatten(), nn.Dropout(0.5), nn.Linear(4 * 9, 3))
  end

  local function train(run)
    local net = small_net()
    local opt = cnn.optim.SGD(net:parameters(), { lr = 0.1, momentum = 0.9 })
    local losses = {}
    for step = 1, 4 do
      engine.C.cnn_rng_step(step)
      local x, y = cnn.rand(5, 1, 8, 8), cnn.tensor { 1, 2, 3, 1, 2 }
      losses[step] = run(function()
        opt:zero_grad()
        local loss = nn.CrossEntropyLoss()(net(x), y)
        loss:backward()
        opt:step()
        return loss
      end):item()
    end
    local weights = {}
    for _, p in ipairs(net:parameters()) do weights[#weights + 1] = values(p:detach()) end
    for _, b in net:named_buffers() do weights[#weights + 1] = values(b) end
    return { losses, weights }
  end

  it("gives the same bits as eager ops", function()
    assert.same(train(function(f) return f() end), train(cnn.step))
  end)

  it("returns what the function returns, also in a table", function()
    local a, list, word = cnn.step(function() return cnn.ones(2) * 2, { cnn.ones(1) * 3 }, "x" end)
    assert.same({ 2, 2 }, values(a))
    assert.same({ 3 }, values(list[1]))
    assert.equal("x", word)
  end)

  it("answers when a value is asked for inside", function()
    local x = cnn.step(function()
      local y = cnn.ones(2) * 3
      if y:sum():item() > 5 then return y * 2 end
      return y
    end)
    assert.same({ 6, 6 }, values(x))
  end)

  it("forgets what has not run when it fails", function()
    local p = leaf { 1, 2 }
    assert.is_false((pcall(cnn.step, function()
      cnn.no_grad(function() p:fill(9) end)
      error "stop"
    end)))
    assert.same({ 1, 2 }, values(p))
    assert.same({ 4 }, values(cnn.step(function() return cnn.ones(1) * 4 end)))
  end)

  it("fails as a whole when a value turns out to be wrong", function()
    expect("label", function()
      cnn.step(function() return cnn.ones(1, 3):cross_entropy(cnn.tensor { 4 }) end)
    end)
    assert.same({ 4 }, values(cnn.step(function() return cnn.ones(1) * 4 end)))
  end)

  it("lets an op write where its input lies, when nothing else needs that", function()
    local x = cnn.rand(2 ^ 20) -- 4 MiB
    engine.C.cnn_data(x)
    local function chain()
      local y = x:exp()
      for _ = 1, 10 do y = (y * 0.5):tanh() + x end
      return y
    end
    local expected = chain()
    collectgarbage()
    local before = tonumber(engine.C.cnn_bytes_alive())
    engine.C.cnn_reset_peak()
    local got = cnn.step(function() return cnn.no_grad(chain) end)
    assert.is_true(tonumber(engine.C.cnn_bytes_peak()) - before < 2 * 2 ^ 22)
    assert.equal(0, (got - expected):abs():max():item())
  end)

  it("takes no memory for what it fills before that is its turn", function()
    engine.C.cnn_reset_peak()
    local before = tonumber(engine.C.cnn_bytes_alive())
    cnn.step(function()
      local sum = cnn.zeros(1)
      for i = 1, 20 do
        local x = cnn.zeros(2 ^ 18) -- 1 MiB
        x:fill(i)
        sum = sum + x:sum()
      end
      return sum
    end)
    assert.is_true(tonumber(engine.C.cnn_bytes_peak()) - before < 3 * 2 ^ 20)
  end)

  it("keeps a value that a handle, a view or a gradient still needs", function()
    local x = leaf { 1, 2, 3, 4 }
    local kept, y = cnn.step(function()
      local a = x * 2
      local b = a:view(2, 2):exp() -- a view of a, and a itself is returned
      return a, (b:log() * a:view(2, 2)):sum()
    end)
    assert.same({ 2, 4, 6, 8 }, values(kept:detach()))
    assert.is_true(math.abs(y:item() - 120) < 1e-4)
    y:backward()
    for i, g in ipairs(values(x.grad)) do assert.is_true(math.abs(g - 8 * i) < 1e-4) end
  end)

  it("keeps memory flat from the third step on", function()
    local net = small_net()
    local opt = cnn.optim.SGD(net:parameters(), { lr = 0.1 })
    local x, y = cnn.rand(64, 1, 8, 8), cnn.ones(64)
    local alive = {}
    for step = 1, 30 do
      local loss = cnn.step(function()
        opt:zero_grad()
        local l = nn.CrossEntropyLoss()(net(x), y)
        l:backward()
        opt:step()
        return l
      end)
      assert.is_true(loss:item() == loss:item())
      alive[step] = tonumber(engine.C.cnn_bytes_alive())
    end
    assert.is_true(alive[30] - alive[3] < 2 ^ 14, ("%d bytes more"):format(alive[30] - alive[3]))
  end)
end)

describe("dropout", function()
  it("zeroes a part p, scales the rest, and differentiates by the same mask", function()
    cnn.manual_seed(2)
    local x = leaf(values(cnn.ones(10000)))
    local y = x:dropout(0.3)
    local zeros = 10000 - y:detach():ne(0):sum():item()
    assert.is_true(math.abs(zeros - 3000) < 200)
    assert.is_true(math.abs(y:detach():max():item() - 1 / 0.7) < 1e-6)
    y:sum():backward()
    assert.same(values(y:detach()), values(x.grad))
  end)

  it("draws anew each time, and the same for the same seed", function()
    local x = cnn.ones(100)
    cnn.manual_seed(2)
    local a, b = values(x:dropout(0.5)), values(x:dropout(0.5))
    cnn.manual_seed(2)
    assert.same(a, values(x:dropout(0.5)))
    assert.are_not.same(a, b)
  end)
end)
