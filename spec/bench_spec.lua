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
    assert.truthy(text:find "\npeaks: [%d.]+ GFLOP/s, copying [%d.]+ GB/s\n", text)
    local numbers = " +| +[%d.]+ | +[%d.]+ G[%a/]+ | +%d+ %% | +[%d.]+ %%\n"
    assert.truthy(text:find("%[1%] Conv2d%(1, 6, 5%) +| forward +| [^|]+" .. numbers), text)
    assert.truthy(text:find("\n  16x6x24x24 +| weights +| [^|]+" .. numbers), text)
    assert.truthy(text:find("%[3%] Sigmoid%(%) +| forward +| " .. numbers), text)
    assert.truthy(text:find("\n  16x6x24x24 +| backward +| " .. numbers), text)
    assert.truthy(text:find "\n +| both +| .* | 100.0 %%\n", text)
    for line in text:gmatch "[^\n]+|[^\n]+" do assert.is_true(#line <= 110, line) end
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
    assert.is_true(r.peak.gflops > 0 and r.peak.gbs > 0)
    local ways = {}
    for i, way in ipairs(r.layers[5].ways) do
      ways[i] = way.way
      assert.is_true(way.ms > 0 and way.gflops > 0 and way.gbs > 0 and way.of_peak > 0)
      assert.is_string(way.kernel)
    end
    assert.same({ "forward", "data", "weights" }, ways)
    r = cjson.decode(program.ok(words .. "--only predict --json").out)
    assert.is_true(r.layers[16].forward_ms > 0)
    assert.is_nil(r.layers[16].backward_ms)
    assert.equal(1, #r.layers[16].ways)
  end)

  it("leaves the weights trained, whatever was measured of them alone", function()
    local cnn = require "cnn"
    local net = cnn.nn.Sequential(cnn.nn.Linear(8, 4), cnn.nn.Linear(4, 2))
    local frozen = net[2].weight
    frozen.requires_grad = false
    local rows = require "cnn.layer_times".measure(net, cnn.rand(3, 8), {
      seconds = 0, training = true,
    })
    assert.is_nil(rows[1].ways[1].of_peak)
    assert.is_true(net[1].weight.requires_grad and net[2].bias.requires_grad)
    assert.is_false(frozen.requires_grad)
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

describe("cnnlua doctor --peak", function()
  -- Some core of the last twenty years does more than a tenth of a GFLOP/s and of a GB/s.
  it("measures multiply-adds, copying and reading, on one thread and on all", function()
    local text = program.ok("doctor --peak --threads 2").out
    for _, what in ipairs { "fp32 .*GFLOP/s", "copy .*GB/s", "read .*GB/s" } do
      local one, all = text:match("\n" .. what:gsub(" ", " +"):gsub("%.%*", "([%%d.]+) ")
        .. " on one thread, ([%d.]+) on 2")
      assert.is_true(tonumber(one) > 0.1 and tonumber(all) > 0.1, text)
    end
    assert.truthy(text:find "\nbf16 +[%d.]+ GFLOP/s" or text:find "\nbf16 +not", text)
    assert.is_nil(program.ok("doctor --peak --threads 1").out:find " on 2")
  end)
end)
