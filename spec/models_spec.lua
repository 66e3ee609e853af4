-- The eight scripts: parameters and multiply-adds, the layers' shapes that the text shows, the
-- blocks on their own, and batch normalization written by hand.

local cnn = require "cnn"
local nn = cnn.nn
local golden = require "spec.support.golden"
local scripts = require "spec.support.scripts"

-- name, batch, lr, parameters, multiply-adds in millions: the chapter's table
local recipes = {
  { "alexnet", 128, 0.01, 46764746, 938.1 },
  { "vgg", 128, 0.05, 43093322, 512.2 },
  { "nin", 128, 0.1, 1992166, 762.3 },
  { "googlenet", 128, 0.1, 5977530, 276.1 },
  { "bn_lenet_scratch", 256, 1.0, 44878, 0.28 },
  { "bn_lenet", 256, 1.0, 44878, 0.28 },
  { "resnet", 256, 0.05, 11178378, 318.7 },
  { "densenet", 256, 0.1, 758226, 129.1 },
}

local function meta(sizes) return cnn.zeros(sizes, { device = "meta" }) end

local function quiet_shapes(net, sizes) return net:shapes(sizes, { quiet = true }) end

describe("the recipe of", function()
  for _, row in ipairs(recipes) do
    local name, batch, lr, parameters, macs = unpack(row)
    it(name .. " has the chapter's numbers", function()
      local recipe = scripts.recipe(name)
      assert.equal(name, recipe.name)
      assert.same({ batch = batch, lr = lr, epochs = 10 }, recipe.train)
      local rows = quiet_shapes(recipe.net, { 1, unpack(recipe.input) })
      assert.equal(parameters, rows.total.parameters)
      local counted = rows.total.macs / 1e6
      assert.equal(macs, tonumber((macs < 1 and "%.2f" or "%.1f"):format(counted)))
      assert.equal("1x10", rows.total.shape)
    end)

    it(name .. " has exactly PyTorch's multiply-adds and parameter shapes", function()
      local g, recipe = golden.read(name), scripts.recipe(name)
      assert.equal(g.macs, quiet_shapes(recipe.net, { 1, unpack(recipe.input) }).total.macs)
      local i = 0
      for parameter, p in recipe.net:named_parameters() do
        i = i + 1
        assert.same(g.parameters[i].shape, { unpack(p:shape()) }, parameter)
      end
      assert.equal(#g.parameters, i)
    end)

    it(name .. " shows the shapes of the text, layer by layer", function()
      local recipe = scripts.recipe(name)
      recipe.net:eval()
      for _, demo in ipairs(golden.read(name).demos) do
        local x, i = meta(demo.input), 0
        for _, layer in recipe.net:iter() do
          i = i + 1
          x = layer(x)
          assert.equal(demo.layers[i].type, layer.kind)
          assert.same(demo.layers[i].output, { unpack(x:shape()) })
        end
        assert.equal(#demo.layers, i)
      end
    end)

    it(name .. " takes a batch of its input size through all layers", function()
      local recipe = scripts.recipe(name)
      recipe.net:eval()
      local x = cnn.rand({ 2, unpack(recipe.input) })
      local y = cnn.no_grad(function() return recipe.net(x) end)
      assert.equal("2x10", tostring(y:shape()))
      assert.is_true(y:sum():item() - y:sum():item() == 0, "the output is not finite")
    end)
  end
end)

-- Where a block is, and PyTorch's arguments as the script takes them.
local blocks = {
  Residual = { "resnet" }, DenseBlock = { "densenet" }, transition_block = { "densenet" },
  Inception = { "googlenet" }, vgg_block = { "vgg" },
  nin_block = { "nin", function(c, o, kernel, stride, padding)
    return c, o, kernel, { stride = stride, padding = padding }
  end },
}

describe("the block", function()
  for _, case in ipairs(golden.read "blocks") do
    local from, arguments = unpack(blocks[case.block])
    local shape = table.concat(case.input, "x") .. " to " .. table.concat(case.output, "x")
    it(("%s, required from models.%s, takes %s"):format(case.block, from, shape), function()
      local make = require("models." .. from)[case.block]
      local block
      if arguments then
        block = make(arguments(unpack(case.args)))
      else
        block = make(unpack(case.args))
      end
      assert.same(case.output, { unpack(block(meta(case.input)):shape()) })
      assert.same(case.output, { unpack(block(cnn.rand(case.input)):shape()) })
    end)
  end

  it("Residual with weights of zero passes its input on", function()
    local block = require("models.resnet").Residual(3, 3)
    cnn.no_grad(function()
      for _, p in ipairs(block:parameters()) do p:fill(0) end
    end)
    local x = cnn.rand(2, 3, 6, 6)
    assert.same(x:totable(), block(x):totable())
  end)

  it("Residual has a 1x1 convolution of its input's channels with its own stride", function()
    local block = require("models.resnet").Residual(3, 6, { use_1x1conv = true, strides = 2 })
    assert.equal("6x3x1x1", tostring(block.conv3.weight:shape()))
    assert.equal("4x6x3x3", tostring(block(cnn.rand(4, 3, 6, 6)):shape()))
  end)

  it("DenseBlock keeps its input as its first channels", function()
    local block = require("models.densenet").DenseBlock(2, 3, 10)
    local x = cnn.rand(4, 3, 8, 8)
    assert.same(x:totable(), block(x):narrow(2, 1, 3):totable())
  end)

  it("VGG at ratio 1 is VGG-11", function()
    local options = require "cnn.options"
    options.set { "ratio=1" }
    local recipe = scripts.recipe "vgg"
    options.set {}
    assert.equal(128806154, quiet_shapes(recipe.net, { 1, 1, 224, 224 }).total.parameters)
  end)
end)

describe("batch normalization from scratch", function()
  local BatchNorm = scripts.recipe("bn_lenet_scratch").BatchNorm

  local function largest(x) return x:detach():abs():max():item() end

  for _, case in ipairs { { "pixels", 4, { 5, 3, 4, 2 } }, { "features", 2, { 7, 3 } } } do
    local what, dims, sizes = unpack(case)

    it("normalizes over the batch, " .. what, function()
      local ours = BatchNorm(3, dims)
      local theirs = dims == 4 and nn.BatchNorm2d(3) or nn.BatchNorm1d(3)
      local x = cnn.randn(sizes) * 3 + 1
      assert.is_true(largest(ours(x) - theirs(x)) < 2e-5)
    end)

    it("has the gradient of nn.BatchNorm, " .. what, function()
      local ours = BatchNorm(3, dims)
      local theirs = dims == 4 and nn.BatchNorm2d(3) or nn.BatchNorm1d(3)
      local a = cnn.randn(sizes)
      local b, seed = a:clone(), cnn.randn(sizes)
      a.requires_grad, b.requires_grad = true, true
      ours(a):backward(seed)
      theirs(b):backward(seed)
      assert.is_true(largest(a.grad - b.grad) < 2e-5)
      assert.is_true(largest(ours.gamma.grad:view(3) - theirs.weight.grad) < 2e-5)
      assert.is_true(largest(ours.beta.grad:view(3) - theirs.bias.grad) < 2e-5)
    end)
  end

  it("moves its averages a tenth of the way, with the biased variance", function()
    local layer = BatchNorm(2, 2)
    layer(cnn.tensor({ { 1, 0 }, { 3, 0 } }))
    assert.is_true(math.abs(layer.moving_mean:totable()[1][1] - 0.2) < 1e-6)
    assert.is_true(math.abs(layer.moving_var:totable()[1][1] - (0.9 + 0.1)) < 1e-6)
    local concise = nn.BatchNorm1d(2)
    concise(cnn.tensor({ { 1, 0 }, { 3, 0 } }))
    assert.is_true(math.abs(concise.running_var:totable()[1] - (0.9 + 0.2)) < 1e-6)
  end)

  it("predicts with its averages when gradients are off, and in eval mode", function()
    local layer = BatchNorm(3, 4)
    layer.moving_mean:fill(2)
    layer.moving_var:fill(4)
    local x = cnn.full({ 2, 3, 2, 2 }, 6)
    local expected = cnn.full({ 2, 3, 2, 2 }, 4 / math.sqrt(4 + 1e-5))
    local off = cnn.no_grad(function() return layer(x) end)
    assert.is_true(largest(off - expected) < 1e-6)
    layer:eval()
    assert.is_true(largest(layer(x) - expected) < 1e-6)
    assert.equal(2, layer.moving_mean:max():item())
    layer:train()
    assert.equal(0, largest(layer(x)))
  end)

  it("saves and moves its averages with the net", function()
    local net = scripts.recipe("bn_lenet_scratch").net
    local names = {}
    for name in net:named_buffers() do names[#names + 1] = name end
    assert.same({
      "2.moving_mean", "2.moving_var", "6.moving_mean", "6.moving_var",
      "11.moving_mean", "11.moving_var", "14.moving_mean", "14.moving_var",
    }, names)
    assert.equal("meta", net:to("meta")[2].moving_mean.device)
  end)

  it("shows net[2].gamma and net[2].beta", function()
    local net = scripts.recipe("bn_lenet_scratch").net
    assert.equal("1x6x1x1", tostring(net[2].gamma:shape()))
    assert.truthy(tostring(net[2].gamma):find("f32[1x6x1x1] cpu", 1, true))
    assert.truthy(tostring(net[2].beta):find("f32[1x6x1x1] cpu", 1, true))
  end)
end)
