-- printing.lua - what the prompt shows of a value.
--
--   printing.text(value, { width = 80, lines = 60 })     never an error, nor much more lines
--
-- Strings are quoted. Tables come with what is in them: the list, then keys in order (numbers,
-- words, others), in one line where that fits, cut where it is deep or long. A table inside of
-- itself is shown as the place where it is: <_>, <_.a[2]>. Tensors, modules and others that have a
-- text of their own print that; inside of tables it is their first line.
--
-- Surprising: tables are read raw, so looking changes nothing and calls nothing but __tostring.

local atoms = require "cnn.prompt.atoms"
local members = require "cnn.members"
local quoting = require "cnn.prompt.quoting"
local text = require "cnn.text"

local printing = {}

local WIDTH = 80
local LINES = 60            -- of a table
local TEXT_LINES = 100      -- of a value that has a text of its own
local NARROWEST = 20
local DEEPEST = 6
local MOST_ITEMS = 100      -- of a list, and as many keys
local MOST_SORTED = 5000    -- keys at once
local MOST_COUNTED = 2 ^ 20 -- keys; beyond, nobody wants to know
local PACKED = 24           -- columns: shorter items of a list share a line
local STRING_LINES = 10     -- of a string alone

-- ------------------------------------------------------------------------------------------- keys

local ranks = { number = 1, string = 2, boolean = 3 }

local function comes_before(a, b)
  local kind_a, kind_b = type(a), type(b)
  local rank_a, rank_b = ranks[kind_a] or 4, ranks[kind_b] or 4
  if rank_a ~= rank_b then return rank_a < rank_b end
  if rank_a <= 2 then return a < b end
  if rank_a == 3 then return a and not b end
  return kind_a < kind_b
end

