-- The CUDA device: tensors that move, steps as graphs, batches made there, what goes wrong.
-- On a machine without a card its host double takes part (see spec/support/engine.lua); where there
-- is neither, each of these is reported as pending.

local ffi = require "ffi"
local cnn = require "cnn"
local bind = require "cnn.bind"
local handle = require "cnn.handle"
local engine = require "spec.support.engine"
local made_up = require "spec.support.made_up"

local nn, C = cnn.nn, engine.C

if not engine.has_card then
  describe("the CUDA device", function()
    pending "needs a GPU, or the host double of make specs: spec/card_spec.lua"
  end)
  return
end

local function graphs() return tonumber(C.cnn_cuda_graphs()) end

local function same(a, b, tolerance)
  local p, n = engine.values(a)
  local q, m = engine.values(b)
  assert.equal(m, n)
  for i = 0, n - 1 do
    local off = math.abs(p[i] - q[i])
    assert.is_true(off <= (tolerance or 0) * math.max(1, math.abs(q[i])),
      ("element %d: %.9g and %.9g"):format(i + 1, p[i], q[i]))
  end
end

describe("tensors on a card", function()
  it("come and go with their values, dtypes and layouts", function()
    for _, dtype in ipairs { "f32", "bf16", "u8", "i32" } do
      local x = (cnn.rand(2, 3, 4, 5) * 100):to(dtype)
      local y = x:to "cuda"
      assert.equal("cuda:0", y.device)
      assert.equal(dtype, y.dtype)
      same(x, y:to "cpu")
      same(x, y) -- read from where it is
    end
    local x = cnn.rand(2, 3, 4, 5):channels_last():narrow(2, 2, 2)
    same(x, x:to "cuda":transpose(1, 4):to "cpu":transpose(1, 4))
    assert.equal("cpu", x:to "cuda":to("cpu").device)
  end)

  it("print, and give values, as those of the CPU do", function()
    local x = cnn.arange(1, 6):view(2, 3)
    assert.equal((tostring(x):gsub("cpu", "cuda:0")), tostring(x:to "cuda"))
    assert.equal(6, x:to "cuda"[2][3]:item())
    assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, x:to "cuda":totable())
  end)

  it("take numbers and constants along, and refuse tensors of the CPU", function()
    local x = cnn.ones({ 2, 2 }, { device = "cuda" })
    same(cnn.full({ 2, 2 }, 7), (x * 3 + 4):to "cpu")
    same(cnn.full({ 2, 2 }, 3), (x + cnn.tensor(2)):to "cpu")
    local ok, why = pcall(function() return x + cnn.ones(2, 2) end)
    assert.is_false(ok)
    assert.truthy(tostring(why):find("expected all tensors on one device", 1, true))
  end)

  it("get their random numbers from the same streams", function()
    local function drawn(device)
      cnn.manual_seed(7)
      local x = cnn.rand({ 1000 }, { device = device })
      local y = bind.ops.dropout(cnn.ones({ 4, 250 }, { device = device }), 0.3)
      return x:to "cpu", y:to "cpu"
    end
    local x, y = drawn "cpu"
    local u, v = drawn "cuda"
    same(x, u)
    same(y, v)
  end)

  it("pass a gradient from device to device", function()
    local x = cnn.tensor { 1, 2, 3 }
    x.requires_grad = true
    local y = x:to "cuda"
    local loss = (y * y):sum():to "cpu"
    loss:backward()
    assert.same({ 2, 4, 6 }, x.grad:totable())
  end)

  it("name a label that is none, at once or when a value is read", function()
    local x = cnn.rand({ 2, 3 }, { device = "cuda" })
    local ok, why = pcall(nn.CrossEntropyLoss(), x, cnn.tensor { 1, 4 }:to "cuda")
    assert.is_false(ok)
    assert.truthy(tostring(why):find("label 4 at position 2 is not in 1 .. 3", 1, true))
  end)

  it("are not there for a wrong index or name", function()
    for where, words in pairs { ["cuda:7"] = "cuda:7", ["cuda:x"] = "expected device" } do
      local ok, why = pcall(cnn.zeros, 2, { device = where })
      assert.is_false(ok)
      assert.truthy(tostring(why):find(words, 1, true), tostring(why))
    end
  end)
end)

