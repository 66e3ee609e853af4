-- probe.lua - net:probe(x): what each layer gives, in numbers, and what is wrong with it in words.
--
-- A row is made for each call of a module that outputs.lua visits. What the columns mean is said in
-- statistics.lua; the words and their bounds are in marks.lua.
--
-- Surprising: the net runs in the mode it is in, for in training batch norm and dropout do other
-- things than in prediction; untouched.lua takes back what that changes.

local argument = require "cnn.argument"
local autograd = require "cnn.autograd"
local calls = require "cnn.calls"
local err = require "cnn.error"
local handle = require "cnn.handle"
local look = require "cnn.probes.look"
local marks = require "cnn.probes.marks"
local members = require "cnn.members"
local outputs = require "cnn.probes.outputs"
local report = require "cnn.probes.report"
local statistics = require "cnn.probes.statistics"
local text = require "cnn.text"
local untouched = require "cnn.probes.untouched"

local probe = {}

local WHO = "net:probe"

-- ----------------------------------------------------------------------------------- the pass

-- The norm of the gradient of the parameters that a module holds itself; nil where none has one.
local function gradient_norm(node)
  local squares
  members.each(node, function(_, value, kind)
    local gradient = kind == "parameter" and statistics.gradient(value)
    if gradient then squares = (squares or 0) + statistics.norm(gradient) ^ 2 end
  end)
  return squares and math.sqrt(squares)
end

-- Of each module.
local function gradient_norms(net)
  local norms = {}
  for _, node in net:named_modules() do norms[node] = gradient_norm(node) end
  return norms
end

