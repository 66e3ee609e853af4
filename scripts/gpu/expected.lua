-- expected.lua - what a training step has to take on a card, from counted operations and bytes.
-- usage: cnnlua scripts/gpu/expected.lua [tf32|bf16 [TFLOPS [TBPS]]]
--        (an H100 SXM, unless given: 494 in tf32, 989 in bf16, and 3.35 TB/s)
--
-- Operations: two for each multiply-add, forward and both gradients, but for the first layer's data
-- gradient. Bytes, each tensor read or written once by each kernel that has to:
--   convolution, linear   x, y forward; dy, dx; x, dy, and the weights three times; with bf16 they
--                         are rounded once as well, and a convolution's gradient is widened
--   norm                  x twice and y (ReLU behind it is free); x, dy twice and dx
--   ReLU, sigmoid         dy, y and dx; forward, joined, nothing more
--   pooling, others       x and y each way
--   the optimizer         parameter, gradient, parameter
-- An activation is 4 bytes, 2 with bf16; what a linear layer answers, and the weights that the
-- optimizer has, are 4. Concatenations are not counted. The expected time of a layer is the larger
-- of the two; a step is their sum.
--
-- Surprising: this is a floor, not a forecast. Launches, tails and kernels short of the peak come
-- on top.

local cnn = require "cnn"

local precision = arg[1] or "tf32"
local peaks = { tf32 = 494, bf16 = 989 }
if not peaks[precision] then error("expected tf32 or bf16, got " .. precision, 0) end
local narrow = precision == "bf16"
local flops = (tonumber(arg[2]) or peaks[precision]) * 1e12
local bandwidth = (tonumber(arg[3]) or 3.35) * 1e12

local nets = { "alexnet", "vgg", "nin", "googlenet", "bn_lenet", "resnet", "densenet" }
local book = { -- images/s of the book on a V100, without loading and evaluation
  alexnet = 4145, vgg = 2553, nin = 3200, googlenet = 3471, bn_lenet = 60220, resnet = 4684,
  densenet = 5513,
}

local C = require "cnn.ffi".C
local calls, members = require "cnn.calls", require "cnn.members"

-- The multiply-adds of this process so far.
local counted = 0
local function macs_so_far()
  counted = counted + tonumber(C.cnn_macs())
  return counted
end

-- Seconds of operations and of bytes for one layer, forward and backward.
local function layer_cost(layer, x, y, macs, first)
  local nx, ny = x:numel(), y:numel()
  local kind, operations, bytes = layer.kind, 0, 0
  local values
  local size = narrow and 2 or 4
  if kind == "Conv2d" or kind == "Linear" then
    operations = 2 * macs * (first and 2 or 3)
    values = (first and 2 or 3) * nx
    bytes = (first and 2 or 3) * ny * (kind == "Linear" and 4 or size)
    local each = not narrow and 24 or kind == "Linear" and 26 or 30
    bytes = bytes + each * members.count(layer)
  elseif kind:find "^BatchNorm" then
    values = 3 * nx + 5 * nx
  elseif kind == "ReLU" or kind == "Sigmoid" then
    values = 3 * nx
  elseif kind == "Flatten" then
    values = 2 * nx
  else
    values = 2 * (nx + ny)
  end
  return operations / flops, (size * values + bytes) / bandwidth
end

local function step_cost(name)
  local recipe = assert(loadfile("models/" .. name .. ".lua"))()
  local batch = recipe.train.batch
  local inputs, starts = {}, {}
  local total, operations, bytes, first, leaf = 0, 0, 0, true, {}
  local observer = {}
  function observer.enter(_, depth, x)
    inputs[depth], starts[depth], leaf[depth] = x, macs_so_far(), true
    if depth > 1 then leaf[depth - 1] = false end
  end
  function observer.leave(layer, depth, y)
    if not leaf[depth] then return end
    local o, b = layer_cost(layer, inputs[depth], y, macs_so_far() - starts[depth], first)
    if o > 0 then first = false end
    operations, bytes, total = operations + o, bytes + b, total + math.max(o, b)
  end
  local x = cnn.zeros({ batch, unpack(recipe.input) }, { device = "meta" })
  recipe.net:eval()
  cnn.no_grad(function() calls.observe(observer, recipe.net, x) end)
  return batch, operations, bytes, total
end

print(("%-10s %6s %12s %10s %10s %12s %10s"):format("net", "batch", "operations", "bytes", "floor",
  "images/s", "x book"))
for _, name in ipairs(nets) do
  local batch, operations, bytes, total = step_cost(name)
  print(("%-10s %6d %9.3f ms %7.3f ms %7.3f ms %12.0f %9.0fx"):format(name, batch,
    1e3 * operations, 1e3 * bytes, 1e3 * total, batch / total, batch / total / book[name]))
end