-- The first of the keys beyond 1 ... n, in order, and how many there are. Of very many the last are
-- dropped on the way, and none that comes after them is taken in.
local function keys_of(t, n)
  local keys, count, bound = {}, 0, nil
  for key in next, t do
    if type(key) ~= "number" or key < 1 or key > n or key % 1 ~= 0 then
      count = count + 1
      if bound == nil or comes_before(key, bound) then keys[#keys + 1] = key end
      if #keys == MOST_SORTED then
        table.sort(keys, comes_before)
        for i = MOST_SORTED, MOST_ITEMS + 1, -1 do keys[i] = nil end
        bound = keys[MOST_ITEMS]
      end
      if count == MOST_COUNTED then break end
    end
  end
  table.sort(keys, comes_before)
  return keys, count
end

local function has_more_than(t, most)
  local count = 0
  for _ in next, t do
    count = count + 1
    if count > most then return true end
  end
  return #t > most
end

-- "a = " or "[3] = ", and the place of that field in a path.
local function key_texts(key)
  local name = atoms.key(key)
  return name .. " = ", name:sub(1, 1) == "[" and name or "." .. name
end

-- ---------------------------------------------------------------------------------------- printer

-- lines, row: what there is so far; open: the tables around -> their paths; texts: what tables say
-- of themselves, asked once.
local Printer = {}
Printer.__index = Printer

function Printer:atom(value, room)
  if type(value) ~= "table" then return atoms.text(value, room) end
  if self.texts[value] == nil then self.texts[value] = atoms.text(value, room) or false end
  return self.texts[value]
end

function Printer:enter(t, path)
  self.open[t] = path
  self.depth = self.depth + 1
end

function Printer:leave(t)
  self.open[t] = nil
  self.depth = self.depth - 1
end

-- ------------------------------------------------------------------------------------ in one line

-- The fields of a table in `room` columns, or nil.
function Printer:fields(t, path, room)
  local n, parts = #t, {}
  local function add(prefix, value, place)
    room = room - quoting.columns(prefix) - 2
    local one = self:short(value, path .. place, room)
    if not one then return false end
    parts[#parts + 1] = prefix .. one
    room = room - quoting.columns(one)
    return true
  end
  for i = 1, n do
    if not add("", rawget(t, i), "[" .. i .. "]") then return nil end
  end
  for _, key in ipairs((keys_of(t, n))) do
    local prefix, place = key_texts(key)
    if not add(prefix, rawget(t, key), place) then return nil end
  end
  return table.concat(parts, ", ")
end

-- A table in one line, or nil. Each field takes two columns and more, so one with more fields than
-- that is not even looked at.
function Printer:short_table(t, path, room)
  if next(t) == nil then return "{}" end
  if self.depth > DEEPEST then return "{ ... }" end
  if has_more_than(t, room / 2) then return nil end
  self:enter(t, path)
  local fields = self:fields(t, path, room - 2)
  self:leave(t)
  return fields and "{ " .. fields .. " }"
end

-- A value in one line of `room` columns, or nil.
function Printer:short(value, path, room)
  if room <= 0 then return nil end
  local one = self.open[value] and "<" .. self.open[value] .. ">" or self:atom(value, self.width)
  one = one or self:short_table(value, path, room)
  return one and quoting.columns(one) <= room and one or nil
end

-- ------------------------------------------------------------------------------ over several lines

function Printer:add(indent, line) self.lines[#self.lines + 1] = (" "):rep(indent) .. line end

-- Short items share a line, the row.
function Printer:pack(indent, one)
  if indent + quoting.columns(self.row .. one) >= self.width then self:flush(indent) end
  self.row = self.row .. one .. ", "
end

function Printer:flush(indent)
  if self.row ~= "" then self:add(indent, (self.row:gsub(" $", ""))) end
  self.row = ""
end

-- One field with its comma. packed: the columns up to which it goes into the row.
function Printer:put(indent, prefix, value, path, last, packed)
  local taken = quoting.columns(prefix)
  local room = self.width - indent - taken - 1
  local one = self:short(value, path, math.min(packed - taken, room))
  if one then return self:pack(indent, prefix .. one) end
  self:flush(indent)
  one = self:short(value, path, room)
  if not one and type(value) == "table" and not self:atom(value, room) then
    return self:add_table(indent, prefix, value, path, last)
  end
  self:add(indent, prefix .. (one or atoms.text(value, math.max(8, room))) .. ",")
end

-- Whether item i of n is too many; the last one takes no more place than the words for it.
function Printer:is_full(i, n, last)
  return (#self.lines >= last or i > MOST_ITEMS) and i < n
end

function Printer:add_more(indent, count, words)
  self:flush(indent)
  self:add(indent, ("... %s%s more"):format(words or "", text.commas(count)))
end

function Printer:add_list(t, n, path, indent, last)
  for i = 1, n do
    if self:is_full(i, n, last) then return self:add_more(indent, n - i + 1) end
    self:put(indent, "", rawget(t, i), ("%s[%d]"):format(path, i), last, PACKED)
  end
  self:flush(indent)
end

-- Those of the outermost table have a line each.
function Printer:add_keys(t, keys, count, path, indent, last)
  for i, key in ipairs(keys) do
    if self:is_full(i, count, last) then
      return self:add_more(indent, count - i + 1, count == MOST_COUNTED and "more than ")
    end
    local prefix, place = key_texts(key)
    local packed = self.depth > 1 and self.width or 0
    self:put(indent, prefix, rawget(t, key), path .. place, last, packed)
  end
  self:flush(indent)
end

-- A table inside of others gets a third of the lines that are left, a list before keys two thirds.
function Printer:add_table(indent, prefix, t, path, last)
  local at, ending = #self.lines + 1, self.depth > 0 and "," or ""
  if at >= last then return self:add(indent, prefix .. "{ ... }" .. ending) end
  self:add(indent, prefix .. "{")
  self:enter(t, path)
  local share = self.depth > 1 and math.max(4, math.floor((last - at) / 3)) or last - at
  last = math.min(last, at + share)
  local n = #t
  local keys, count = keys_of(t, n)
  self:add_list(t, n, path, indent + 2, count > 0 and at + math.ceil(share * 2 / 3) or last)
  self:add_keys(t, keys, count, path, indent + 2, last)
  self:leave(t)
  self:add(indent, "}" .. ending)
end

-- -------------------------------------------------------------------------------------- the whole

local function lay_out(t, width, most)
  local printer = setmetatable({
    width = width, lines = {}, row = "", open = {}, texts = {}, depth = 0,
  }, Printer)
  local one = printer:short_table(t, "_", width)
  if one then return one end
  printer:add_table(0, "", t, "_", most - 4)
  return table.concat(printer.lines, "\n")
end

-- The lines of a text in the width of some, as far as `most`; and how many there are.
local function lines_of(said, width, most)
  local lines, at = {}, 1
  while at <= #said and #lines < most do
    local stop = said:find("\n", at, true) or #said + 1
    local line = said:sub(at, math.min(stop - 1, at + 4 * width)):gsub("\r$", "")
    lines[#lines + 1] = quoting.visible(line)
    at = stop + 1
  end
  local _, more = said:sub(at):gsub("\n", "")
  return lines, #lines + (at <= #said and more + 1 or 0)
end

-- Of a net's tree those that are not deeper inside than fits, two columns a step.
local function upper_lines(lines, most)
  local kept
  for depth = 16, 1, -1 do
    kept = {}
    for _, line in ipairs(lines) do
      if #line:match "^ *" <= 2 * depth then kept[#kept + 1] = line end
    end
    if #kept <= most then break end
  end
  return kept
end

local function cut_lines(said, width, most, is_tree)
  local lines, count = lines_of(said, width, is_tree and MOST_SORTED or most)
  if count <= most then return table.concat(lines, "\n") end
  if is_tree then lines = upper_lines(lines, most - 1) end
  for i = #lines, most, -1 do lines[i] = nil end
  lines[#lines + 1] = ("... %s more lines: print(_) shows all"):format(text.commas(count - #lines))
  return table.concat(lines, "\n")
end

local speaks = { table = true, cdata = true, userdata = true }

local function shown(value, width, most)
  local kind = type(value)
  if kind == "string" then return atoms.text(value, STRING_LINES * width) end
  local said, problem
  if speaks[kind] then said, problem = atoms.own(value, true) end
  if said then
    return cut_lines(said, width, most or TEXT_LINES, members.is_module(value))
  end
  if kind ~= "table" then return atoms.text(value, width) end
  local laid = lay_out(value, width, most or LINES)
  return problem and ("%s\n(%s)"):format(laid, quoting.visible(problem)) or laid
end

function printing.text(value, options)
  options = options or {}
  local width = math.max(NARROWEST, options.width or WIDTH)
  local ok, said = pcall(shown, value, width, options.lines)
  return ok and said or "a " .. type(value) .. " that cannot be shown: " .. tostring(said)
end

return printing
