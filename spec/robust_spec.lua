-- What a script may do wrong: every mistake is one line at the script's own line, and the engine
-- goes on working. `sound` trains a small net after each, as a user would.

local ffi = require "ffi"
local cnn = require "cnn"
local bind = require "cnn.bind"
local engine = require "spec.support.engine"
local errors = require "spec.support.errors"
local program = require "spec.support.program"

local nn, expect = cnn.nn, errors.expect

local function leaf(...)
  local x = cnn.ones(...)
  x.requires_grad = true
  return x
end

local net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 3))
local opt = cnn.optim.SGD(net:parameters(), { lr = 0.01, momentum = 0.9 })
local inputs, labels = cnn.randn(6, 4), cnn.tensor { 1, 2, 3, 1, 2, 3 }

local function sound()
  local loss = cnn.step(function()
    opt:zero_grad()
    local loss = nn.CrossEntropyLoss()(net(inputs), labels)
    loss:backward()
    opt:step()
    return loss
  end):item()
  assert.is_true(loss > 0 and loss < 10)
  assert.is_true(cnn.is_grad_enabled())
end

-- A tensor whose step has ended.
local function given_back(...)
  local x
  local sizes = { ... }
  cnn.step(function() x = cnn.ones(sizes) + 1 end)
  return x
end

describe("a step that fails", function()
  after_each(sound)

  it("leaves the parameters that it looked at through views", function()
    local w = leaf(2, 3)
    expect("boom", function()
      cnn.step(function()
        w:view(6):sum():backward()
        error "boom"
      end)
    end)
    assert.equal(6, w:sum():item())
  end)

  it("leaves the parameters when there is no memory for it", function()
    local w = leaf(10)
    expect("out of memory", function()
      cnn.step(function()
        local y = (w * 2):view(10, 1):expand(10, 2 ^ 36):contiguous()
        return y
      end)
    end)
    assert.equal(10, w:sum():item())
    w.grad = cnn.ones(10)
    cnn.optim.SGD({ w }, { lr = 0.5 }):step()
    assert.equal(5, w:sum():item())
  end)

  it("cannot be left half-way by a coroutine, while generators inside work", function()
    local run = coroutine.wrap(function() cnn.step(function() coroutine.yield(1) end) end)
    assert.truthy(errors.message(run):find "yield across")
    local total = cnn.step(function()
      local sum = cnn.zeros(1)
      for x in coroutine.wrap(function()
        for i = 1, 3 do coroutine.yield(cnn.ones(1) * i) end
      end) do sum = sum + x end
      return sum
    end)
    assert.equal(6, total:item())
  end)

  it("may be in the backward of an op written in Lua", function()
    local op = nn.op {
      forward = function(_, x) return x * 1 end,
      backward = function() error "inside" end,
    }
    local x = leaf(3)
    for _ = 1, 3 do
      expect("inside", function() cnn.step(function() op(x):sum():backward() end) end)
      expect("inside", function() op(x):sum():backward() end)
    end
  end)
end)

describe("a leaf", function()
  it("keeps its value when requires_grad is switched off inside a step", function()
    local w = leaf(3)
    cnn.step(function()
      (w * 2):sum():backward()
      w.requires_grad = false
    end)
    assert.equal(3, w:sum():item())
    assert.equal(6, w.grad:sum():item())
  end)

  it("that is its own loss and seed holds no reference to itself", function()
    collectgarbage()
    collectgarbage()
    local before = engine.C.cnn_bytes_alive()
    for _ = 1, 5 do
      local x = leaf(100000)
      x:backward(x)
      x:backward(x)
      assert.equal(2, x.grad[1]:item())
    end
    collectgarbage()
    collectgarbage()
    assert.is_true(engine.C.cnn_bytes_alive() - before < 100000)
  end)

  it("takes gradients of its device only, in any dtype", function()
    local function scaled(gradient)
      local x = leaf(3)
      nn.op {
        forward = function(_, v) return v * 1 end, backward = function() return gradient end,
      }(x:softmax(1)):sum():backward()
      return x.grad
    end
    assert.is_true(math.abs(scaled(cnn.ones(3, { dtype = "u8" })):sum():item()) < 1e-6)
    expect("expected a gradient on cpu, got it on meta", function()
      scaled(cnn.ones(3, { device = "meta" }))
    end)
    expect("was given back when its step ended", function() scaled(given_back(3)) end)
    expect("no value", function()
      leaf(2, { device = "meta" }):sum():backward()
    end)
  end)
end)

