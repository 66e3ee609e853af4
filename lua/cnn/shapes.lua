-- shapes.lua - net:shapes{1, 1, 224, 224}: what each layer gives, has and costs.
--
--   layer | output shape | parameters | MACs | activation bytes
--
-- shapes.show(net, x, { depth = 2, quiet = false }) prints the table and returns it: a list of rows
-- { path, layer, depth, shape, parameters, macs, bytes } and a field `total`. x is a tensor or a
-- list of sizes. MACs are of the whole batch; bytes are those of the outputs of layers that have no
-- layers inside, with the precision in force: 4 an element, or 2 where it is bf16.
--
-- Surprising: nothing is computed, the input is on the device "meta". If the net fails, the rows up
-- to the failing layer are printed before the error goes on.

local engine = require "cnn.ffi"
local argument = require "cnn.argument"
local autograd = require "cnn.autograd"
local calls = require "cnn.calls"
local create = require "cnn.create"
local err = require "cnn.error"
local handle = require "cnn.handle"
local members = require "cnn.members"
local report = require "cnn.probes.report"
local text = require "cnn.text"
local untouched = require "cnn.probes.untouched"

local C = engine.C

local shapes = {}

local element_bytes = { f32 = 4, i32 = 4, bf16 = 2, u8 = 1 }

local function meta_input(who, x)
  if handle.is_tensor(x) then return x.device == "meta" and x or x:detach():to("meta") end
  if type(x) ~= "table" or #x == 0 then
    err.raise(who .. ": expected sizes such as {1, 1, 224, 224} or a tensor, got " .. err.got(x))
  end
  return create.zeros(x, { device = "meta" })
end

-- An observer that fills rows, and those rows.
local function recorder(net)
  local rows, open, names, macs = {}, {}, text.paths("", net), 0

  local function count_macs()
    macs = macs + tonumber(C.cnn_macs())
    return macs
  end

  local observer = {}

  function observer.enter(node, depth)
    local row = {
      path = names[node] or node.kind, layer = node:describe(), depth = depth - 1,
      macs = count_macs(), bytes = 0, node = node, leaf = true,
    }
    rows[#rows + 1] = row
    open[depth] = row
    if depth > 1 then open[depth - 1].leaf = false end
  end

  function observer.leave(node, depth, y)
    local row = open[depth]
    row.layer = node:describe() -- a size that was nil is known now
    row.macs = count_macs() - row.macs
    row.parameters = members.count(node)
    row.done = true
    if handle.is_tensor(y) then
      row.shape = tostring(y:shape())
      if row.leaf then row.bytes = element_bytes[y.dtype] * y:numel() end
    end
    if depth > 1 then open[depth - 1].bytes = open[depth - 1].bytes + row.bytes end
  end

  return observer, rows
end

local function table_of(rows, total, depth)
  local lines = { { "layer", "output shape", "parameters", "MACs", "activation bytes" } }
  for _, row in ipairs(rows) do
    if row.depth >= 1 and (row.depth <= depth or not row.done) or #rows == 1 then
      local label = ("  "):rep(row.depth - 1) .. row.path .. " " .. row.layer
      lines[#lines + 1] = row.done and {
        label, row.shape or "", text.commas(row.parameters), text.commas(row.macs),
        text.commas(row.bytes),
      } or { label, row.leaf and "fails" or "", "", "", "" }
    end
  end
  if total then
    lines[#lines + 1] = { "total", total.shape or "", text.commas(total.parameters),
      text.commas(total.macs), text.commas(total.bytes) }
  end
  return text.columns(lines, 2)
end

local function pass(net, input, observer)
  C.cnn_macs()
  net:eval()
  calls.observe(observer, calls.call, net, input)
end

--- net:shapes(x, { depth = 2, quiet = false })
-- Prints a table, layer by layer, of output shape, parameters, multiply-adds and activation bytes,
-- and returns it: rows[i].path, .layer, .shape, .parameters, .macs, .bytes; rows.total. Nothing is
-- computed; sizes that were left open are found.
-- Shapes: x: sizes such as { 1, 1, 224, 224 }, or a tensor
-- Options: depth: how deep blocks are opened; quiet: print nothing
-- Errors: where the net fails, the rows up to the failing layer are printed and the layer is named
-- Example: net:shapes({ 1, 1, 16, 16 }, { quiet = true }).total.shape --> "1x10"
-- See: net:profile, net:find, cnnlua shapes
function shapes.show(net, x, options)
  local who = "net:shapes"
  options = argument.options(who, options, { "depth", "quiet" })
  local depth = argument.whole(who, "depth", options.depth or 2, 1)
  local input = meta_input(who, x)
  local observer, rows = recorder(net)
  local ok, message = pcall(untouched, net, autograd.no_grad, pass, net, input, observer)
  local total = ok and rows[1] or nil
  local lines = table_of(rows, total, depth)
  if not ok then
    if not options.quiet then print(lines) end
    error(message, 0)
  end
  for _, row in ipairs(rows) do row.node, row.leaf, row.done = nil, nil, nil end
  if #rows > 1 then table.remove(rows, 1) end
  rows.total = total
  return report.show(report.new(rows, lines), options.quiet)
end

return shapes