-- An observer that fills rows, and those rows. `inputs` has the statistics of each row's input.
local function recorder(net)
  local paths, rows, inputs = text.paths("", net), {}, {}
  local known = setmetatable({}, { __mode = "k" }) -- tensor -> its statistics

  local function statistics_of(x)
    if not handle.is_tensor(x) then return {} end
    known[x] = known[x] or statistics.of(x) or {}
    return known[x]
  end

  local function visit(node, y, x, input)
    local path = paths[node]
    local row = {
      path = path == "" and "net" or path or node.kind, layer = node:describe(), module = node,
    }
    for key, value in pairs(statistics_of(y)) do row[key] = value end
    if rawequal(x, y) then row.saturated, row.dead = nil, nil end -- the one before is to blame
    if handle.is_tensor(y) then row.shape = tostring(y:shape()) end
    rows[#rows + 1] = row
    inputs[row] = input
  end

  return outputs(visit, statistics_of), rows, inputs
end

local function loss_of(y, options)
  local criterion = options.loss or require("cnn.nn").CrossEntropyLoss()
  local loss = err.call(criterion, y, options.labels)
  if handle.is_tensor(loss) then return loss end
  err.raise(("%s: loss: expected it to return a tensor, got %s"):format(WHO, err.got(loss)))
end

-- Fills in the observer's rows; with a loss, its value and the norms of its gradients.
local function pass(net, x, options, observer)
  local backward = options.labels ~= nil or options.loss ~= nil
  autograd.set_grad_enabled(backward)
  local y = calls.observe(observer, calls.call, net, x)
  if not backward then return nil end
  local loss = loss_of(y, options)
  loss:backward()
  return loss:item(), gradient_norms(net)
end

-- ----------------------------------------------------------------------------------- the table

local function number(value) return text.cell("%.3g", value) end

-- What a batch norm leaves of a mean is rounding: less than f32 tells apart at that size is 0.
local function mean_text(row)
  if row.mean and math.abs(row.mean) < 2 ^ -20 * row.rms then return "0" end
  return number(row.mean)
end

local function share(value)
  if not value or value == 0 then return "" end
  return value < 0.001 and "<0.1 %" or ("%.1f %%"):format(100 * value)
end

local columns = {
  { "layer", function(row) return row.path .. (row.module and " " .. row.module.kind or "") end },
  { "output", function(row) return row.shape or "" end },
  { "mean", mean_text },
  { "std", function(row) return number(row.std) end },
  { "min", function(row) return number(row.min) end },
  { "max", function(row) return number(row.max) end },
  { "zeros", function(row) return share(row.zeros) end },
  { "saturated", function(row) return share(row.saturated) end },
  { "not finite", function(row) return share(row.non_finite) end },
  { "gradient", function(row) return number(row.gradient) end },
  { "", function(row) return row.marks or "" end },
}

-- The cells of a column, its title first; nil where it has nothing to say.
local function cells_of(column, rows)
  local cells, longest = { column[1] }, 0
  for i, row in ipairs(rows) do
    cells[i + 1] = column[2](row)
    longest = math.max(longest, #cells[i + 1])
  end
  if longest == 0 then return nil end
  if column[1] == "" then -- words, which begin in line
    for i, cell in ipairs(cells) do cells[i] = cell .. (" "):rep(longest - #cell) end
  end
  return cells
end

local function table_of(rows, input)
  local shown, lines = { input }, { {}, {} }
  for i, row in ipairs(rows) do shown[i + 1], lines[i + 2] = row, {} end
  for _, column in ipairs(columns) do
    for i, cell in ipairs(cells_of(column, shown) or {}) do table.insert(lines[i], cell) end
  end
  return report.columns(lines, 2, { "output", "std", "min" })
end

-- Gradients and words, once all rows are there.
local function complete(rows, inputs, norms)
  local largest = 0
  for _, norm in pairs(norms) do
    if norm - norm == 0 then largest = math.max(largest, norm) end
  end
  for _, row in ipairs(rows) do
    row.gradient = norms[row.module]
    row.marks = marks.of(row, inputs[row], largest)
  end
end

local function check(x, options)
  if not handle.is_tensor(x) then
    err.raise(("%s(x): expected a tensor, got %s"):format(WHO, err.got(x)))
  end
  if x.device == "meta" then
    err.raise(WHO .. "(x): expected values, got a tensor on the device meta (net:shapes takes it)")
  end
  if options.labels ~= nil and not handle.is_tensor(options.labels) then
    err.raise(("%s: labels: expected a tensor, got %s"):format(WHO, err.got(options.labels)))
  end
  local loss = options.loss
  if loss ~= nil and type(loss) ~= "function" and not members.is_module(loss) then
    err.raise(("%s: loss: expected a function or a layer, got %s"):format(WHO, err.got(loss)))
  end
  return argument.boolean(WHO, "quiet", options.quiet, false)
end

--- net:probe(x, { labels = nil, loss = nn.CrossEntropyLoss(), quiet = false })
-- What each layer gives for x, printed and returned: a list of { path, layer, module, shape, mean,
-- std, rms, min, max, zeros, saturated, non_finite, dead, gradient, marks }, in the order of the
-- calls, and fields input (of x itself) and loss. Shares go from 0 to 1; mean to max are of the
-- finite values; saturated is for sigmoid and tanh, dead (of the channels) for relu. gradient is
-- the norm that a backward left in the layer's own parameters; with labels or a loss, that of a
-- backward on the way. marks says in words what is wrong: dead, saturated, exploding, vanishing,
-- not finite and the like. The net runs in the mode it is in, and is left as it was.
-- Shapes: x: whatever the net takes; labels: N class indices
-- Options: labels: runs a backward, too, and forgets its gradients; loss: a function or layer,
--   called with the net's output and the labels; quiet: only return the list
-- Errors: where the net fails, the rows up to there are printed before the error goes on
-- Example: net:probe(x, { labels = y })
-- See: net:shapes, net:profile, net:tap
function probe.show(net, x, options)
  options = argument.options(WHO, options, { "labels", "loss", "quiet" })
  local quiet = check(x, options)
  look.build(net, x)
  local observer, rows, inputs = recorder(net)
  local before = gradient_norms(net)
  x = x:detach()
  local input = statistics.of(x)
  input.path, input.shape = "input", tostring(x:shape())
  local ok, loss, norms = err.pcall(untouched, net, pass, net, x, options, observer)
  complete(rows, inputs, ok and norms or before)
  local lines = table_of(rows, input)
  if not ok then
    if not quiet then print(lines) end
    error(loss, 0)
  end
  rows.input, rows.loss = input, loss
  lines = ("%s\nin %s mode%s"):format(lines, net.training and "training" or "prediction",
    loss and (", loss %.6g"):format(loss) or "")
  return report.show(report.new(rows, lines), quiet)
end

return probe
