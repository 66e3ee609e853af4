-- every_op.lua - every kernel of our own at work once, for compute-sanitizer to watch.
-- usage: CNN_CUDA_KERNELS=cuda cnnlua scripts/gpu/every_op.lua SECONDS
--
-- First the step of a small net, as captured graph too, and batches that the card makes; then for
-- each op of spec/support/catalogue.lua a small and a wide case, forward and backward, with float32
-- activations and with bf16. Prints "N of M ops" at the end.
--
-- Surprising: nothing is compared here, that is the specs' work; and what SECONDS does not suffice
-- for is left out and counted, since the watched card is slow.

local cnn = require "cnn"
local bind = require "cnn.bind"
local C = require "cnn.ffi".C
local engine = require "spec.support.engine"
local harness = require "spec.support.harness"
local inputs = require "spec.support.inputs"

local nn = cnn.nn
local deadline = C.cnn_seconds() + tonumber(arg[1])

-- ---------------------------------------------------------------------------------- small nets

local function train(optimizer)
  local net = nn.Sequential(nn.Conv2d(1, 8, 5, { padding = 2 }), nn.BatchNorm2d(8), nn.ReLU(),
    nn.MaxPool2d(3, { stride = 2 }), nn.Conv2d(8, 16, 1), nn.Sigmoid(), nn.AvgPool2d(2),
    nn.Conv2d(16, 16, 3, { padding = 1, groups = 2 }), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1),
    nn.Flatten(), nn.Linear(16, 10))
  net(cnn.zeros(1, 1, 28, 28))
  net:to "cuda"
  local opt = optimizer(net:parameters(), { lr = 0.01, weight_decay = 1e-4 })
  local criterion = nn.CrossEntropyLoss()
  local x, y = cnn.rand(6, 1, 28, 28):to "cuda", cnn.tensor({ 1, 2, 3, 4, 5, 10 }):to "cuda"
  local loss
  for _ = 1, 4 do
    loss = cnn.step(function()
      opt:zero_grad()
      local l = criterion(net(x), y)
      l:backward()
      opt:step()
      opt:zero_grad()
      return l:detach()
    end)
  end
  return loss:item()
end

local function batches()
  local n, labels = 40, {}
  for i = 1, n do labels[i] = (i - 1) % 10 + 1 end
  local function split()
    return { images = (cnn.rand(n, 1, 9, 7) * 255):to "u8", labels = cnn.tensor(labels) }
  end
  local names = {}
  for i = 1, 10 do names[i] = tostring(i) end
  local data = cnn.data.from({ train = split(), test = split(), classes = names },
    { batch = 16, resize = { 20, 13 } })
  for x in data.train:batches { epoch = 1, device = "cuda" } do x:sum():item() end
end

-- ---------------------------------------------------------------------------------- every op

-- The floats among the inputs are activations; of an op that changes some the first is.
local function run_case(name, row, case, precision)
  assert(C.cnn_cuda_set_precision(precision) == 0)
  local specs = harness.tensors(case)
  local function as(i, x)
    if precision ~= "bf16" or specs[i].dtype or (row.changes and i > 1) then return x end
    return bind.ops.to(x, "bf16")
  end
  for _, layout in ipairs { "dense", "channels_last" } do
    if inputs.applies(specs, layout) and (layout == "dense" or not row.layouts) then
      harness.run(name, row, case, harness.values_of(case, layout), layout, as)
    end
  end
end

local function first(row) return row.cases[1] end
local function wide(row) return row.wide end

local function every_op()
  local catalogue = require "spec.support.catalogue"
  local done, all = 0, 0
  engine.use "cuda"
  for _, pick in ipairs { first, wide } do
    for _, precision in ipairs { "fp32", "bf16" } do
      for _, op in ipairs(bind.list) do
        local row = catalogue[op.name]
        if row and not (precision == "bf16" and row.writes) then
          all = all + 1
          if C.cnn_seconds() < deadline then
            run_case(op.name, row, pick(row), precision)
            done = done + 1
          end
        end
      end
    end
  end
  return done, all
end

assert(engine.has_card, "no card")
cnn.cuda.precision "bf16"
train(cnn.optim.SGD)
cnn.cuda.precision "auto"
train(cnn.optim.SGD)
train(cnn.optim.Adam)
batches()
assert(C.cnn_cuda_wait() == 0)
print(("%d of %d cases of ops"):format(every_op()))
assert(C.cnn_cuda_wait() == 0)