-- ------------------------------------------------------------------------------ steps as graphs

local criterion = nn.CrossEntropyLoss()

-- Losses of `count` steps, and the net after them. change(i, opt): before step i.
local function trained(device, count, options)
  options = options or {}
  local net = made_up.small_net()
  net(cnn.zeros(2, 1, 8, 8))
  net:to(device)
  local opt = (options.optimizer or cnn.optim.SGD)(net:parameters(), { lr = 0.1 })
  local losses = {}
  cnn.manual_seed(5)
  for i = 1, count do
    C.cnn_rng_step(i)
    local n = options.batch and options.batch(i) or 6
    local x = cnn.rand(n, 1, 8, 8):to(device)
    local y = cnn.tensor({ 1, 2, 3, 4, 5, 6, 7, 8 }):narrow(1, 1, n):to(device)
    if options.change then options.change(i, opt) end
    local loss = cnn.step(function()
      opt:zero_grad()
      local l = criterion(net(x), y)
      l:backward()
      opt:step()
      opt:zero_grad()
      return l
    end)
    losses[i] = loss
  end
  for i, loss in ipairs(losses) do losses[i] = loss:item() end
  return losses, net
end

local function check_like_cpu(count, options, least)
  local expected, on_cpu = trained("cpu", count, options)
  local before = graphs()
  local got, on_card = trained("cuda", count, options)
  assert.is_true(graphs() - before >= least, ("%d graphs ran"):format(graphs() - before))
  for i = 1, count do
    assert.is_true(math.abs(got[i] - expected[i]) < 2e-4 * expected[i],
      ("step %d: loss %.9g, on the CPU %.9g"):format(i, got[i], expected[i]))
  end
  if options.optimizer then return end -- adam steps by noise where a norm follows
  local params = on_card:parameters()
  for i, p in ipairs(on_cpu:parameters()) do same(params[i]:to "cpu", p, 1e-3) end
end

