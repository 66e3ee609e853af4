-- profile.lua - net:profile(x): where the time of a step goes.
--
-- Each layer is measured alone (layer_times.lua), then the whole step, forward and backward of the
-- output's mean, as a recorded one like the trainer's. There is no loss and no optimizer in it.
--
-- Surprising: the layers may take longer alone than the step that they make up, because a recorded
-- step plans its memory. What is "beyond the layers" is negative then, and the shares still add up.

local C = require "cnn.ffi".C
local argument = require "cnn.argument"
local autograd = require "cnn.autograd"
local err = require "cnn.error"
local handle = require "cnn.handle"
local layer_times = require "cnn.layer_times"
local look = require "cnn.probes.look"
local report = require "cnn.probes.report"
local step = require "cnn.step"
local text = require "cnn.text"
local untouched = require "cnn.probes.untouched"

local profile = {}

local WHO = "net:profile"
local SECONDS = 1
local LAYERS_SHARE = 2 / 3 -- of the time to measure
local WARM_UP, LEAST_STEPS = 1, 3

-- --------------------------------------------------------------------------------- measuring

local function output(net, x)
  local y = net(x)
  if handle.is_tensor(y) then return y end
  err.raise(("%s: expected a net that gives a tensor, got %s"):format(WHO, err.got(y)))
end

local function training_step(net, x)
  net:zero_grad()
  local y = output(net, x):mean()
  if y.requires_grad then y:backward() end
  return y
end

local function prediction_step(net, x) return autograd.no_grad(output, net, x) end

-- The median of the steps, in milliseconds.
local function step_ms(net, x, seconds, training)
  local times, started = {}, C.cnn_seconds()
  repeat
    local before = C.cnn_seconds()
    handle.give_back(step(training and training_step or prediction_step, net, x))
    times[#times + 1] = C.cnn_seconds() - before
  until C.cnn_seconds() - started >= seconds and #times >= WARM_UP + LEAST_STEPS
  for _ = 1, WARM_UP do table.remove(times, 1) end
  return layer_times.median(times)
end

local function measure(net, x, seconds, training)
  autograd.set_grad_enabled(true)
  local list = layer_times.measure(net, x, {
    seconds = LAYERS_SHARE * seconds, training = training,
  })
  return list, step_ms(net, x, (1 - LAYERS_SHARE) * seconds, training)
end

-- --------------------------------------------------------------------------------- the table

local function rows_of(list, whole, training)
  local rows = {}
  for i, row in ipairs(list) do
    local own = row.forward_ms and row.forward_ms + (row.backward_ms or 0)
    rows[i] = {
      path = row.name, layer = row.label, kind = row.kind, shape = row.shape, macs = row.macs,
      bytes = row.bytes, forward_ms = row.forward_ms, backward_ms = row.backward_ms,
      gflops = layer_times.rate(row), share = own and own / whole,
    }
  end
  local total = layer_times.total(list, training)
  total.gflops, total.step_ms = layer_times.rate(total), whole
  total.beyond_ms = whole - total.forward_ms - (total.backward_ms or 0)
  total.share, total.beyond = 1 - total.beyond_ms / whole, total.beyond_ms / whole
  rows.total = total
  return rows
end

local function cells(label, row)
  return {
    label, row.shape or "", text.cell("%.3f", row.forward_ms), text.cell("%.1f", row.gflops),
    text.cell("%.3f", row.backward_ms), text.cell("%.2f", row.bytes and row.bytes / 1e6),
    text.cell("%.1f %%", row.share and 100 * row.share),
  }
end

local function table_of(rows, training)
  local total = rows.total
  local lines = { {
    "layer", "output", "forward ms", "GFLOP/s", "backward ms", "MB moved", "share",
  } }
  for _, row in ipairs(rows) do lines[#lines + 1] = cells(row.path .. " " .. row.kind, row) end
  lines[#lines + 1] = cells("all layers", total)
  lines[#lines + 1] = cells("beyond them", { share = total.beyond })
  if not training then
    for _, line in ipairs(lines) do table.remove(line, 5) end
  end
  local shows = report.columns(lines, 2, { "MB moved", "output" })
  return ("%s\nthe whole %s takes %.3f ms, %.3f ms %s"):format(shows,
    training and "step" or "prediction", total.step_ms, math.abs(total.beyond_ms),
    total.beyond_ms < 0 and "less than its layers alone"
    or "of it between its layers, in the blocks")
end

--- net:profile(x, { seconds = 1, training = true, quiet = false })
-- How long each layer takes for x, alone, and the whole step; printed and returned: a list of
-- { path, layer, kind, shape, macs, bytes, forward_ms, backward_ms, gflops, share } in the order of
-- the calls, and total { step_ms, beyond_ms, forward_ms, backward_ms, ... }. gflops is of the
-- forward, a multiply-add being two; bytes are what a forward reads and writes at least: input,
-- parameters, output; shares are of the whole step, which is forward and backward without loss and
-- optimizer. The times are medians. The net is left as it was, whatever its mode.
-- Options: seconds: how long to measure; training: false for a prediction, without a backward;
--   quiet: only return the list
-- Errors: where the net does not take x, what the net itself says
-- Example: print(net:profile(x, { seconds = 0.1, quiet = true }).total.step_ms > 0) --> true
-- See: net:shapes, net:probe, cnnlua bench --layers
function profile.show(net, x, options)
  options = argument.options(WHO, options, { "seconds", "training", "quiet" })
  if not handle.is_tensor(x) or x.device == "meta" then
    err.raise(("%s(x): expected a tensor with values, got %s"):format(WHO, err.got(x)))
  end
  local seconds = argument.number(WHO, "seconds", options.seconds or SECONDS, 0)
  local training = argument.boolean(WHO, "training", options.training, true)
  local quiet = argument.boolean(WHO, "quiet", options.quiet, false)
  look.build(net, x)
  local list, whole = untouched(net, measure, net, x:detach(), seconds, training)
  local rows = rows_of(list, whole, training)
  return report.show(report.new(rows, table_of(rows, training)), quiet)
end

return profile