describe("arguments", function()
  after_each(sound)

  it("cannot change the constants that numbers become", function()
    cnn.contiguous(3):fill(5)
    cnn.fill(4, 9)
    assert.same({ 3, 3 }, cnn.zeros(2):maximum(3):totable())
    assert.same({ 4, 4 }, cnn.zeros(2):maximum(4):totable())
    assert.equal(-math.huge, (cnn.ones(1) / -0.0):item())
    assert.equal(math.huge, (cnn.ones(1) / 0):item())
  end)

  it("are not taken for others that a C type would make of them", function()
    local x = cnn.ones(2, 3)
    expect("expected whole numbers, got 4294967297", function() x:sum(2 ^ 32 + 1):item() end)
    expect("expected whole numbers, got 1e%+300", function() x:view(1e300):item() end)
    expect("n: expected a whole number", function() cnn.set_threads(1e300) end)
    expect("threads: expected 0 to 1024", function() cnn.set_threads(2 ^ 40) end)
    expect("kernel: expected", function() nn.Conv2d(1, 1, 2 ^ 40)() end)
  end)

  it("of a list are what the list itself holds", function()
    local list = setmetatable({ nil, nil, cnn.ones(2) }, {
      __index = function()
        collectgarbage()
        return cnn.randn(2)
      end,
    })
    expect("expected a table of tensors, got nil", function() cnn.cat(list):item() end)
  end)

  it("whose sizes overflow are refused by every op that makes a shape", function()
    local one = cnn.zeros(1)
    expect("whose product fits", function() cnn.zeros(0, 2 ^ 31, 2 ^ 31, 2 ^ 31):item() end)
    expect("whose product fits", function() one:expand(2 ^ 40, 2 ^ 40):item() end)
    expect("whose product fits", function() cnn.zeros(0):view(0, 2 ^ 40, 2 ^ 40):item() end)
    local huge = one:expand(2 ^ 53)
    local list = {}
    for i = 1, 1024 do list[i] = huge end
    expect("cat: expected sizes", function() cnn.cat(list):item() end)
    expect("at most", function() huge:totable()() end)
  end)

  it("that nest without end are refused", function()
    local values = {}
    values[1] = values
    expect("at most 8 axes", function() cnn.tensor(values):item() end)
  end)

  it("are repeated in one short line", function()
    local message = expect("got the string", function() net(("x\n"):rep(1e5)):item() end)
    assert.is_true(#message < 400)
  end)

  it("may be nil where a table of options could be", function()
    assert.equal(2, cnn.zeros({ 2 }, nil):numel())
    expect("size 2", function() cnn.zeros(2, nil):item() end)
  end)
end)

describe("a module that holds itself", function()
  it("is printed, walked and refused when it is called", function()
    local loop = nn.Sequential(nn.Linear(2, 2))
    loop:add(loop)
    assert.truthy(tostring(loop):find "Sequential")
    assert.equal(2, #loop:parameters())
    local visited = 0
    loop:apply(function() visited = visited + 1 end)
    assert.equal(2, visited)
    expect("nested at most", function() loop(cnn.ones(1, 2)):item() end)
    sound()
  end)

  it("may have lost what its name is made of", function()
    local broken = nn.Linear(3, 3)
    broken.weight = given_back(3)
    expect("given back", function() broken(cnn.ones(1, 3)):item() end)
  end)
end)

describe("batches", function()
  local images = (cnn.rand(20, 1, 6, 6) * 255):to "u8"
  local classes = {}
  for i = 1, 20 do classes[i] = i % 3 + 1 end

  local function open(changes)
    local part = { images = images, labels = changes.labels or classes }
    local given = { train = part, test = part, classes = changes.classes or 3 }
    return cnn.data.from(given, { batch = 4, resize = changes.resize, seed = changes.seed })
  end

  it("start inside the data or not at all", function()
    local train = open({}).train
    for _, options in ipairs {
      { skip = -1 }, { skip = -2 ^ 40 }, { skip = 0.5 }, { batch = 0 }, { batch = "x" },
      { epoch = -1 }, { epoch = 0 / 0 },
    } do
      expect("expected a whole number", function() train:batches(options)() end)
    end
    for _ in train:batches { skip = 100 } do error "there is no such batch" end
  end)

  it("are refused when data or sizes make no sense", function()
    expect("classes: expected 1 to 256", function() open { classes = 2 ^ 40 }() end)
    expect("labels: expected whole numbers", function() open { labels = 5 }() end)
    expect("seed: expected", function() open { seed = "x" }() end)
    expect("resize: expected", function() open { resize = 2 ^ 40 }() end)
    expect("resize: expected at most", function()
      open { resize = { 3, 2 ^ 31 - 1 } }.train:batches()
    end)
  end)

  it("can be left half-way, and their loader outlives the data", function()
    for _ = 1, 50 do
      local next_batch, running = open({}).train:batches()
      collectgarbage()
      assert.equal(4, next_batch(running):size(1))
    end
    sound()
  end)
end)

-- --------------------------------------------------------------------------- any op, any arguments

local numbers = {
  0, 1, 1, 2, 2, 3, 4, 5, -1, -2, 7, 2 ^ 31 - 1, 2 ^ 32, 2 ^ 53, 1e300, 0.5, 0 / 0, math.huge,
}
local words = { "f32", "bf16", "u8", "i32", "cpu", "meta", "cuda:1", "", ("z"):rep(3000) }

local function pick(list) return list[math.random(#list)] end

local function hostile()
  return pick { "x", true, {}, print, "\0", { {} }, 1ULL, setmetatable({}, { __index = numbers }) }
end

local function fresh()
  local sizes, count = {}, 1
  for i = 1, math.random(0, math.random() < 0.2 and 8 or 4) do
    sizes[i] = math.random(0, 5)
    if count * sizes[i] > 2000 then sizes[i] = 1 end
    count = count * sizes[i]
  end
  local x = cnn.randn(sizes, { dtype = math.random() < 0.3 and "u8" or nil,
    device = math.random() < 0.1 and "meta" or nil })
  if x.dtype == "f32" then x.requires_grad = math.random() < 0.5 end
  return x
end

local function argument_of(kind, pool)
  if math.random() < 0.05 then return hostile() end
  if kind == "tensor" then return math.random() < 0.1 and pick(numbers) or pick(pool) end
  if kind == "whole" or kind == "number" then return pick(numbers) end
  if kind == "string" then return pick(words) end
  local list = {}
  for i = 1, math.random(0, 4) do list[i] = kind == "list" and pick(pool) or pick(numbers) end
  return list
end

local function small(x)
  return cnn.is_tensor(x) and (x.device == "meta" or x:numel() < 20000)
end

-- One call; its result takes a place in the pool. Memory is asked for in amounts that are had, or
-- that nobody has.
local function call(op, pool)
  local arguments, n = {}, #op.parameters
  for i, parameter in ipairs(op.parameters) do
    local value = argument_of(parameter.kind, pool)
    if op.name:find "pool" and type(value) == "number" and value > 9 then value = 2 end
    arguments[i] = value
  end
  local ok, result = pcall(function()
    local y = bind.ops[op.name](unpack(arguments, 1, n))
    if small(y) and y.requires_grad then y:sum():backward() end
    return y
  end)
  if not ok then
    assert.truthy(result:find "^[./]*spec/robust_spec%.lua:%d+: ", op.name .. ": " .. result)
    assert.is_nil(result:find("\n", 1, true), op.name)
  elseif small(result) then
    pool[math.random(#pool)] = result
  end
end

describe("any op", function()
  it("takes any arguments, now and in a step, with a value or an error", function()
    math.randomseed(7)
    local pool = {}
    for i = 1, 20 do pool[i] = fresh() end
    for round = 1, 60 do
      for _ = 1, 25 do call(pick(bind.list), pool) end
      pcall(cnn.step, function()
        for _ = 1, 5 do call(pick(bind.list), pool) end
        if round % 3 == 0 then error "boom" end
      end)
      pool[math.random(20)] = given_back(2, 3)
      for i = 1, 20 do
        if math.random() < 0.3 then pool[i] = fresh() end
      end
      sound()
    end
  end)

  it("reads an expanded picture as it reads a copy of it", function()
    local w = cnn.randn(2, 3, 3, 3)
    local layers = {
      function(x) return x:conv2d(w:narrow(2, 1, x:size(2)), nil, 1, 1, 1, 1, 1, 1, 1) end,
      function(x) return x:avg_pool2d(2, 2, 1, 1, 0, 0) end,
      function(x) return x:adaptive_avg_pool2d(2, 6) end,
      function(x) return x:group_norm(1, nil, nil, 1e-5) end,
    }
    for _, sizes in ipairs {
      { 1, 1, 1, 1 }, { 1, 3, 1, 1 }, { 2, 1, 1, 1 }, { 2, 3, 1, 1 }, { 2, 3, 4, 1 },
      { 1, 3, 4, 5 },
    } do
      local x = cnn.randn(sizes):expand(2, sizes[2], 4, 5)
      for _, layer in ipairs(layers) do
        assert.equal(0, (layer(x) - layer(x:clone())):abs():max():item())
      end
      local y = leaf(2, sizes[2], 4, 5)
      y:adaptive_avg_pool2d(2, 5):sum():backward()
      assert.is_true(math.abs(y.grad:sum():item() - 20 * sizes[2]) < 1e-4)
    end
  end)

  it("is taken apart without recursion, however long the chain", function()
    local x = leaf(1)
    local y = x
    for _ = 1, 100000 do y = y + 1 end
    y:backward()
    assert.equal(1, x.grad:item())
    for _ = 1, 100000 do y = y + x end
    y = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
    sound()
  end)
end)

-- ---------------------------------------------------------------------------------- the program

describe("cnnlua", function()
  teardown(program.sweep)

  it("says when what it printed did not arrive", function()
    local status = os.execute(program.guarded .. " -e 'print(1)' >/dev/full 2>/dev/null")
    assert.is_true(status ~= 0 and status ~= true)
  end)

  it("names the line of a script's optimizer that ends in a tail call", function()
    local script = program.file("tail.lua", [[
local cnn = require "cnn"
return {
  name = "tail", input = { 1, 28, 28 }, net = cnn.nn.Sequential(cnn.nn.Flatten(),
    cnn.nn.Linear(784, 10)),
  train = { batch = 8, epochs = 1, optimizer = function(params, o)
    return cnn.optim.SGD(params, { lr = o.lr, momentun = 0.9 })
  end },
}]])
    program.refuses(("%s --limit 8 --out %s"):format(script, program.file "tail"), 1,
      "tail.lua:6: optim.SGD: unknown option 'momentun'")
  end)

  it("does not print into its own files when its streams are closed", function()
    local file = program.file("closed.txt")
    local code = ([[local f = io.open("%s", "w") print "stray" io.stdout:flush()
      f:write "kept" f:close()]]):format(file)
    os.execute(program.guarded .. " -e " .. program.quote(code) .. " >&- <&- 2>&-")
    assert.equal("kept", program.read(file))
  end)
end)

describe("the file functions", function()
  it("refuse a name that is none", function()
    expect("file: expected a string", function() net:save() end)
    expect("file: expected a string", function() net:load({}) end)
    expect("file: expected a string", function() cnn.image.write(nil, cnn.rand(1, 2, 2)) end)
    assert.is_true(engine.C.cnn_png_read(nil, 1) == nil)
    assert.truthy(ffi.string(engine.C.cnn_error()):find "a file's name")
  end)
end)
