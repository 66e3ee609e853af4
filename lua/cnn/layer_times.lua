-- layer_times.lua - how long each layer of a net takes by itself: cnnlua bench --layers.
--
-- layer_times.measure(net, input, { seconds =, training =, device = }) returns a list, in the order
-- of the calls: { name, kind, label, shape, macs, forward_ms, backward_ms }. input: the sizes of a
-- batch. A layer is what has no layers inside; one that is called twice comes twice. Each gets an
-- input of its own that has no history, y = layer(x), and in training y:backward(seed), all layers
-- in turn, round after round; the times are medians. A layer that cannot be called with one tensor
-- alone has none.
--
-- Surprising: the layers are not the whole step. What blocks do between their layers (additions,
-- concatenations), loss and optimizer are missing; on the other hand a step may write over what a
-- layer alone has to keep.

local C = require "cnn.ffi".C
local cnn = require "cnn"
local calls = require "cnn.calls"
local handle = require "cnn.handle"
local text = require "cnn.text"

local layer_times = {}

local LEAST_ROUNDS = 3

-- -------------------------------------------------------------------------------- which there are

-- An observer that lists the calls of modules that call no others.
local function lister(net)
  local rows, open, names = {}, {}, text.paths("", net)
  local observer = {}

  function observer.enter(node, depth, x)
    if depth > 1 then open[depth - 1].leaf = false end
    open[depth] = { node = node, leaf = true, x = x }
    C.cnn_macs()
  end

  function observer.leave(node, depth, y)
    local call = open[depth]
    if not call.leaf then return end
    local row = {
      node = node, name = names[node] or node.kind, kind = node.kind, label = node:describe(),
      macs = tonumber(C.cnn_macs()), forward = {}, backward = {},
    }
    if cnn.is_tensor(call.x) and cnn.is_tensor(y) then
      row.input, row.needs_dx = call.x:shape(), call.x.requires_grad
      row.output, row.needs_backward = y:shape(), y.requires_grad
    end
    rows[#rows + 1] = row
  end

  return observer, rows
end

local function layers_of(net, input)
  local observer, rows = lister(net)
  calls.observe(observer, net, cnn.zeros(input, { device = "meta" }))
  return rows
end

-- ------------------------------------------------------------------------------------- measuring

-- Numbers for the largest input or seed; each layer's are the first of them, channels-last.
local function numbers_for(rows, device)
  local most = 1
  for _, row in ipairs(rows) do
    if row.input then most = math.max(most, row.input:numel(), row.output:numel()) end
  end
  return cnn.rand(most, { device = device })
end

local function shaped(numbers, shape)
  local flat = numbers:narrow(1, 1, shape:numel())
  if #shape ~= 4 then return flat:view(shape) end
  local n, c, h, w = unpack(shape)
  return flat:view(n, h, w, c):permute { 1, 4, 2, 3 }
end

-- Seconds forward and backward. As in a step, the net's own input needs no gradient.
local function measure_once(row, numbers, training)
  local x = shaped(numbers, row.input):detach()
  local seed = shaped(numbers, row.output)
  if training and row.needs_dx then x.requires_grad = true end
  local before = C.cnn_seconds()
  local y = row.node(x)
  local between = C.cnn_seconds()
  if training and row.needs_backward then y:backward(seed) end
  local after = C.cnn_seconds()
  row.node:zero_grad()
  handle.give_back(x, y, seed)
  return between - before, after - between
end

-- The first round: it warms up, and finds out which layers can be called alone.
local function callable(rows, numbers, training)
  local list = {}
  for _, row in ipairs(rows) do
    if row.input then
      local ok, why = pcall(measure_once, row, numbers, training)
      if ok then list[#list + 1] = row end
      if C.cnn_interrupted() ~= 0 then error(why, 0) end
    end
  end
  return list
end

local function measure_rounds(rows, numbers, options)
  if #rows == 0 then return end
  local rounds, started = 0, C.cnn_seconds()
  repeat
    rounds = rounds + 1
    for _, row in ipairs(rows) do
      row.forward[rounds], row.backward[rounds] = measure_once(row, numbers, options.training)
    end
  until C.cnn_seconds() - started >= options.seconds and rounds >= LEAST_ROUNDS
end

-- In milliseconds; nil of nothing.
local function median(seconds)
  table.sort(seconds)
  local n = #seconds
  if n == 0 then return nil end
  return 500 * (seconds[math.ceil(n / 2)] + seconds[math.floor(n / 2) + 1])
end

local function measure(net, input, options)
  local rows = layers_of(net, input)
  local numbers = numbers_for(rows, options.device)
  measure_rounds(callable(rows, numbers, options.training), numbers, options)
  local list = {}
  for i, row in ipairs(rows) do
    list[i] = {
      name = row.name, kind = row.kind, label = row.label, shape = tostring(row.output or ""),
      macs = row.macs, forward_ms = median(row.forward),
      backward_ms = options.training and median(row.backward) or nil,
    }
  end
  return list
end

function layer_times.measure(net, input, options)
  net:train(options.training)
  if options.training then return measure(net, input, options) end
  return cnn.no_grad(measure, net, input, options)
end

-- --------------------------------------------------------------------------------------- printing

local function cell(format, value)
  return value and format:format(value) or ""
end

-- 10^9 operations a second: a multiply-add is two.
local function rate(row)
  if row.macs == 0 or not row.forward_ms then return nil end
  return 2 * row.macs / row.forward_ms / 1e6
end

-- Of the layers that were measured.
local function sum(list, field)
  local total = 0
  for _, row in ipairs(list) do
    if row.forward_ms then total = total + row[field] end
  end
  return total
end

-- The table, and what the whole step (or prediction) of step_ms takes beyond the layers.
function layer_times.text(list, step_ms, training)
  local total = {
    label = "all layers", name = "", macs = sum(list, "macs"), forward_ms = sum(list, "forward_ms"),
    backward_ms = training and sum(list, "backward_ms") or nil,
  }
  local all = total.forward_ms + (total.backward_ms or 0)
  local function cells(row)
    local own = row.forward_ms and row.forward_ms + (row.backward_ms or 0)
    return {
      (row.name .. " " .. row.label):gsub("^ ", ""), row.shape or "",
      cell("%.3f", row.forward_ms), cell("%.1f", rate(row)),
      cell("%.3f", row.backward_ms), cell("%.1f %%", own and 100 * own / all),
    }
  end
  local lines = {
    { "layer", "output shape", "forward ms", "GFLOP/s forward", "backward ms", "share" },
  }
  for _, row in ipairs(list) do lines[#lines + 1] = cells(row) end
  lines[#lines + 1] = cells(total)
  if not training then
    for _, line in ipairs(lines) do table.remove(line, 5) end
  end
  local rest = step_ms - all
  return ("%s\nthe whole %s takes %.3f ms, %.3f ms %s"):format(text.columns(lines, 2),
    training and "step" or "prediction", step_ms, math.abs(rest), rest < 0
    and "less than its layers alone" or "of them beyond the layers: what blocks do between them"
    .. (training and ", loss, optimizer" or ""))
end

return layer_times
