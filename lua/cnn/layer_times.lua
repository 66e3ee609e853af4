-- layer_times.lua - how long each layer of a net takes by itself: bench --layers, net:profile.
--
-- layer_times.measure(net, x, { seconds =, training =, peaks = }) returns a list, in the order of
-- the calls: { name, kind, label, shape, macs, bytes, forward_ms, backward_ms, ways }. A layer is
-- what has no layers inside; one that is called twice comes twice. The net is run on x again and
-- again, and each layer is called once more, alone, on the input that it was just given:
-- y = layer(input), in training also y:backward(seed). The times are medians. A layer that cannot
-- be called with one tensor alone has none. bytes: what a forward reads and writes at least: its
-- input, parameters and output. On a card a layer is called several times in one recorded step,
-- whose graph is replayed.
--
-- `ways` are the directions, each { way, ms, gflops or nil, gbs, kernel or nil, of_peak or nil }:
-- "forward" and "backward", or, of convolutions and linear layers on the CPU, "forward", "data" and
-- "weights", the two gradients, measured each by itself. of_peak: the time that the machine's peaks
-- { flops, copy } allow at best, as a share of ms; more than 1 where data come from caches, or a
-- method does with fewer operations than the definition has.
--
-- Surprising: the layers are not the whole step. What blocks do between their layers (additions,
-- concatenations), loss and optimizer are missing; on the other hand a step may write over what a
-- layer alone has to keep.

local ffi = require "ffi"
local C = require "cnn.ffi".C
local autograd = require "cnn.autograd"
local cnn = require "cnn"
local calls = require "cnn.calls"
local conv_sizes = require "cnn.conv_sizes"
local handle = require "cnn.handle"
local members = require "cnn.members"
local text = require "cnn.text"

local layer_times = {}

local LEAST_ROUNDS = 3
local AT_ONCE = 10 -- calls of a step on a card
local CAPTURED = 3 -- from the third time on a step is a replayed graph

-- -------------------------------------------------------------------------------- which there are

-- An observer that shows each call of a module that calls no others: visit(node, x, y).
local function each_layer(visit)
  local open, observer = {}, {}

  function observer.enter(_, depth, x)
    if depth > 1 then open[depth - 1].leaf = false end
    open[depth] = { leaf = true, x = x }
    C.cnn_macs()
  end

  function observer.leave(node, depth, y)
    if open[depth].leaf then visit(node, open[depth].x, y) end
  end

  return observer
end

local element_bytes = { f32 = 4, bf16 = 2, u8 = 1, i32 = 4 }

local function bytes_moved(node, x, y)
  return element_bytes[x.dtype] * x:numel() + element_bytes[y.dtype] * y:numel()
    + 4 * members.count(node)
end

