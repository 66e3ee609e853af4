-- The lines of the interface as they are written there, one after the other, and what they give.
-- Whatever is tested closely elsewhere is here only once, in the users' own words.

local cnn = require "cnn"
local nn  = cnn.nn
local engine = require "spec.support.engine"
local program = require "spec.support.program"

describe("as the interface says,", function()
  teardown(program.sweep)

  local x = cnn.randn(4, 3, 6, 6)
  local function sizes(y) return tostring(y:shape()) end

  it("tensors are made, asked and viewed", function()
    assert.equal("4x3x6x6", tostring(x:shape()))
    assert.equal(3, x:size(2))
    assert.equal(4, x:dim())
    assert.equal(432, x:numel())
    assert.equal("3x6x6", sizes(x[1]))
    assert.equal("4x3x6x6", sizes(x:narrow(2, 1, 3)))
    assert.equal("4x108", sizes(x:view(4, -1)))
    assert.equal("3x4x6x6", sizes(x:transpose(1, 2)))
    assert.equal("2x3", sizes(cnn.tensor({ 1, 2, 3, 4, 5, 6 }, { 2, 3 })))
    local y = x:clone()
    x:copy(y)
    y:fill(0)
    assert.equal(0, y:sum():item())
    for _, make in ipairs { cnn.zeros, cnn.ones, cnn.rand, cnn.randn } do
      assert.equal("2x3", sizes(make(2, 3)))
    end
    assert.equal("2", sizes(cnn.full({ 2 }, 1)))
    assert.equal("5", sizes(cnn.arange(5)))
    assert.equal("f32", cnn.zeros(1).dtype)
  end)

  it("broadcasting and reductions write batch normalization in a line", function()
    local z = (x - x:mean{1, 3, 4}) / (x:var{1, 3, 4} + 1e-5):sqrt()
    assert.equal("4x3x6x6", sizes(z))
    assert.equal("1x3x1x1", sizes(x:mean{1, 3, 4}))
    assert.is_true(z:mean():abs():item() < 1e-6)
    local y = cnn.zeros(4, 2, 6, 6)
    assert.equal("4x5x6x6", sizes(cnn.cat({ x, y }, 2)))
    assert.is_true(x:relu():min():item() >= 0)
    assert.is_true(x:sigmoid():max():item() <= 1)
    assert.is_true(math.abs(x:softmax(2):sum():item() - 4 * 36) < 1e-3)
    assert.equal("4x3x6x2", sizes(x:matmul(cnn.zeros(6, 2))))
    assert.equal("number", type(x:sum():item()))
    assert.equal(4, #x:totable())
  end)

  it("gradients come with requires_grad, backward, grad, no_grad", function()
    local w = cnn.ones(3)
    w.requires_grad = true
    local loss = (w * w):sum()
    loss:backward()
    assert.same({ 2, 2, 2 }, w.grad:totable())
    assert.is_false(cnn.no_grad(function() return (w * 2).requires_grad end))
    assert.is_true(cnn.is_grad_enabled())
  end)

  it("devices, seeds and threads are set", function()
    assert.equal("cpu", x.device)
    assert.equal("cpu", x:to "cpu".device)
    assert.equal(engine.has_card, cnn.cuda.is_available())
    assert.equal(engine.has_card, (pcall(x.to, x, "cuda")))
    cnn.manual_seed(1)
    local threads = cnn.threads()
    cnn.set_threads(2)
    assert.equal(2, cnn.threads())
    cnn.set_threads(threads)
    assert.truthy(tostring(x):find("f32[4x3x6x6] cpu", 1, true))
  end)

  it("layers are constructed with PyTorch's names", function()
    for _, layer in ipairs {
      nn.Conv2d(1, 96, 11, { stride = 4, padding = 1 }), nn.Linear(64, 40),
      nn.MaxPool2d(3, { stride = 2 }), nn.AvgPool2d(2, { stride = 2 }), nn.AdaptiveAvgPool2d(1),
      nn.BatchNorm2d(64), nn.BatchNorm1d(120), nn.Dropout(0.5), nn.ReLU(), nn.Sigmoid(),
      nn.Flatten(),
    } do
      assert.is_true(nn.is_module(layer))
    end
    local a, b, c = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)
    local net = nn.Sequential(a, b, c)
    assert.equal(c, net[3])
    assert.equal(3, #net)
    for i, layer in net:iter() do assert.equal(net[i], layer) end
    net:add(nn.Identity())
    net:add("b1", nn.Identity())
    assert.equal(net[5], net.b1)
  end)

  it("parameters come in the order of definition, buffers beside them", function()
    local Scale = nn.module "Scale"
    function Scale:init(channels)
      self.gamma = nn.Parameter(cnn.ones(1, channels, 1, 1))
      self:buffer("moving_mean", cnn.zeros(1, channels, 1, 1))
    end
    function Scale:forward(input)
      return input * self.gamma - self.moving_mean
    end
    local net = nn.Sequential(Scale(3), nn.Flatten(), nn.Linear(nil, 10))
    net:shapes({ 1, 3, 6, 6 }, { quiet = true })
    local names = {}
    for name, p in net:named_parameters() do names[#names + 1] = name .. " " .. p:shape() end
    assert.same({ "1.gamma 1x3x1x1", "3.weight 10x108", "3.bias 10" }, names)
    assert.equal(3, #net:parameters())
    for name in net:named_buffers() do assert.equal("1.moving_mean", name) end
    local file = program.file "w.safetensors"
    net:save(file)
    net:load(file)
    assert.is_false(net:eval()[1].training)
    assert.is_true(net:train()[1].training)
    assert.equal(net, net:to "cpu")
  end)

  it("an optimizer and a recorded step train", function()
    local net = nn.Sequential(nn.Flatten(), nn.Linear(108, 10))
    local opt = cnn.optim.SGD(net:parameters(), { lr = 0.05, momentum = 0, weight_decay = 0 })
    local y = cnn.tensor { 1, 10, 3, 3 }
    local first, last
    for _ = 1, 5 do
      local l, out = cnn.step(function()
        opt:zero_grad()
        local out = net(x)
        local loss = nn.CrossEntropyLoss()(out, y)
        loss:backward()
        opt:step()
        return loss, out
      end)
      assert.equal("4x10", sizes(out))
      first, last = first or l:item(), l:item()
    end
    assert.is_true(last < first)
    for _, dtype in ipairs { "f32", "i32", "u8" } do
      assert.equal(last, last + 0 * nn.CrossEntropyLoss()(net(x), y:to(dtype)):item())
    end
  end)

  it("data comes in batches with classes by name", function()
    local data = cnn.data.fashion_mnist{ batch = 128, resize = 224 }
    local count = 0
    for pictures, y in data.test:batches() do
      assert.equal("128x1x224x224", sizes(pictures))
      assert.equal("string", type(data.classes[y[1]:item()]))
      count = count + 1
      if count == 3 then break end
    end
    assert.equal("ankle boot", data.classes[10])
  end)

  it("cnn.train trains a recipe", function()
    local script = program.file("script.lua", [[
      local cnn = require "cnn"
      local nn = cnn.nn
      local result = cnn.train({
        name = "tiny", input = { 1, 28, 28 }, train = { batch = 64, lr = 0.1, epochs = 1 },
        net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)),
      }, { limit = 128, quiet = true, out = arg[1] })
      print(result.steps, result.loss > 0 and result.test_acc > 0)]])
    local out = program.file "run"
    local r = program.ok(program.quote(script) .. " " .. program.quote(out))
    assert.truthy(r.out:find "^loss .*examples/sec.*\n2\ttrue\n$", r.out)
    assert.is_true(program.exists(out .. "/best.safetensors"))
  end)

  it("model scripts can be required, also from the installed files", function()
    assert.is_table(package.loaded["cnn.path"])
    local prefix = program.file "prefix"
    local files, share = prefix .. "/share/lua/5.1", prefix .. "/share/cnnlua"
    program.shell(("mkdir -p %s/cnn %s && cp lua/cnn/path.lua %s/cnn && cp -r models %s"):format(
      files, share, files, share))
    local status, out = program.shell(("cd / && LUA_PATH='%s/?.lua;;' luajit -e %s"):format(files,
      program.quote [[
        require "cnn.path"
        print((assert(package.searchpath("models.resnet", package.path))))]]))
    assert.equal(0, status, out)
    assert.equal(share .. "/models/resnet.lua\n", out)
  end)

  it("scripts have one name each in messages, wherever the program lies", function()
    local bin = program.file "tree/build"
    program.shell(("mkdir -p %s && cp -r models %s/.. && cp %s %s/cnnlua"):format(bin, bin,
      program.quote(program.command), bin))
    local status, out = program.shell(("cd / && %s/cnnlua -e %s"):format(bin, program.quote [[
      print((debug.getinfo(require "models.resnet".resnet_block, "S").source))]]))
    assert.equal(0, status, out)
    assert.equal("@" .. program.file "tree/models/resnet.lua" .. "\n", out)
  end)

  it("a script's own options are declared by cnn.options", function()
    local opt = cnn.options { ratio = 4 }
    assert.equal(4, opt.ratio)
    assert.is_false((pcall(cnn.options, 4)))
  end)
end)
