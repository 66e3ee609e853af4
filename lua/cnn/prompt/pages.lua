-- pages.lua - help as text: an entry, rows of names, wrapped to the terminal's width.
--
--   pages.entry(entry, width)          signature, text, and each field under its label
--   pages.rows({ { name, text }, ... }, width)       a line each, cut where it is too long
--   pages.wrap(text, width, first, rest)             lines that begin with `first`, then `rest`
--   pages.summary(entry)               the first sentence
--
-- Surprising: in a narrow terminal labels and names get lines of their own, so that there is room
-- for the words; a single word that is longer than the line is not broken.

local docs = require "cnn.prompt.docs"

local pages = {}

local INDENT = 2
local LABEL = 9   -- columns of "Example" and what separates it from the text
local NARROW = 50 -- columns; below, names and labels stand above their text

local function blank(n) return (" "):rep(n) end

function pages.wrap(text, width, first, rest)
  local lines, line, empty = {}, first, true
  for word in text:gmatch "%S+" do
    if not empty and #line + 1 + #word > width then
      lines[#lines + 1], line, empty = line, rest, true
    end
    line, empty = line .. (empty and "" or " ") .. word, false
  end
  lines[#lines + 1] = line
  return lines
end

local function add_all(lines, more)
  for _, line in ipairs(more) do lines[#lines + 1] = line end
end

-- Broken at commas where that does. What follows begins under the first argument, if there is room.
local function signature_lines(signature, width)
  local open = signature:find("[({]") or 0
  local under = open <= width / 3 and open or 2 * INDENT
  local lines = {}
  for _, line in ipairs(pages.wrap(signature:gsub("([^,]) ", "%1\1"), width, "", blank(under))) do
    local indent = line:match "^ *"
    line = line:gsub("\1", " ")
    add_all(lines, #line <= width and { line } or pages.wrap(line, width, indent, blank(under)))
  end
  return lines
end

-- ----------------------------------------------------------------------------------------- fields

-- An example stays as it was typed; a line that is too long goes on further in.
local function example_lines(example, width)
  local lines = {}
  for line in (example .. "\n"):gmatch "(.-)\n" do
    local indent = line:match "^%s*"
    add_all(lines, pages.wrap(line, width, indent, indent .. blank(INDENT)))
  end
  return lines
end

-- Names with their defaults, and beside or below them what they are about. A default that is too
-- long for its column is in the signature.
local function option_lines(entry, width)
  local lines, heads, column = {}, {}, 0
  for i, option in ipairs(entry.options) do
    heads[i] = option.name .. (option.default and " = " .. option.default or "")
    if #heads[i] > width / 2 then heads[i] = option.name end
    if option.text then column = math.max(column, #heads[i] + INDENT) end
  end
  local below = width < NARROW - LABEL
  for i, option in ipairs(entry.options) do
    if option.text and below then
      add_all(lines, { heads[i] })
      add_all(lines, pages.wrap(option.text, width, blank(INDENT), blank(INDENT)))
    elseif option.text then
      local head = heads[i] .. blank(column - #heads[i])
      add_all(lines, pages.wrap(option.text, width, head, blank(column)))
    end
  end
  return lines
end

local function field_lines(entry, name, width)
  if name == "Example" then return example_lines(entry.fields[name], width) end
  local lines = pages.wrap(entry.fields[name], width, "", "")
  if lines[1] == "" then lines[1] = nil end
  if name == "Options" then add_all(lines, option_lines(entry, width)) end
  return lines
end

local function add_field(lines, entry, name, width)
  local left = INDENT + (width < NARROW and INDENT or LABEL)
  local label = blank(INDENT) .. name
  if width < NARROW then
    lines[#lines + 1] = label
    label = ""
  end
  for _, line in ipairs(field_lines(entry, name, width - left)) do
    lines[#lines + 1] = label .. blank(left - #label) .. line
    label = ""
  end
end

function pages.entry(entry, width)
  local lines = signature_lines(entry.signature, width)
  if entry.text ~= "" then
    add_all(lines, pages.wrap(entry.text, width, blank(INDENT), blank(INDENT)))
  end
  for _, name in ipairs(docs.fields) do
    if entry.fields[name] then add_field(lines, entry, name, width) end
  end
  return table.concat(lines, "\n")
end

-- ------------------------------------------------------------------------------------------- rows

-- Texts under labels that may be "": { { "build", "net = ..." }, ... }.
function pages.labelled(rows, width)
  local lines = {}
  for _, row in ipairs(rows) do
    local label, left = blank(INDENT) .. row[1], INDENT + LABEL
    if width < NARROW then left = 2 * INDENT end
    if width < NARROW and row[1] ~= "" then
      lines[#lines + 1] = label
      label = ""
    end
    local first = label .. blank(left - #label)
    add_all(lines, pages.wrap(row[2], width, first, blank(left + INDENT)))
  end
  return table.concat(lines, "\n")
end

function pages.summary(entry)
  return entry.text:match "^(.-)%.%s" or (entry.text:gsub("%.$", ""))
end

-- In one line: what is too long ends at a comma or the like, or else anywhere.
local function cut(text, width)
  if #text <= width then return text end
  local part = text:sub(1, width):match "^([^{(]*%S)[,;:] "
  if part and #part > width / 4 then return part end
  return (text:sub(1, width - 4):gsub("%s+%S*$", "")) .. " ..."
end

function pages.rows(rows, width)
  local lines, column = {}, 0
  for _, row in ipairs(rows) do column = math.max(column, #row[1]) end
  for _, row in ipairs(rows) do
    local name, text = unpack(row)
    if width < NARROW then
      lines[#lines + 1] = name
      add_all(lines, pages.wrap(text, width, blank(INDENT), blank(INDENT)))
    else
      local left = name .. blank(column + INDENT - #name)
      lines[#lines + 1] = left .. cut(text, width - #left)
    end
  end
  return table.concat(lines, "\n")
end

return pages
