-- text.lua - values and numbers as short text, for messages, summaries and printed nets.

local err = require "cnn.error"

local text = {}

-- 46764746 -> "46,764,746"
function text.commas(n)
  local reversed = ("%.0f"):format(n):reverse():gsub("(%d%d%d)", "%1,")
  return (reversed:reverse():gsub("^,", ""))
end

-- counted(1, "value") -> "1 value", counted(1024, "value") -> "1,024 values"; where an s will not
-- do: counted(2, "value is", "values are")
function text.counted(n, one, many)
  return text.commas(n) .. " " .. (n == 1 and one or many or one .. "s")
end

-- A dotted name as one writes it in Lua: path("net", "b1.2") -> "net.b1[2]", path("", "b1.2") ->
-- "b1[2]".
function text.path(root, name)
  if name == "" then return root end
  local path = ("." .. name):gsub("%.(%d+)", "[%1]")
  return root == "" and path:gsub("^%.", "") or root .. path
end

-- The same of every module of a net: module -> path. Without a root, "" is the net's own.
function text.paths(root, net)
  local paths = {}
  for name, node in net:named_modules() do paths[node] = text.path(root, name) end
  return paths
end

local function is_name(key) return type(key) == "string" and key:match("^[%a_][%w_]*$") end

local function by_name(a, b) return tostring(a) < tostring(b) end

-- A table of scalars as a constructor: { 1, 2, stride = 4 }; anything deeper is { ... }.
local function table_text(value)
  local parts, keys = {}, {}
  for i = 1, #value do parts[i] = text.value(value[i], true) end
  for key in pairs(value) do
    if type(key) ~= "number" then keys[#keys + 1] = key end
  end
  table.sort(keys, by_name)
  for _, key in ipairs(keys) do
    local name = is_name(key) and key or "[" .. text.value(key, true) .. "]"
    parts[#parts + 1] = name .. " = " .. text.value(value[key], true)
  end
  if #parts == 0 then return "{}" end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

function text.value(value, inner)
  local kind = type(value)
  if kind == "number" then return ("%.14g"):format(value) end
  if kind == "string" then return ("'%s'"):format(value) end
  if kind == "nil" or kind == "boolean" then return tostring(value) end
  if kind == "cdata" then return err.got(value) end
  if kind ~= "table" then return kind end
  if value.describe then return value:describe() end
  if getmetatable(value) then return tostring(value) end
  return inner and "{ ... }" or table_text(value)
end

-- The first few of a list of words: "a, b, c, d and 9 more".
function text.some(words, most)
  most = most or 4
  local shown = table.concat(words, ", ", 1, math.min(#words, most))
  if #words <= most then return shown end
  return ("%s and %d more"):format(shown, #words - most)
end

-- "" of nil.
function text.cell(format, value) return value and format:format(value) or "" end

-- Rows of cells as lines of text, columns under one another: the first `left` begin in line, the
-- others, numbers, end in line.
function text.columns(rows, left)
  local widths, lines = {}, {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do widths[i] = math.max(widths[i] or 0, #cell) end
  end
  for r, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      local blank = (" "):rep(widths[i] - #cell)
      cells[i] = i <= left and cell .. blank or blank .. cell
    end
    lines[r] = table.concat(cells, " | "):gsub("%s+$", "")
  end
  return table.concat(lines, "\n")
end

-- The arguments of a call: "3, 6, { use_1x1conv = true }"; cut when it gets long.
function text.arguments(...)
  local n, parts = select("#", ...), {}
  while n > 0 and (select(n, ...)) == nil do n = n - 1 end
  for i = 1, n do parts[i] = text.value((select(i, ...))) end
  local line = table.concat(parts, ", ")
  return #line <= 72 and line or line:sub(1, 69) .. "..."
end

return text
