-- format.lua - a tensor as text: what print(x) shows.
--
--   f32[2x3] cpu                                  small: every value
--   f32[4x3x6x6] cpu, min -2.3, mean 0.01, max 2.5   large: the range and a corner
--
-- Surprising: printing runs ops (narrow, min, mean, max), so gradients are switched off around it.

local ffi = require "ffi"
local engine = require "cnn.ffi"
local bind = require "cnn.bind"

local C, ops = engine.C, bind.ops

local WHOLE = 128             -- as many values are shown in full
local ROWS, COLUMNS = 6, 8    -- of a corner
local WIDEST = 16             -- columns of a tensor that is shown in full

local function number(v)
  if v ~= v then return "nan" end
  if v % 1 == 0 and math.abs(v) < 1e7 then return ("%d"):format(v) end
  return ("%.4g"):format(v)
end

-- Rows of texts, each column aligned to the right; `more` marks rows that were cut.
local function align(rows, more_columns, more_rows)
  local width = 1
  for _, row in ipairs(rows) do
    for _, text in ipairs(row) do width = math.max(width, #text) end
  end
  local lines = {}
  for i, row in ipairs(rows) do
    local cells = {}
    for j, text in ipairs(row) do cells[j] = (" "):rep(width - #text) .. text end
    lines[i] = "  " .. table.concat(cells, " ") .. (more_columns and " ..." or "")
  end
  if more_rows then lines[#lines + 1] = "  ..." end
  return table.concat(lines, "\n")
end

-- The first `rows` by `columns` of a tensor with one or two axes.
local function matrix(x, rows, columns)
  if x:dim() == 1 then x = ops.unsqueeze(x, 1) end
  local h, w = x:size(1), x:size(2)
  local corner = ops.narrow(ops.narrow(x, 1, 1, math.min(h, rows)), 2, 1, math.min(w, columns))
  local texts = corner:totable()
  for _, row in ipairs(texts) do
    for j, v in ipairs(row) do row[j] = number(v) end
  end
  return align(texts, w > columns, h > rows)
end

-- Every matrix of a small tensor with more than two axes, under its index.
local function all_matrices(x, prefix, lines)
  if x:dim() <= 2 then
    lines[#lines + 1] = "  x" .. prefix
    lines[#lines + 1] = matrix(x, WHOLE, WHOLE)
    return
  end
  for i = 1, x:size(1) do
    all_matrices(ops.select(x, 1, i), ("%s[%d]"):format(prefix, i), lines)
  end
end

local function head(x)
  local shape = x:dim() == 0 and "" or tostring(x:shape())
  local text = ("%s[%s] %s"):format(x.dtype, shape, x.device)
  return x.requires_grad and text .. ", requires grad" or text
end

local function body(x)
  local count, dims = x:numel(), x:dim()
  if count == 0 or x.device == "meta" then return "" end
  if dims == 0 then return ": " .. number(x:item()) end
  if count <= WHOLE and x:size(dims) <= WIDEST then
    if dims <= 2 then return "\n" .. matrix(x, WHOLE, WIDEST) end
    local lines = {}
    all_matrices(x, "", lines)
    return "\n" .. table.concat(lines, "\n")
  end
  local range = (", min %s, mean %s, max %s"):format(number(ops.min(x):item()),
    number(ops.mean(x):item()), number(ops.max(x):item()))
  local label = ""
  while x:dim() > 2 do
    x, label = ops.select(x, 1, 1), label .. "[1]"
  end
  return range .. (label ~= "" and "\n  x" .. label or "") .. "\n" .. matrix(x, ROWS, COLUMNS)
end

local function render(x) return head(x) .. body(x) end

local format = { head = head }

function format.text(x)
  if C.cnn_alive(x) == 0 then return "a tensor that was given back when its step ended" end
  local was = C.cnn_set_grad_enabled(0)
  local ok, text = pcall(render, x)
  C.cnn_set_grad_enabled(was)
  if ok then return text end
  return ("%s: %s"):format(head(x), ok == false and tostring(text) or ffi.string(C.cnn_error()))
end

return format
