-- layers.lua - each layer of each net against what this card can do: the products it multiplies, by
-- the rate of a large matrix product at the same precision, the bytes that it has to move, by the
-- rate of a large copy. Both rates are measured here first.
--
-- A layer's least time is the larger of the two; its share is least / measured. Forward: 2
-- operations a multiply-add, input, parameters and output once. Backward: twice the operations,
-- half as many bytes again (x and dy are read, dx is written). Surprising: a share may pass 100 %
-- where what a layer reads is still in the card's cache.

local band = require "scripts.gpu.band"

local PEAKS, LAYERS = "a large product and a large copy are measured",
  "every net's layers are measured"
local PRECISION = "tf32"

-- ------------------------------------------------------------------------------------- the peaks

-- Seconds of one call, of many.
local function time(calls, f)
  local cnn, C = require "cnn", require "cnn.ffi".C
  for _ = 1, 2 do f() end
  cnn.cuda.synchronize()
  local before = C.cnn_seconds()
  for _ = 1, calls do f() end
  cnn.cuda.synchronize()
  return (C.cnn_seconds() - before) / calls
end

-- Operations a second of matrix products and bytes a second of a copy, read and written.
local function measure_peaks(part)
  local cnn, handle = require "cnn", require "cnn.handle"
  local n, calls = part.host and 64 or 8192, part.host and 2 or 10
  local a, b = cnn.rand({ n, n }, { device = "cuda" }), cnn.rand({ n, n }, { device = "cuda" })
  local flops = {}
  for _, precision in ipairs { "fp32", "tf32", "bf16" } do
    cnn.cuda.precision(precision)
    flops[precision] = 2 * n ^ 3 / time(calls, function() handle.give_back(a:matmul(b)) end)
    part:figure(("product of two %dx%d matrices in %s"):format(n, n, precision),
      flops[precision] / 1e12, "TFLOP/s")
  end
  local count = part.host and 2 ^ 12 or 2 ^ 28
  local x = cnn.rand({ count }, { device = "cuda" })
  local bytes = 8 * count / time(calls, function() handle.give_back(x:clone()) end)
  part:figure(("copy of %.0f MB, read and written"):format(4 * count / 1e6), bytes / 1e9, "GB/s")
  return flops[PRECISION], bytes
end

-- ------------------------------------------------------------------------------------ the layers

local function share(least_ms, ms) return ms and ms > 0 and 100 * least_ms / ms or nil end

-- The row of a layer, its least times and what it takes beyond them, in milliseconds.
local function judge(net, layer, flops, bytes)
  local product, traffic = 2e3 * layer.macs / flops, 1e3 * layer.bytes / bytes
  local forward = math.max(product, traffic)
  local backward = math.max(2 * product, 1.5 * traffic)
  local took = layer.forward_ms + (layer.backward_ms or 0)
  return {
    net = net, layer = layer.name .. " " .. layer.label, shape = layer.shape,
    limit = product > traffic and "product" or "memory",
    ["forward ms"] = layer.forward_ms, ["share %"] = share(forward, layer.forward_ms),
    ["backward ms"] = layer.backward_ms,
    ["its share %"] = share(backward, layer.backward_ms),
    ["lost ms"] = took - forward - (layer.backward_ms and backward or 0),
  }, forward, backward
end

local function measure_net(part, name, flops, bytes, rows)
  local seconds = part.host and "0.05 --batch 2" or "0.3"
  local result = part:json(("bench models/%s.lua --device cuda --precision %s --only train "
    .. "--layers --json --seconds %s"):format(name, PRECISION, seconds), { seconds = 60 })
  local sum = { forward = 0, backward = 0, least_forward = 0, least_backward = 0 }
  for _, layer in ipairs(result.layers) do
    if type(layer.forward_ms) == "number" and type(layer.bytes) == "number" then
      local row, forward, backward = judge(name, layer, flops, bytes)
      rows[#rows + 1] = row
      sum.forward, sum.least_forward = sum.forward + layer.forward_ms, sum.least_forward + forward
      if layer.backward_ms then
        sum.backward = sum.backward + layer.backward_ms
        sum.least_backward = sum.least_backward + backward
      end
    end
  end
  part:row("nets", {
    net = name, ["forward ms"] = sum.forward, ["share %"] = share(sum.least_forward, sum.forward),
    ["backward ms"] = sum.backward, ["its share %"] = share(sum.least_backward, sum.backward),
    ["whole step ms"] = 1000 * result.batch / result.train.images_per_s,
  })
end

local function wanted(part, name)
  if part.host then return name == "bn_lenet" end
  return not part.nets or (" " .. table.concat(part.nets, " ") .. " "):find(" " .. name .. " ", 1,
    true)
end

local function run(part)
  local ok, flops, bytes = pcall(measure_peaks, part)
  if not part:check(PEAKS, ok, not ok and require "cnn.fail".line(flops) or nil) then return end
  require "cnn".cuda.empty_cache()
  local rows, left, failed, done = {}, {}, nil, 0
  for _, net in ipairs(band) do
    if not wanted(part, net.name) then
      print(net.name .. " is left out")
    elseif part:left() < 4 then
      left[#left + 1] = net.name
    else
      local measured, why = pcall(measure_net, part, net.name, flops, bytes, rows)
      if measured then done = done + 1 else failed = failed or net.name .. ": " .. tostring(why) end
    end
  end
  table.sort(rows, function(a, b) return a["lost ms"] > b["lost ms"] end)
  for _, row in ipairs(rows) do part:row("layers", row) end
  if failed then return part:failed(LAYERS, failed) end
  if #left == 0 then return part:passed(LAYERS, done .. " nets") end
  part:skipped(LAYERS, ("%d nets; no time was left for %s"):format(done, table.concat(left, ", ")))
end

return {
  about = "each layer's share of the card's measured peak and bandwidth",
  seconds = 35, card = true, checks = { PEAKS, LAYERS },
  tables = {
    { name = "nets", title = "all layers of a net, training at the recipe's batch, " .. PRECISION,
      columns = { "net", "forward ms", "share %", "backward ms", "its share %", "whole step ms" } },
    { name = "layers", title = "single layers, those first that lose the most time", most = 20,
      columns = { "net", "layer", "shape", "limit", "forward ms", "share %", "backward ms",
                  "its share %", "lost ms" } },
  },
  run = run,
}
