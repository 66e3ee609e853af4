-- report.lua - a table that is printed and returned: what net:shapes, net:probe and the like give.
--
--   report.new(rows, text)   rows, a plain list with plain fields, which tostring turns into text
--   report.show(r, quiet)    prints it, unless quiet, and returns it
--   report.pass_over(...)    tables that who asked knows: printed in another way, or handed in
--   report.was_printed(r)    true once after either: the prompt need not print it again
--   report.forget()          a new input begins: what was shown before it may be printed again
--
-- Surprising: nothing is kept in the rows themselves, so ipairs, pairs and JSON see values only;
-- the text sits in a metatable that each report has for itself.

local report = {}

local texts = setmetatable({}, { __mode = "k" }) -- metatable of a report -> true
local shown = setmetatable({}, { __mode = "k" }) -- reports that the prompt need not print

function report.is_report(value)
  local meta = type(value) == "table" and getmetatable(value)
  return meta and texts[meta] or false
end

function report.new(rows, text)
  local meta = { __tostring = function() return text end }
  texts[meta] = true
  return setmetatable(rows, meta)
end

function report.show(r, quiet)
  if quiet then return r end
  print(tostring(r))
  shown[r] = true
  return r
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
