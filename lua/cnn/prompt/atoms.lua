-- atoms.lua - one value in one line, as it stands inside of a printed table.
--
--   atoms.text(value, room)     at most about `room` columns; nil for a table that has no text
--   atoms.key(key)              as it stands before the "=": name, ["two words"], [3]
--   atoms.own(value, whole)     what the value says of itself, or nil, and what is wrong with that
--
-- Strings are quoted, and cut with a count of their bytes. Surprising: a user's __tostring may
-- throw or give no string; then it counts as none, and the reason is handed on in words.

local C = require "cnn.ffi".C
local err = require "cnn.error"
local fail = require "cnn.fail"
local handle = require "cnn.handle"
local members = require "cnn.members"
local parameters = require "cnn.prompt.parameters"
local quoting = require "cnn.prompt.quoting"
local text = require "cnn.text"
local tokens = require "cnn.prompt.tokens"

local atoms = {}

local LONGEST_KEY = 40

-- ---------------------------------------------------------------------------------------- strings

-- The first characters of what has been escaped, in so many columns; escapes stay whole.
local function cut(escaped, room)
  local at, left = 1, room
  while at <= #escaped do
    local unit = escaped:match("^\\%d%d%d", at) or escaped:match("^\\.", at)
      or escaped:match("^.[\128-\191]*", at)
    left = left - quoting.columns(unit)
    if left < 0 then break end
    at = at + #unit
  end
  return escaped:sub(1, at - 1)
end

local function string_text(value, room)
  local escaped = quoting.escape(value:sub(1, 4 * room), '"')
  if #value <= 4 * room and quoting.columns(escaped) + 2 <= room then
    return '"' .. escaped .. '"'
  end
  local ending = ('"... (%s bytes)'):format(text.commas(#value))
  return '"' .. cut(escaped, math.max(8, room - #ending - 1)) .. ending
end

-- -------------------------------------------------------------------------------------- functions

-- The name of a function of Lua's own: print, string.rep.
local function builtin_name(fn)
  for library, members_of in pairs(package.loaded) do
    if type(library) == "string" and type(members_of) == "table" and not library:find "[./]" then
      for name, value in next, members_of do
        if rawequal(value, fn) then return library == "_G" and name or library .. "." .. name end
      end
    end
  end
end

local function function_text(fn)
  local info = debug.getinfo(fn, "S")
  if info.what == "C" then
    local name = builtin_name(fn)
    return name and ("function %s (built in)"):format(name) or "function (built in)"
  end
  local op = err.is_library(info.source) and not info.source:find "%.lua$"
  return ("function(%s) %s"):format(table.concat(parameters(fn), ", "),
    op and "of the engine" or info.short_src .. ":" .. info.linedefined)
end

-- ------------------------------------------------------------------------- what speaks for itself

-- fn(value), which ought to be a string; or nil and why it is none.
local function ask(what, fn, value)
  local ok, said = pcall(fn, value)
  if ok and type(said) == "string" then return said end
  return nil, ok and ("%s returns %s"):format(what, err.got(said))
    or ("%s fails: %s"):format(what, fail.line(said))
end

local function tensor_text(x)
  if C.cnn_alive(x) == 0 then return "a tensor that was given back" end
  return (require "cnn.format".head(x):gsub(", requires grad$", ""))
end

local function describe(node) return node:describe() end

-- whole: all lines of it, as tostring gives them.
function atoms.own(value, whole)
  local kind = type(value)
  if kind == "table" then
    if not whole and members.is_module(value) then return ask("its extra()", describe, value) end
    local meta = debug.getmetatable(value)
    local fn = meta and rawget(meta, "__tostring")
    if fn == nil then return nil end
    return ask("its __tostring", fn, value)
  end
  if kind == "cdata" and not whole and handle.is_tensor(value) then return tensor_text(value) end
  return ask("its __tostring", tostring, value)
end

local function first_line(said)
  local line = said:match "^[^\n]*"
  return line == said and line or line .. " ..."
end

-- -------------------------------------------------------------------------------------- one value

function atoms.text(value, room)
  local kind = type(value)
  if kind == "string" then return string_text(value, room) end
  if kind == "number" or kind == "nil" or kind == "boolean" then return text.value(value) end
  if kind == "function" then return function_text(value) end
  if kind == "thread" then return ("thread (%s)"):format(coroutine.status(value)) end
  local said, problem = atoms.own(value)
  if said then return cut(quoting.visible(first_line(said)):gsub("\t", " "), room) end
  if problem then return quoting.visible(("a %s (%s)"):format(kind, problem)) end
end

function atoms.key(key)
  if tokens.is_name(key) then return key end
  return "[" .. (atoms.text(key, LONGEST_KEY) or "a table") .. "]"
end

return atoms
