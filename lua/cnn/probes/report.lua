-- report.lua - a table that is printed and returned: what net:shapes, net:probe and the like give.
--
--   report.new(rows, shows)  rows, a plain list with plain fields, which tostring turns into text
--   report.show(r, quiet)    prints it, unless quiet, and returns it
--   report.columns(lines, left, spare)   text.columns that fits the terminal, if there is one:
--                            without the columns titled `spare`, in this order, as far as needed
--   report.pass_over(...)    tables that who asked knows: printed in another way, or handed in
--   report.was_printed(r)    true once after either: the prompt need not print it again
--   report.forget()          a new input begins: what was shown before it may be printed again
--
-- Surprising: nothing is kept in the rows themselves, so ipairs, pairs and JSON see values only;
-- the text sits in a metatable that each report has for itself.

local files = require "cnn.files"
local screen = require "cnn.terminal.screen"
local text = require "cnn.text"

local report = {}

local texts = setmetatable({}, { __mode = "k" }) -- metatable of a report -> true
local shown = setmetatable({}, { __mode = "k" }) -- reports that the prompt need not print

function report.is_report(value)
  local meta = type(value) == "table" and getmetatable(value)
  return meta and texts[meta] or false
end

function report.new(rows, shows)
  local meta = { __tostring = function() return shows end }
  texts[meta] = true
  return setmetatable(rows, meta)
end

function report.show(r, quiet)
  if quiet then return r end
  print(tostring(r))
  shown[r] = true
  return r
end

-- How many of the columns are left-aligned then.
local function remove_column(lines, left, title)
  for i, name in ipairs(lines[1]) do
    if name == title then
      for _, line in ipairs(lines) do table.remove(line, i) end
      return i <= left and left - 1 or left
    end
  end
  return left
end

-- A last column without a title, of words, may go over the edge.
function report.columns(lines, left, spare)
  local room = files.is_terminal(1) and screen.columns() or math.huge
  local shows = text.columns(lines, left)
  for _, title in ipairs(spare) do
    if #shows:match "[^\n]*" <= room then break end
    left = remove_column(lines, left, title)
    shows = text.columns(lines, left)
  end
  return shows
end

-- What else the input gives, which is known already, need not be printed.
function report.pass_over(...)
  for i = 1, select("#", ...) do shown[(select(i, ...))] = true end
end

function report.was_printed(r)
  local was = type(r) == "table" and shown[r]
  if was then shown[r] = nil end
  return was or false
end

function report.forget()
  for r in pairs(shown) do shown[r] = nil end
end

return report
