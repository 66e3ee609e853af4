-- The program on a card, or on its host double: training like on the CPU, weights that go from one
-- to the other, and what goes wrong, each in one line.

local cjson = require "cjson"
local cnn = require "cnn"
local engine = require "spec.support.engine"
local idx = require "spec.support.idx"
local program = require "spec.support.program"

local quote = program.quote

if not engine.has_card then
  describe("cnnlua --device cuda", function()
    pending "needs a GPU, or the host double of make specs: spec/card_program_spec.lua"
  end)
  return
end

local library = engine.card_is_double
  and "CNN_CUDA_LIB=" .. quote(os.getenv "CNN_CUDA_HOST_LIB") .. " " or ""

-- A ResNet of two blocks, small enough for the double.
local resnet = [[
local cnn = require "cnn"
local nn = cnn.nn
local Residual = nn.module "Residual"
function Residual:init(from, to, stride)
  self.conv1 = nn.Conv2d(from, to, 3, { padding = 1, stride = stride })
  self.bn1 = nn.BatchNorm2d(to)
  self.conv2 = nn.Conv2d(to, to, 3, { padding = 1 })
  self.bn2 = nn.BatchNorm2d(to)
  if stride > 1 then self.conv3 = nn.Conv2d(from, to, 1, { stride = stride }) end
end
function Residual:forward(x)
  local y = self.bn2(self.conv2(self.bn1(self.conv1(x)):relu()))
  if self.conv3 then x = self.conv3(x) end
  return (y + x):relu()
end
return {
  name = "small-resnet", input = { 1, 20, 20 },
  net = nn.Sequential(nn.Conv2d(1, 4, 3, { padding = 1, stride = 2 }), nn.BatchNorm2d(4), nn.ReLU(),
    Residual(4, 4, 1), Residual(4, 8, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)),
  train = { batch = 16, lr = 0.1, epochs = 2 },
}]]

local data, script
setup(function()
  data = idx.directory("card-data", {
    idx.images(70, 28, 28, 1), idx.labels(70), idx.images(20, 28, 28, 2), idx.labels(20),
  })
  script = program.file("small_resnet.lua", resnet)
end)

local function run(words, env)
  local given = { env = library .. "CNNLUA_DATA=" .. quote(data) .. " " .. (env or "") }
  return program.run(words, given)
end

local function trained(words, env)
  local r = run(words .. " --json", env)
  assert.equal(0, r.status, r.err)
  return cjson.decode(r.out:match "[^\n]+%s*$")
end

