-- failure.lua - the point where a script failed, with what its frames held.
--
--   failure.catch(fn, ...) -> true, fn's results... or false, message, point
--     point: { place = "file:line", name = "forward", locals = { "x", "y" }, scope = { x = ... } }
--
-- scope has the locals and upvalues of the user's frames by name, those of inner frames before
-- those of outer ones; `locals` are the names of the innermost frame, in order. The point is nil
-- where no frame of the user's was running (a file that cannot be read).
--
-- Surprising: the stack is looked at where the error is thrown, before anything of it is gone. The
-- library's own pcalls pass errors on; the first sight of a message counts, later ones are echoes.

local err = require "cnn.error"
local guard = require "cnn.guard"

local failure = {}

local function add(point, names, name, value)
  if name:sub(1, 1) == "(" then return end -- Lua's own, such as a loop's state
  if point.scope[name] == nil then point.scope[name] = value end
  if names then names[#names + 1] = name end
end

-- Of two locals of one name the later one is the one that the line sees.
local function add_frame(point, level, names)
  local seen, list, i = {}, {}, 1
  local name, value = debug.getlocal(level + 1, i)
  while name do
    if seen[name] then list[seen[name]] = false end
    list[i], seen[name] = { name, value }, i
    i = i + 1
    name, value = debug.getlocal(level + 1, i)
  end
  for j = 1, i - 1 do
    if list[j] then add(point, names, list[j][1], list[j][2]) end
  end
  local fn = debug.getinfo(level + 1, "f").func
  i = 1
  name, value = debug.getupvalue(fn, i)
  while name do
    add(point, nil, name, value)
    i = i + 1
    name, value = debug.getupvalue(fn, i)
  end
end

-- The frames that are running now, from `level` on.
local function point_at(level)
  local point
  local info = debug.getinfo(level, "Sln")
  while info do
    if info.what ~= "C" and info.currentline > 0 and not err.is_library(info.source) then
      local first = not point
      point = point or {
        place = info.short_src .. ":" .. info.currentline,
        name = info.what ~= "main" and info.name or nil, locals = {}, scope = {},
      }
      add_frame(point, level, first and point.locals or nil)
    end
    level = level + 1
    info = debug.getinfo(level, "Sln")
  end
  return point
end

-- Then there is no stack left for looking at it, and hardly for saying where it was.
local function overflow_at(message)
  if type(message) ~= "string" or not message:find("stack overflow", 1, true) then return nil end
  return err.place() or "?"
end

local function finish(seen, ok, ...)
  if ok then return true, ... end
  return false, (...), seen.point
end

function failure.catch(fn, ...)
  local seen = {}
  local function look(message)
    local place = overflow_at(message)
    if place then return place .. ": stack overflow" end
    if not seen.point or not rawequal(seen.message, message) then
      seen.message, seen.point = message, point_at(2)
    end
    return message
  end
  return finish(seen, guard.call(err.watch, look, fn, ...))
end

return failure
