-- layer_table.lua - what bench --layers prints: a line for each direction of each layer.
--
-- layer_table.text(list, step_ms, training): the layers as layer_times.measure gives them, and what
-- the whole step (or prediction) takes. Surprising: a layer's rate is given in the unit that bounds
-- it: operations where it has enough of them for the bytes that it moves, else bytes.

local layer_times = require "cnn.layer_times"
local text = require "cnn.text"

local layer_table = {}

local WIDEST = 30 -- of a layer's name and arguments

local function cut(line)
  return #line <= WIDEST and line or line:sub(1, WIDEST - 2) .. ".."
end

-- What needs fewer than ten operations a byte waits for memory on any machine of today.
local OPERATIONS_A_BYTE = 10

local function rate_text(way)
  if not way.gbs and not way.gflops then return "" end
  if way.gflops and (not way.gbs or way.gflops > OPERATIONS_A_BYTE * way.gbs) then
    return ("%.1f GFLOP/s"):format(way.gflops)
  end
  return ("%.1f GB/s"):format(way.gbs)
end

local function cells(way, first, second, all)
  return {
    first, second, way.kernel or "", ("%.3f"):format(way.ms), rate_text(way),
    text.cell("%.0f %%", way.of_peak and 100 * way.of_peak), ("%.1f %%"):format(100 * way.ms / all),
  }
end

local function add_layer(lines, row, all, training)
  local name = cut((row.name .. " " .. row.label):gsub("^ ", ""))
  if #row.ways == 0 then lines[#lines + 1] = { name, row.shape, "", "", "", "", "" } end
  for i, way in ipairs(row.ways) do
    local first = i == 1 and name or i == 2 and "  " .. row.shape or ""
    lines[#lines + 1] = cells(way, first, training and way.way or row.shape, all)
  end
end

local function add_total(lines, total, all)
  lines[#lines + 1] = cells({ ms = total.forward_ms, gflops = layer_times.rate(total) },
    "all layers", total.backward_ms and "forward" or "", all)
  if total.backward_ms then
    lines[#lines + 1] = cells({ ms = total.backward_ms }, "", "backward", all)
    lines[#lines + 1] = cells({ ms = all }, "", "both", all)
  end
end

function layer_table.text(list, step_ms, training)
  local total = layer_times.total(list, training)
  local all = total.forward_ms + (total.backward_ms or 0)
  local lines = { {
    "layer", training and "way" or "output shape", "kernel", "ms", "rate", "of peak", "share",
  } }
  for _, row in ipairs(list) do add_layer(lines, row, all, training) end
  add_total(lines, total, all)
  local rest = step_ms - all
  return ("%s\nthe whole %s takes %.3f ms, %.3f ms %s"):format(text.columns(lines, 3),
    training and "step" or "prediction", step_ms, math.abs(rest), rest < 0
    and "less than its layers alone" or "of them beyond the layers: what blocks do between them"
    .. (training and ", loss, optimizer" or ""))
end

return layer_table