describe("a recorded step on a card", function()
  it("runs plainly, is captured, is replayed: the losses are the CPU's", function()
    check_like_cpu(6, {}, 5)
  end)

  it("has another graph for a smaller batch", function()
    check_like_cpu(9, { batch = function(i) return i % 3 == 0 and 4 or 6 end }, 7)
  end)

  it("hears of a learning rate that changed, and of adam's step number", function()
    check_like_cpu(6, { change = function(i, opt) opt.lr = 0.1 / i end }, 5)
    check_like_cpu(6, { optimizer = cnn.optim.Adam, change = function(i, opt)
      opt.lr = 0.01 / i
    end }, 4)
  end)

  it("keeps what it returned when it runs again", function()
    local kept = {}
    local w = cnn.rand({ 5, 5 }, { device = "cuda" })
    for i = 1, 6 do
      local x = cnn.full({ 5, 5 }, i, { device = "cuda" })
      kept[i] = cnn.step(function() return (x * w):relu() + 1 end)
    end
    for i = 1, 6 do same(kept[i]:to "cpu", (w * i + 1):to "cpu", 1e-6) end
  end)

  it("is not mixed up with one that differs in a number or an order alone", function()
    local x = cnn.rand({ 3, 3 }, { device = "cuda" })
    local function run(scale, swap)
      return cnn.step(function()
        local a, b = x * scale, x + 1
        if swap then a, b = b, a end
        return a - b
      end)
    end
    for _ = 1, 3 do
      same(run(2):to "cpu", (x * 2 - (x + 1)):to "cpu")
      same(run(3):to "cpu", (x * 3 - (x + 1)):to "cpu")
      same(run(2, true):to "cpu", (x + 1 - x * 2):to "cpu")
    end
  end)

  it("finds inputs that lie elsewhere, and values that were changed in place", function()
    local w = cnn.rand({ 4 }, { device = "cuda" })
    local alive = {}
    for i = 1, 8 do
      local x = cnn.full({ 4 }, i, { device = "cuda" }) + 0
      alive[i] = x -- so that the next one cannot take its place
      if i == 5 then w:copy(w * 2) end
      same(cnn.step(function() return x * w end):to "cpu", (x * w):to "cpu")
    end
    assert.equal(8, #alive)
  end)

  it("writes to a tensor that came in its place", function()
    local sum = cnn.zeros({ 3 }, { device = "cuda" })
    local function add() cnn.step(function() sum:copy(sum + 1) end) end
    for _ = 1, 4 do add() end
    local first = sum
    sum = cnn.zeros({ 3 }, { device = "cuda" })
    for _ = 1, 4 do add() end
    assert.same({ 4, 4, 4 }, first:totable())
    assert.same({ 4, 4, 4 }, sum:totable())
  end)

  it("runs op by op where a value is asked for inside", function()
    local x = cnn.ones({ 3 }, { device = "cuda" })
    for i = 1, 4 do
      local y = cnn.step(function()
        local s = (x * i):sum()
        return s:item() > 6 and x + 1 or x - 1
      end)
      assert.equal(i > 2 and 2 or 0, y[1]:item())
    end
  end)

  it("leaves what a later backward needs", function()
    local w = cnn.rand({ 3 }, { device = "cuda" })
    w.requires_grad = true
    for i = 1, 4 do
      local x = cnn.full({ 3 }, i, { device = "cuda" })
      w.grad = nil
      local y = cnn.step(function() return (x * w):sigmoid():sum() end)
      cnn.step(function() return (x * w):tanh():sum() end) -- other values in the graphs' memory
      y:backward()
      local s = (x * w:detach()):sigmoid()
      same(w.grad:to "cpu", (x * s * (1 - s)):to "cpu", 1e-5)
    end
  end)

  it("draws other masks each time, those of the CPU", function()
    local function masks(device)
      cnn.manual_seed(3)
      local x, list = cnn.ones({ 64 }, { device = device }), {}
      for i = 1, 5 do
        C.cnn_rng_step(i)
        list[i] = cnn.step(function() return bind.ops.dropout(x, 0.5) end)
      end
      for i = 1, 5 do list[i] = list[i]:to "cpu" end
      return list
    end
    local expected, got = masks "cpu", masks "cuda"
    for i = 1, 5 do same(got[i], expected[i]) end
    assert.is_true((got[4] - got[5]):abs():sum():item() > 0)
  end)

  it("says a bad label when a value is read, and goes on", function()
    local x = cnn.rand({ 2, 3 }, { device = "cuda" })
    local y = cnn.tensor({ 1, 2 }):to "cuda"
    local function loss() return cnn.step(function() return criterion(x, y) end) end
    for _ = 1, 3 do loss():item() end
    y:copy(cnn.tensor { 1, 9 })
    local bad = loss()
    local ok, why = pcall(bad.item, bad)
    assert.is_false(ok)
    assert.truthy(tostring(why):find("label 9 at position 2 is not in 1 .. 3", 1, true))
    y:copy(cnn.tensor { 1, 2 })
    assert.is_true(loss():item() > 0)
  end)
end)

describe("a recorded step on a card also", function()
  it("steps a parameter twice where its optimizer was asked twice", function()
    local function weights(device)
      local w, v = cnn.ones(4):to(device), cnn.full({ 4 }, 2):to(device)
      w.requires_grad, v.requires_grad = true, true
      local opt = cnn.optim.SGD({ w, v }, { lr = 0.1 })
      for _ = 1, 4 do
        cnn.step(function()
          opt:zero_grad()
          local loss = (w * w):sum() + (v * v):sum()
          loss:backward()
          opt:step()
          opt:step()
        end)
      end
      return cnn.cat({ w:detach(), v:detach() }, 1):to "cpu"
    end
    same(weights "cuda", weights "cpu", 1e-6)
  end)

  it("is replayed where an op written in Lua or a view takes part", function()
    local double = nn.op {
      forward = function(_, a) return a * 2 end, backward = function(_, dy) return dy * 2 end,
    }
    local w = cnn.rand({ 4, 6 }, { device = "cuda" })
    w.requires_grad = true
    local before = graphs()
    for _ = 1, 6 do
      local grad = cnn.step(function()
        w.grad = nil
        double(w:narrow(2, 2, 3)):sum():backward()
        return w.grad
      end)
      assert.equal(24, grad:sum():item())
    end
    assert.equal(5, graphs() - before)
  end)

  it("goes on being replayed when one net after the other takes it", function()
    for net = 1, 12 do
      local w = cnn.full({ 7 }, net, { device = "cuda" })
      local before = graphs()
      for _ = 1, 20 do cnn.step(function() w:copy(w * 0.5) end) end
      assert.is_true(graphs() - before >= 19, ("net %d: %d"):format(net, graphs() - before))
    end
  end)
end)

describe("a norm on a card", function()
  it("takes pictures without channels", function()
    for _, precision in ipairs { "fp32", "bf16" } do
      cnn.cuda.precision(precision)
      local x = cnn.zeros(4, 0, 3, 3):to "cuda"
      x.requires_grad = true
      local y = x:batch_norm(nil, nil, nil, nil, 1, 0.1, 1e-5)
      y:sum():backward()
      assert.same({ 4, 0, 3, 3 }, { unpack(y:shape()) })
      assert.same({ 4, 0, 3, 3 }, { unpack(x.grad:shape()) })
    end
    cnn.cuda.precision "auto"
  end)
end)

describe("what a recorded step joins on a card", function()
  -- Norm and ReLU, with another's sum between them or not, in both modes; the gradients too.
  local function values(recorded, training, order, precision)
    cnn.manual_seed(4)
    cnn.cuda.precision(precision)
    local bn = nn.BatchNorm2d(5):to "cuda"
    local results = {}
    if not training then bn:eval() end
    for i = 1, 4 do
      local x = cnn.randn({ 3, 5, 4, 6 }):channels_last():to "cuda"
      -- Far from 0: no rounding brings a sum past ReLU's corner, where the gradient jumps.
      local other = (cnn.randn({ 3, 5, 4, 6 }):sign() * 4):channels_last():to "cuda"
      x.requires_grad, other.requires_grad = true, true
      local function forward()
        local y = bn(precision == "bf16" and x:to "bf16" or x)
        local added = precision == "bf16" and other:to "bf16" or other
        if order == "other first" then y = added + y end
        if order == "other last" then y = y + added end
        if order == "both" then y = y:relu() + y end
        y = y:relu()
        y:sum():backward()
        return y
      end
      local y = recorded and cnn.step(forward) or forward()
      results[i] = { y, x.grad, other.grad, bn.weight.grad, bn.running_var:clone() }
    end
    return results
  end

  -- A convolution and a linear layer, each with its ReLU; with a bias or without.
  local function layers(recorded, bias, precision)
    cnn.manual_seed(6)
    cnn.cuda.precision(precision)
    local net = nn.Sequential(nn.Conv2d(2, 5, 3, { bias = bias }), nn.ReLU(), nn.Flatten(),
      nn.Linear(5 * 4 * 4, 7, { bias = bias }), nn.ReLU()):to "cuda"
    local results = {}
    for i = 1, 4 do
      local x = cnn.randn({ 3, 2, 6, 6 }):to "cuda"
      net:zero_grad()
      local function forward()
        local y = net(x)
        y:sum():backward()
        return y
      end
      results[i] = { recorded and cnn.step(forward) or forward() }
      for _, p in ipairs(net:parameters()) do table.insert(results[i], p.grad) end
    end
    return results
  end

  -- What is joined in bf16 is rounded once instead of after each op.
  local tolerance = { fp32 = 2e-6, bf16 = 0.02 }
  after_each(function() cnn.cuda.precision "auto" end)

  for _, precision in ipairs { "fp32", "bf16" } do
    for _, bias in ipairs { true, false } do
      it(("computes the same: layers with ReLU, bias %s, %s"):format(bias, precision), function()
        local expected, got = layers(false, bias, precision), layers(true, bias, precision)
        for i = 1, 4 do
          assert.equal(#expected[i], #got[i])
          for k, e in ipairs(expected[i]) do
            same(got[i][k]:to "cpu", e:to "cpu", tolerance[precision])
          end
        end
      end)
    end

    for _, order in ipairs { "none", "other first", "other last", "both" } do
      for _, training in ipairs { true, false } do
        local mode = training and "training" or "eval"
        it(("computes the same: %s, %s, %s"):format(order, mode, precision), function()
          local expected = values(false, training, order, precision)
          local got = values(true, training, order, precision)
          for i = 1, 4 do
            for k = 1, 5 do
              local e = expected[i][k]
              if e then same(got[i][k]:to "cpu", e:to "cpu", tolerance[precision]) end
            end
          end
        end)
      end
    end
  end

  it("goes back in another precision than forward", function()
    cnn.cuda.precision "bf16"
    local net = nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2),
      nn.Flatten(), nn.Linear(5 * 2 * 2, 7)):to "cuda"
    local x = cnn.randn({ 3, 2, 6, 6 }):to "cuda"
    net(x):sum():backward()
    local expected = {}
    for i, p in ipairs(net:parameters()) do expected[i] = p.grad:to "cpu" end
    net:zero_grad()
    local loss = net(x):sum()
    cnn.cuda.precision "fp32"
    loss:backward()
    for i, p in ipairs(net:parameters()) do
      assert.equal("f32", p.grad.dtype)
      same(p.grad:to "cpu", expected[i], 0.05)
    end
  end)
end)