-- One line on stderr that has all the words.
local function fails(r, status, ...)
  assert.equal(status, r.status, r.out .. r.err)
  local lines = {}
  for line in r.err:gmatch "[^\n]+" do lines[#lines + 1] = line end
  assert.equal(1, #lines, r.err)
  for _, words in ipairs { ... } do
    assert.truthy(lines[1]:find(words, 1, true), words .. " is not in " .. lines[1])
  end
end

describe("cnnlua --device cuda", function()
  local function check(file, words)
    local out = program.file "card-run"
    local there = trained(("train %s %s --device cuda --precision fp32 --out %s"):format(file,
      words, quote(out)))
    local here = trained(("train %s %s --device cpu --out %s"):format(file, words,
      quote(out .. "-cpu")))
    assert.equal("cuda:0", there.device)
    assert.is_true(math.abs(there.loss - here.loss) < 2e-3 * here.loss,
      ("loss %.6f, on the CPU %.6f"):format(there.loss, here.loss))
    assert.is_true(math.abs(there.train_acc - here.train_acc) < 0.03)
    for _, file_name in ipairs { "best.safetensors", "last.safetensors", "metrics.csv" } do
      assert.is_true(program.exists(out .. "/" .. file_name), file_name)
    end
    return out
  end

  it("trains BN-LeNet to the CPU's losses, and the weights serve both", function()
    local out = check("models/bn_lenet.lua", "--batch 16 --epochs 3 --lr 0.5")
    local lines = {}
    for _, device in ipairs { "cpu", "cuda" } do
      local r = run(("eval models/bn_lenet.lua --weights %s --device %s"):format(
        quote(out .. "/last.safetensors"), device))
      assert.equal(0, r.status, r.err)
      lines[#lines + 1] = r.out
    end
    assert.equal(lines[1], lines[2])
    local more = trained(("train models/bn_lenet.lua --resume %s --epochs 4 --device cpu --out %s")
      :format(quote(out), quote(out .. "-more")))
    assert.equal(4, more.epochs)
  end)

  it("trains a small ResNet to the CPU's losses", function()
    check(quote(script), "--epochs 3")
  end)

  it("gives the same numbers each time, and near ones in bf16", function()
    local words = quote(script) .. " --device cuda --out " .. quote(program.file "card-again")
    local first = trained("train " .. words)
    assert.equal(first.loss, trained("train " .. words .. " --deterministic").loss)
    local half = trained("train " .. words .. " --precision bf16").loss
    assert.is_true(half ~= first.loss and math.abs(half - first.loss) < 0.05 * first.loss)
  end)

  it("is measured, and predicts", function()
    local r = run(("bench %s --device cuda --seconds 0.1 --batch 4 --json"):format(quote(script)))
    assert.equal(0, r.status, r.err)
    local result = cjson.decode(r.out)
    assert.equal("cuda:0", result.device)
    assert.is_true(result.train.images_per_s > 0 and result.predict.images_per_s > 0)
    assert.is_true(result.peak_mb > 0)
  end)

  it("draws the maps of a net on the card", function()
    local out, png = program.file "card-maps", program.file "card-maps-"
    trained(("train %s --device cuda --epochs 1 --out %s"):format(quote(script), quote(out)))
    for _, device in ipairs { "cpu", "cuda" } do
      local r = run(("maps %s --weights %s --layer 4 --image 1 --device %s -o %s"):format(
        quote(script), quote(out .. "/last.safetensors"), device, quote(png .. device .. ".png")))
      assert.equal(0, r.status, r.err)
    end
    assert.equal(tostring(cnn.image.read(png .. "cpu.png"):shape()),
      tostring(cnn.image.read(png .. "cuda.png"):shape()))
  end)
end)

describe("what goes wrong on a card, in one line:", function()
  local train = function(words)
    return ("train %s --batch 16 --quiet --out %s %s"):format(quote(script),
      quote(program.file "card-wrong"), words)
  end

  it("an index that is not there", function()
    fails(run(train "--device cuda:99"), 1, "--device cuda:99", "this machine has cuda:0")
  end)

  it("no library, or one of something else", function()
    local r = program.run(train "--device cuda", {
      env = "CNN_CUDA_LIB=/nowhere/libcnn_cuda.so CNNLUA_DATA=" .. quote(data),
    })
    fails(r, 1, "/nowhere/libcnn_cuda.so")
    r = program.run(train "--device cuda", {
      env = "CNN_CUDA_LIB=" .. quote(os.getenv "CNN_LIB" or "build/libcnn.so") .. " CNNLUA_DATA="
        .. quote(data),
    })
    fails(r, 1, "another build of cnnlua")
  end)

  it("a learning rate that leads to no number", function()
    fails(run(train "--device cuda --lr 1e30"), 1, "the loss is", "lr 1e+30", "the weights after")
  end)

  it("options that only a card has", function()
    for _, words in ipairs { "--precision tf32", "--deterministic", "--autotune" } do
      fails(run(train("--device cpu " .. words)), 2, words:match "%-%-%w+", "for ")
    end
  end)

  if not engine.card_is_double then return end

  it("no card, no memory", function()
    fails(run(train "--device cuda", "CNN_HOST_CARDS=0"), 1, "no NVIDIA card")
    fails(run(("train models/bn_lenet.lua --batch 64 --quiet --device cuda --out %s"):format(
      quote(program.file "card-small")), "CNN_HOST_CARD_MB=2"), 1, "out of memory on cuda:0",
      "the layers that hold most: [1] Conv2d(1, 6, 5)", "is about the largest that fits")
  end)

  it("a fault at any launch: the weights of the last epoch are kept", function()
    local out = program.file "card-fault"
    for _, launch in ipairs { 1, 2, 40, 400 } do
      fails(run(train "--device cuda", "CNN_HOST_CARD_FAIL=" .. launch), 1,
        "an illegal memory access was encountered")
    end
    local words = ("train %s --batch 16 --quiet --epochs 3 --device cuda --out %s"):format(
      quote(script), quote(out))
    local r = run(words, "CNN_HOST_CARD_FAIL=1000")
    fails(r, 1, "illegal memory access", "the weights after epoch", "last.safetensors")
    r = run(("eval %s --weights %s --device cpu"):format(quote(script),
      quote(out .. "/last.safetensors")))
    assert.equal(0, r.status, r.err)
  end)

  it("the op that is at fault, with CNN_SYNC=1", function()
    fails(run(train "--device cuda", "CNN_SYNC=1 CNN_HOST_CARD_FAIL=100"), 1,
      "illegal memory access")
    local r = run(train "--device cuda", "CNN_SYNC=1 CNN_HOST_CARD_FAIL=100")
    assert.truthy(r.err:find "cnnlua: [%w_]+: CUDA", r.err)
  end)
end)
