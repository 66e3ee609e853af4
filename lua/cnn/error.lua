-- error.lua - errors of the library, in one line, at the line of the user.
--
-- err.raise(message) throws "file:line: message", where the place is the innermost frame outside
-- the library. While a net is being called, calls.lua puts the layer's path into it (err.explain).
-- err.call(fn, ...) is how the library calls a function of the user's: fn's results.
--
-- Surprising: which frames are the library's is read off this file's own chunk name, so it works
-- for files, for an installed tree and for modules embedded in the program.

local ffi = require "ffi"
local tail_call = require "cnn.tail_call"

local err = {}

local own = debug.getinfo(1, "S").source
local prefix, extension = own:match("^(.*)error(%.?%a*)$")
local root = prefix:sub(1, -2) .. extension

function err.is_library(source)
  return source:sub(1, #prefix) == prefix or source == root
end

-- A chunk name for code that the library generates: it counts as the library's own.
function err.chunk(name) return prefix .. name end

-- ------------------------------------------------------------------------------------- the place

local callees = {} -- a function of the library -> callee(n), see below

-- Says that `fn` calls functions of the user's: callee(n) is the one that its n-th innermost frame
-- is in. One that ended in a tail call has no frame any more, and is known from this alone.
function err.calls_user(fn, callee) callees[fn] = callee end

local function place_in(fn)
  if type(fn) ~= "function" or err.is_library(debug.getinfo(fn, "S").source) then return nil end
  return tail_call.place(fn)
end

-- "file:line" of the innermost Lua frame outside the library, or nil.
function err.place()
  local level, met = 2, {}
  while true do
    local info = debug.getinfo(level, "Slf")
    if not info then return nil end
    if info.what ~= "C" and info.currentline > 0 and not err.is_library(info.source) then
      return info.short_src .. ":" .. info.currentline
    end
    local callee = callees[info.func]
    if callee then
      met[callee] = (met[callee] or 0) + 1
      local place = place_in(callee(met[callee]))
      if place then return place end
    end
    level = level + 1
  end
end

local watcher

-- pcall, for what will throw the error again.
function err.pcall(fn, ...)
  if watcher then return xpcall(fn, watcher, ...) end
  return pcall(fn, ...)
end

local function unwatch(ok, ...)
  watcher = nil
  if not ok then error((...), 0) end
  return ...
end

-- fn's results; look(message) -> message is called at each error, before the stack is unwound.
function err.watch(look, fn, ...)
  watcher = look
  return unwatch(xpcall(fn, look, ...))
end

local running = {} -- what err.call is in, the innermost last

local function finish(n, ok, ...)
  for i = #running, n, -1 do running[i] = nil end
  if not ok then error((...), 0) end
  return ...
end

function err.call(fn, ...)
  local n = #running + 1
  running[n] = fn
  return finish(n, err.pcall(fn, ...))
end

err.calls_user(err.call, function(n) return running[#running + 1 - n] end)

-- ------------------------------------------------------------------------------------- the line

local explaining = false

-- The message and place with the layer's path. Naming a layer may fail too, where a script has
-- overwritten its fields: then the op's own words have to do.
local function explain(message, place)
  if explaining or not err.explain then return message, place end
  explaining = true
  local ok, better, where = pcall(err.explain, message, place)
  explaining = false
  if ok then return better, where end
  return message, place
end

function err.raise(message)
  local place = err.place()
  message, place = explain(message, place)
  message = message:gsub("%s*\n%s*", " ")
  error(place and place .. ": " .. message or message, 0)
end

local LONGEST = 80 -- characters of a user's string that a message repeats

-- A string inside a line: what would break or flood the line is left out.
local function quote(text)
  if #text > LONGEST then text = text:sub(1, LONGEST) .. "..." end
  return "'" .. text:gsub("%c", "?") .. "'"
end

-- What a wrong value was, for "expected ..., got ...".
function err.got(value)
  local kind = type(value)
  if kind == "string" then return "the string " .. quote(value) end
  if kind == "nil" or kind == "number" or kind == "boolean" then return tostring(value) end
  if kind ~= "cdata" then return "a " .. kind end
  if not ffi.istype("cnn_tensor", value) then return tostring(value) end
  return "the tensor " .. require("cnn.format").head(value)
end

return err