-- ----------------------------------------------------------------------------- batches made there

describe("batches that the card makes", function()
  local data = cnn.data.from({
    train = { images = (cnn.rand(50, 1, 7, 9) * 255):to "u8", labels = cnn.tensor((function()
      local list = {}
      for i = 1, 50 do list[i] = (i - 1) % 10 + 1 end
      return list
    end)()) },
    test = { images = (cnn.rand(10, 1, 7, 9) * 255):to "u8", labels = cnn.ones(10) },
    classes = { "a", "b", "c", "d", "e", "f", "g", "h", "i", "j" },
  }, { batch = 16, resize = { 20, 13 } })

  local function collected(options)
    local list = {}
    for x, y in data.train:batches(options) do list[#list + 1] = { x:to "cpu", y:to "cpu" } end
    return list
  end

  it("are those of the CPU: order, resizing, labels, the smaller last one", function()
    for epoch = 1, 3 do
      local expected = collected { epoch = epoch }
      local got = collected { epoch = epoch, device = "cuda" }
      assert.equal(4, #got)
      for i = 1, 4 do
        assert.equal(tostring(expected[i][1]:shape()), tostring(got[i][1]:shape()))
        same(got[i][1], expected[i][1], 1e-6)
        same(got[i][2], expected[i][2])
      end
    end
  end)

  it("serve two loops at once, and one that was left", function()
    local expected = collected { epoch = 4 }
    local i = 0
    for x in data.train:batches { epoch = 4, device = "cuda" } do
      i = i + 1
      local following, state = data.train:batches { epoch = 5, device = "cuda" }
      following(state)
      same(x:to "cpu", expected[i][1], 1e-6)
    end
    assert.equal(4, i)
  end)

  it("follow the order in force, wherever it lies", function()
    local px, py = ffi.new "cnn_tensor *[1]", ffi.new "cnn_tensor *[1]"
    local w = cnn.rand({ 1, 1, 20, 13 }, { device = "cuda" })
    local function batch(p)
      assert.equal(0, C.cnn_pictures_batch(p, 4, 5, px, py))
      C.cnn_release(py[0])
      return handle.wrap(px[0])
    end
    for round = 1, 4 do -- stored, shuffled, ...: the next one has the host memory of the last
      local p = C.cnn_pictures_new(data.train.dataset, 50, 20, 13)
      for epoch = 1, 4 do
        if round % 2 == 0 then assert.equal(0, C.cnn_pictures_shuffle(p, 3, epoch)) end
        local x, again = batch(p), batch(p)
        local recorded = cnn.step(function() return (x * w):sum() end)
        same(recorded:to "cpu", (again * w):sum():to "cpu", 1e-5)
        handle.give_back(x, again, recorded)
      end
      C.cnn_pictures_release(p)
    end
  end)

  it("are made within a captured step", function()
    local w = cnn.rand({ 1 }, { device = "cuda" })
    local function sums(device)
      local list = {}
      local weight = w:to(device)
      for epoch = 1, 3 do
        for x in data.train:batches { epoch = epoch, device = device } do
          list[#list + 1] = cnn.step(function() return (x * weight):sum() end)
          handle.give_back(x)
        end
      end
      for k, s in ipairs(list) do list[k] = s:item() end
      return list
    end
    local expected, before = sums "cpu", graphs()
    local got = sums "cuda"
    assert.is_true(graphs() - before >= 9)
    for k, s in ipairs(expected) do assert.is_true(math.abs(got[k] - s) < 1e-4 * math.abs(s)) end
  end)
end)
