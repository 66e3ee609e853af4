-- things.lua - what a name of the prompt's stands for, as help shows it.
--
--   things.find(environment, "net.b3")    { heading, entry, place, list, more } or nil
--
-- heading is a line on the value; entry what docs.lua has of it or what its own file says, place
-- where that is; list the receiver whose members are few ("opt"), more the name of a longer list.
-- Parts may be missing.
--
-- Surprising: nothing of the user's runs for it. A function is described by the names of its
-- parameters and by the comment above it in the file that it came from, as the file is now; a
-- docstring there reads as the library's own do.

local docs = require "cnn.prompt.docs"
local expression = require "cnn.prompt.expression"
local files = require "cnn.files"
local format = require "cnn.format"
local handle = require "cnn.handle"
local members = require "cnn.members"
local parameters = require "cnn.prompt.parameters"
local text = require "cnn.text"
local values = require "cnn.prompt.values"

local things = {}

-- --------------------------------------------------------------------------------------- comments

local function lines_of(file)
  local lines = {}
  for line in ((files.read(file) or "") .. "\n"):gmatch "(.-)\n" do lines[#lines + 1] = line end
  return lines
end

-- The comment that ends above line `last` of a file, or nil.
local function comment_above(file, last)
  local lines, comment = lines_of(file), {}
  for i = last - 1, 1, -1 do
    local line = lines[i] and lines[i]:match "^%s*(%-%-.*)$"
    if not line then break end
    table.insert(comment, 1, line)
  end
  return #comment > 0 and comment or nil
end

-- An entry of the comment; one without a signature gets this one.
local function entry_of(comment, signature)
  local entry = comment and docs.read(comment)
  if entry then return entry end
  if comment then
    table.insert(comment, 1, "--- " .. signature)
    return docs.read(comment)
  end
  return { signature = signature, text = "", fields = {}, options = {} }
end

-- -------------------------------------------------------------------------------------- functions

local function file_of(info) return info.source:match "^@(.*)" end

local function place_of(info)
  return file_of(info) and ("%s:%d"):format(info.short_src, info.linedefined)
end

local function parameters_of(fn, first)
  return "(" .. table.concat(parameters(fn, first), ", ") .. ")"
end

local function describe_function(name, fn)
  local info = debug.getinfo(fn, "S")
  if info.what == "C" then return { heading = name .. ": a function of LuaJIT's own" } end
  local entry = docs.at(info.source, info.linedefined)
  if entry then return { entry = entry } end
  local file = file_of(info)
  local comment = file and comment_above(file, info.linedefined)
  return { entry = entry_of(comment, name .. parameters_of(fn, 1)), place = place_of(info) }
end

-- ---------------------------------------------------------------------------------------- modules

-- The line of `Name = nn.module "Name"` in the file, or nil.
local function line_of_class(file, kind)
  for i, line in ipairs(lines_of(file)) do
    if line:find('nn%.module%s*%(?%s*["\']' .. kind:gsub("%p", "%%%0") .. '["\']') then return i end
  end
end

-- A class of the user's: its constructor's parameters, the comment above that or above the class.
local function entry_of_class(class)
  local signature = class.kind .. parameters_of(class.init, 2)
  local info = debug.getinfo(rawget(class, "init") or class.forward, "S")
  local file = file_of(info)
  if not file then return entry_of(nil, signature) end
  local comment = comment_above(file, info.linedefined)
  local line = not comment and line_of_class(file, class.kind)
  if line then comment = comment_above(file, line) end
  return entry_of(comment, signature), place_of(info)
end

local function describe_class(class)
  local own = require "cnn".nn[class.kind] == class
  if own then return { entry = docs.entry("nn." .. class.kind) } end
  local entry, place = entry_of_class(class)
  return { entry = entry, place = place }
end

local function describe_module(name, node)
  local line = name .. ": " .. node:describe()
  local count = members.count(node)
  if count > 0 then line = ("%s, %s parameters"):format(line, text.commas(count)) end
  local found = describe_class(getmetatable(node))
  found.heading, found.more = line, "module"
  return found
end

-- ------------------------------------------------------------------------------------ other things

-- "split" of data.train: what the methods of an object are called with in the docstrings.
local function receiver_of(value)
  if values.is_tensor(value) then return "x" end
  if members.is_module(value) then return "net" end
  local meta = debug.getmetatable(value)
  local class = type(meta) == "table" and rawget(meta, "__index")
  while type(class) == "table" do
    for _, fn in next, class do
      local info = type(fn) == "function" and debug.getinfo(fn, "S")
      local entry = info and docs.at(info.source, info.linedefined)
      local receiver = entry and entry.name:match "^([%w_]+):"
      if receiver then return receiver end
    end
    meta = debug.getmetatable(class)
    class = type(meta) == "table" and rawget(meta, "__index")
  end
end

local function describe_table(name, value)
  local ok, line = pcall(tostring, value)
  if not debug.getmetatable(value) then
    line = text.value(value)
  elseif not ok or line:find "^table: 0x" then
    line = "a table with methods"
  end
  return { heading = name .. ": " .. line, list = receiver_of(value) }
end

local function describe_tensor(name, value)
  local what = handle.is_tensor(value) and format.text(value):match "^[^\n]*" or "a tensor"
  return { heading = name .. ": " .. what, more = "tensor" }
end

local function describe(name, value)
  if values.is_tensor(value) then return describe_tensor(name, value) end
  if members.is_module(value) then return describe_module(name, value) end
  if members.is_class(value) then return describe_class(value) end
  if type(value) == "function" then return describe_function(name, value) end
  if type(value) == "table" then return describe_table(name, value) end
  return { heading = name .. ": " .. text.value(value) }
end

-- ---------------------------------------------------------------------------------------- finding

-- The entry of `parent.key`, where parent is a thing with methods of the library's.
local function member_of(parent, key)
  local receiver = receiver_of(parent)
  return receiver and docs.entry(receiver .. ":" .. key)
end

function things.find(environment, topic)
  local words = expression.read(topic)
  local n = #words
  local function scope(name) return environment[name] end
  if n >= 3 and words[n].kind == "name" then
    local parent, first = expression.value(words, n - 2, scope)
    local entry = first == 1 and parent ~= nil and member_of(parent, words[n].text)
    if entry then return { entry = entry } end
  end
  local value, first = expression.value(words, n, scope)
  if n > 0 and first == 1 and value ~= nil then return describe(topic, value) end
end

return things