-- The weights that take part in training, where a layer's time is theirs and its input's.
local function weights_of(row)
  local list = {}
  if row.macs > 0 then
    for _, p in row.node:named_parameters() do
      if p.requires_grad then list[#list + 1] = p end
    end
  end
  return list
end

local function describe(row, x, y)
  row.needs_dx, row.output, row.needs_backward = x.requires_grad, y:shape(), y.requires_grad
  row.bytes, row.input_bytes = bytes_moved(row.node, x, y), element_bytes[x.dtype] * x:numel()
  row.weights = weights_of(row)
  if row.kind == "Conv2d" then row.sizes = ffi.new("int64_t[18]", conv_sizes.of(row.node, x, y)) end
end

-- A row for each, of a pass that makes gradients possible.
local function layers_seen(net, x)
  local rows, paths = {}, text.paths("", net)
  local observer = each_layer(function(node, input, y)
    local row = {
      node = node, name = paths[node] or node.kind, kind = node.kind, label = node:describe(),
      macs = tonumber(C.cnn_macs()), seconds = {},
    }
    if cnn.is_tensor(input) and cnn.is_tensor(y) then describe(row, input, y) end
    rows[#rows + 1] = row
  end)
  calls.observe(observer, net, x)
  return rows
end

-- They are found on shapes alone, but where a forward asks for values (item, copy).
local function layers_of(net, x)
  local ok, rows = pcall(layers_seen, net, x:to "meta")
  if ok then return rows end
  if not tostring(rows):find("but no value", 1, true) then error(rows, 0) end
  rows = layers_seen(net, x)
  collectgarbage() -- what that pass kept for a backward
  return rows
end

-- ------------------------------------------------------------------------------------- measuring

-- Numbers for the largest gradient; each layer's are the first of them, channels-last.
local function numbers_for(rows, device)
  local most = 1
  for _, row in ipairs(rows) do
    if row.output then most = math.max(most, row.output:numel()) end
  end
  return cnn.rand(most, { device = device })
end

local function shaped(numbers, shape)
  local flat = numbers:narrow(1, 1, shape:numel())
  if #shape ~= 4 then return flat:view(shape) end
  local n, c, h, w = unpack(shape)
  return flat:view(n, h, w, c):permute { 1, 4, 2, 3 }
end

-- x, through which a gradient flows to `leaf`: x may be bf16, of which there are no leaves.
local arrives = autograd.op {
  name = "input",
  forward = function(_, x) return x end,
  backward = function() return nil, nil end,
}

-- Seconds of one call on a card, the backward with it where there is a seed; leaf: what x needs a
-- gradient for, or nil.
local function on_card(row, x, leaf, seed, first)
  local function many()
    for _ = 1, AT_ONCE do
      local y = row.node(leaf and arrives(x, leaf) or x)
      if seed then
        y:backward(seed)
        row.node:zero_grad()
      end
    end
  end
  local before
  for _ = 1, first and CAPTURED or 1 do
    if C.cnn_cuda_wait() ~= 0 then handle.fail() end
    before = C.cnn_seconds()
    cnn.step(many)
  end
  if C.cnn_cuda_wait() ~= 0 then handle.fail() end
  return (C.cnn_seconds() - before) / AT_ONCE
end

local function measure_on_card(row, input, numbers, training, first)
  local x = input:detach()
  if first then -- with bf16 activations what was seen on shapes alone is not all
    local y = row.node(x)
    row.dtype, row.bytes = y.dtype, bytes_moved(row.node, x, y)
  end
  local seed = shaped(numbers, row.output):to(row.dtype)
  local leaf
  if training and row.needs_dx then
    leaf = cnn.zeros(1, { device = x.device, requires_grad = true })
  end
  local forward = on_card(row, x, leaf, nil, first)
  local both = training and row.needs_backward and on_card(row, x, leaf, seed, first) or forward
  handle.give_back(x, seed)
  return { forward = forward, backward = training and math.max(0, both - forward) or nil }
end

-- Seconds forward, and backward where it is asked for.
local function timed(row, input, seed, dx)
  local x = input:detach()
  local given = dx and arrives(x, cnn.zeros(1, { requires_grad = true })) or x
  local before = C.cnn_seconds()
  local y = row.node(given)
  local between = C.cnn_seconds()
  if seed then y:backward(seed) end
  local after = C.cnn_seconds()
  row.node:zero_grad()
  if not rawequal(given, y) then handle.give_back(y) end
  handle.give_back(x)
  return between - before, after - between
end

local function set_trained(weights, on)
  for _, p in ipairs(weights) do p.requires_grad = on end
end

-- Of the input's gradient alone.
local function data_seconds(row, input, seed)
  set_trained(row.weights, false)
  local ok, forward, backward = pcall(timed, row, input, seed, true)
  set_trained(row.weights, true)
  return ok and backward or error(forward, 0)
end

-- Seconds by direction. As in a step, the net's own input needs no gradient.
local function measure_on_cpu(row, input, numbers, training)
  if not training or not row.needs_backward then
    return { forward = timed(row, input) }
  end
  local seed, took = shaped(numbers, row.output), {}
  if #row.weights > 0 then
    took.forward, took.weights = timed(row, input, seed, false)
    took.data = row.needs_dx and data_seconds(row, input, seed) or nil
  else
    took.forward, took.backward = timed(row, input, seed, row.needs_dx)
  end
  handle.give_back(seed)
  return took
end

local function measure_once(row, input, ...)
  return (input.device == "cpu" and measure_on_cpu or measure_on_card)(row, input, ...)
end

local function keep(seconds, took)
  for way, time in pairs(took) do
    seconds[way] = seconds[way] or {}
    table.insert(seconds[way], time)
  end
end

-- One pass of the net, without a history of its own, with a measurement at each layer. The first
-- one warms up, and finds out which layers can be called alone.
local function round(net, x, rows, numbers, training, first)
  local at = 0
  local function visit(node, input)
    at = at + 1
    local row = rows[at]
    if not row or row.node ~= node or not row.output or row.alone == false then return end
    local was = cnn.set_grad_enabled(training)
    local ok, took = pcall(calls.observe, nil, measure_once, row, input, numbers, training, first)
    cnn.set_grad_enabled(was)
    if not ok and (not first or C.cnn_interrupted() ~= 0) then error(took, 0) end
    row.alone = ok
    if ok and not first then keep(row.seconds, took) end
  end
  cnn.no_grad(calls.observe, each_layer(visit), net, x)
end

local function measure_rounds(net, x, rows, options)
  local numbers = numbers_for(rows, x.device)
  round(net, x, rows, numbers, options.training, true)
  local rounds, started = 0, C.cnn_seconds()
  repeat
    rounds = rounds + 1
    round(net, x, rows, numbers, options.training)
  until C.cnn_seconds() - started >= options.seconds and rounds >= LEAST_ROUNDS
end

-- In milliseconds; nil of nothing.
function layer_times.median(seconds)
  table.sort(seconds)
  local n = #seconds
  if n == 0 then return nil end
  return 500 * (seconds[math.ceil(n / 2)] + seconds[math.floor(n / 2) + 1])
end

-- -------------------------------------------------------------------------------- the directions

local WAYS = { "forward", "data", "weights", "backward" }
local DIRECTION = { forward = 0, data = 1, weights = 2 } -- as cnn_conv_method counts them

-- What a backward needs of the forward's values besides gradients: not these.
local forgets_input = {
  Flatten = true, Dropout = true, MaxPool2d = true, AvgPool2d = true, AdaptiveAvgPool2d = true,
}

local function bytes_of(row, way)
  return way == "backward" and not forgets_input[row.kind] and row.bytes + row.input_bytes
    or row.bytes
end

-- macs: of this way, 0 where a rate of operations says nothing.
local function way_of(row, way, ms, macs, peaks)
  local bytes = bytes_of(row, way)
  local least = peaks and math.max(2 * macs / peaks.flops, bytes / peaks.copy)
  return {
    way = way, ms = ms, gflops = macs > 0 and 2 * macs / ms / 1e6 or nil,
    gbs = bytes / ms / 1e6, of_peak = least and 1000 * least / ms,
  }
end

-- The net's own input needs no gradient of data; on a card both gradients are one backward.
local function ways_of(row, peaks, on_cpu)
  local list = {}
  for _, way in ipairs(WAYS) do
    local ms = layer_times.median(row.seconds[way] or {})
    if ms and ms > 0 then
      local made = way_of(row, way, ms, way == "backward" and 0 or row.macs, peaks)
      local method = on_cpu and row.sizes and C.cnn_conv_method(row.sizes, DIRECTION[way])
      if method and method ~= nil then made.kernel = ffi.string(method) end
      list[#list + 1] = made
    end
  end
  return list
end

local function finished(row, on_cpu, options)
  local ways, ms = ways_of(row, options.peaks, on_cpu), { forward = nil, backward = 0 }
  for _, way in ipairs(ways) do
    if way.way == "forward" then
      ms.forward = way.ms
    else
      ms.backward = ms.backward + way.ms
    end
  end
  return {
    name = row.name, kind = row.kind, label = row.label, shape = tostring(row.output or ""),
    macs = row.macs, bytes = row.bytes, forward_ms = ms.forward,
    backward_ms = options.training and ms.forward and ms.backward or nil, ways = ways,
  }
end

-- The net is left in the mode that was asked for.
function layer_times.measure(net, x, options)
  net:train(options.training)
  local rows = layers_of(net, x)
  measure_rounds(net, x, rows, options)
  local list = {}
  for i, row in ipairs(rows) do list[i] = finished(row, x.device == "cpu", options) end
  return list
end

-- 10^9 operations a second of the forward: a multiply-add is two.
function layer_times.rate(row)
  if row.macs == 0 or not row.forward_ms then return nil end
  return 2 * row.macs / row.forward_ms / 1e6
end

-- All layers that were measured, as one row.
function layer_times.total(list, training)
  local total = { macs = 0, bytes = 0, forward_ms = 0, backward_ms = training and 0 or nil }
  for _, row in ipairs(list) do
    if row.forward_ms then
      for field, value in pairs(total) do total[field] = value + row[field] end
    end
  end
  return total
end

return layer_times
