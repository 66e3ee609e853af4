-- callee.lua - what is being called where the cursor is, as far as completion wants to know.
--
--   callee.find(words, last, scope) -> { entry, receiver, parameters }
--
-- The function's name ends with token `last`. entry is its help, if it has one; parameters are the
-- names of its parameters, { "x", "path", "{" }, where "{" is a table of options; receiver is what
-- stands before the colon. Surprising: a function of the user's tells its parameters, too.

local expression = require "cnn.prompt.expression"
local members = require "cnn.members"
local parameters = require "cnn.prompt.parameters"
local values = require "cnn.prompt.values"

local callee = {}

-- Functions of Lua's own that take a file, by the number of that argument.
local of_files = {
  [io.open] = 1, [io.lines] = 1, [io.input] = 1, [io.output] = 1, [dofile] = 1, [loadfile] = 1,
  [os.remove] = 1, [os.rename] = 2,
}

-- ------------------------------------------------------------------------------------- its help

local function receiver_name(receiver)
  if values.is_tensor(receiver) then return "x" end
  if values.is_module(receiver) then return "net" end
end

-- Of a method, whoever has one of that name where the receiver does not tell.
local function entry_of_method(receiver, name)
  local help = require "cnn.help"
  local known = receiver_name(receiver)
  if known then return help.entry(known .. ":" .. name) end
  for _, full in ipairs(help.names()) do
    if full:match ":([%w_]+)$" == name then return help.entry(full) end
  end
end

-- Of what has another name here, by the place where it was defined.
local function entry_of_value(value)
  if members.is_class(value) then value = value.init end
  if type(value) ~= "function" then return nil end
  local info = debug.getinfo(value, "S")
  return require "cnn.prompt.docs".at(info.source, info.linedefined)
end

-- -------------------------------------------------------------------------------- its parameters

local function of_signature(signature)
  local list = {}
  local inside = signature:match "%((.*)%)" or signature:match "%b{}" or ""
  inside = inside:gsub("%b{}", "{")
  for piece in (inside .. ","):gmatch "%s*(.-)%s*," do
    list[#list + 1] = piece:match "^[%w_{]+" or piece
  end
  return list
end

-- The first parameter of a method is the receiver.
local function parameters_of(entry, fn, is_method)
  if entry then return of_signature(entry.signature) end
  if members.is_class(fn) then return parameters(fn.init, 2) end
  if type(fn) ~= "function" then return {} end
  local list = parameters(fn, is_method and 2 or 1)
  for i = 1, of_files[fn] or 0 do list[i] = "file" end
  return list
end

function callee.find(words, last, scope)
  local fn = (expression.value(words, last, scope))
  if words[last].kind == "name" and expression.is(words[last - 1], ":") then
    local receiver = expression.value(words, last - 2, scope)
    local entry = entry_of_method(receiver, words[last].text)
    return { entry = entry, receiver = receiver, parameters = parameters_of(entry, fn, true) }
  end
  local name = expression.name(words, last)
  local entry = name and name:find("[.]") and require "cnn.help".entry(name) or entry_of_value(fn)
  return { entry = entry, parameters = parameters_of(entry, fn, false) }
end

return callee
