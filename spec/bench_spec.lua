-- cnnlua bench: images a second, each layer's own time, and nets of a script's own.

local cjson = require "cjson"
local program = require "spec.support.program"

local quote, file = program.quote, program.file

-- A script that returns a recipe with this net.
local function recipe(name, net)
  return quote(file(name .. ".lua", ([[
    local nn = require "cnn".nn
    return { name = "%s", input = { 1, 28, 28 }, net = %s }]]):format(name, net)))
end

describe("cnnlua bench", function()
  teardown(program.sweep)

  it("measures images a second", function()
    local words = "bench models/bn_lenet.lua --seconds 0.1 --batch 16 "
    local text = program.ok(words).out
    assert.truthy(text:find "train +[%d.]+ images/s" and text:find "predict +[%d.]+ images/s", text)
    local r = cjson.decode(program.ok(words .. "--json").out)
    assert.equal(16, r.batch)
    assert.equal("cpu", r.device)
    for _, what in ipairs { "train", "predict" } do
      assert.is_true(r[what].min <= r[what].images_per_s and r[what].images_per_s <= r[what].max)
    end
    assert.is_true(r.peak_mb > 1)
    r = cjson.decode(program.ok(words .. "--only predict --json").out)
    assert.is_nil(r.train)
  end)

  it("measures each layer alone", function()
    local words = "bench models/bn_lenet.lua --seconds 0.1 --batch 16 --layers "
    local text = program.ok(words .. "--only train").out
    assert.truthy(text:find
      "%[1%] Conv2d%(1, 6, 5%) +| 16x6x24x24 +| +[%d.]+ | +[%d.]+ | +[%d.]+ | +[%d.]+ %%\n", text)
    assert.truthy(text:find "%[3%] Sigmoid%(%) +| 16x6x24x24 +| +[%d.]+ | +| +[%d.]+ |", text)
    assert.truthy(text:find "all layers +| .* | 100.0 %%\n", text)
    assert.truthy(text:find "the whole step takes [%d.]+ ms, [%d.]+ ms .*layers", text)
    local r = cjson.decode(program.ok(words .. "--json").out)
    assert.equal(16, #r.layers)
    local kinds = { "Conv2d", "BatchNorm2d", "Sigmoid", "AvgPool2d", "Conv2d" }
    for i, kind in ipairs(kinds) do assert.equal(kind, r.layers[i].kind) end
    local first = r.layers[1]
    assert.same({ "[1]", "16x6x24x24", 16 * 6 * 24 * 24 * 25 },
      { first.name, first.shape, first.macs })
    for _, layer in ipairs(r.layers) do
      assert.is_true(layer.forward_ms > 0 and layer.backward_ms > 0)
    end
    r = cjson.decode(program.ok(words .. "--only predict --json").out)
    assert.is_true(r.layers[16].forward_ms > 0)
    assert.is_nil(r.layers[16].backward_ms)
  end)

  -- Blocks of a script's own: what is inside them counts, what they do between does not; one that
  -- takes two tensors cannot be called alone; a layer that is called twice comes twice.
  it("measures the layers of blocks in the order of their calls", function()
    local script = quote(file("blocks.lua", [[
      local nn = require "cnn".nn
      local Sum = nn.module "Sum"
      function Sum:forward(a, b) return a + b end
      local Block = nn.module "Block"
      function Block:init()
        self.relu, self.sum = nn.ReLU(), Sum()
      end
      function Block:forward(x) return self.sum(self.relu(x), self.relu(-x)) end
      return { input = { 1, 4, 4 }, net = nn.Sequential(Block(), nn.Flatten(), nn.Linear(nil, 3)) }
      ]]))
    local r = cjson.decode(program.ok("bench " .. script
      .. " --seconds 0.05 --batch 2 --layers --json").out)
    local names = {}
    for i, layer in ipairs(r.layers) do names[i] = layer.name end
    assert.same({ "[1].relu", "[1].relu", "[1].sum", "[2]", "[3]" }, names)
    assert.is_true(r.layers[2].forward_ms > 0)
    assert.is_nil(r.layers[3].forward_ms)
    assert.equal("2x3", r.layers[5].shape)
  end)

  it("measures and checks nets of any number of classes, and of open sizes", function()
    local script = recipe("three", "nn.Sequential(nn.Flatten(), nn.Linear(nil, 3))")
    program.ok("bench " .. script .. " --seconds 0.05")
    assert.truthy(program.ok("check " .. script).out:find "three: right")
    script = recipe("asking", [[(function()
      local Asking = nn.module "Asking"
      function Asking:forward(x) return x / (1 + x:mean():item()) end
      return nn.Sequential(nn.Flatten(), Asking(), nn.Linear(nil, 3))
    end)()]])
    program.ok("bench " .. script .. " --seconds 0.05")
    script = recipe("flat", "nn.Linear(28, 3)")
    program.refuses("bench " .. script, 1, "gives 1x1x28x3 for one image")
  end)
end)
