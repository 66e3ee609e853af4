-- replace.lua - puts one table in the place of another, wherever a script's values hold it.
--
--   replace(root, old, new)     in the tables, closures and classes that are reached from root
--
-- Globals count; the library and Lua's own tables are not entered. Surprising: closures are reached
-- too, so that `local net` of a script, which its functions go on using, is the new table for all
-- of them.

local err = require "cnn.error"
local sources = require "cnn.reload.sources"

-- What everybody holds: loaded modules that are no script's files, and the globals.
local function shared()
  local set = { [_G] = true, [package.loaded] = true }
  for name, value in pairs(package.loaded) do
    if type(value) == "table" and not sources.is_users(name) then set[value] = true end
  end
  return set
end

local function add_table(t, old, new, add)
  for key, value in next, t do
    if rawequal(value, old) then rawset(t, key, new) end
    add(key)
    add(value)
  end
  add(getmetatable(t))
end

local function add_function(f, old, new, add)
  local info = debug.getinfo(f, "S")
  if info.what == "C" or err.is_library(info.source) then return end
  local i = 1
  local name, value = debug.getupvalue(f, i)
  while name do
    if rawequal(value, old) then debug.setupvalue(f, i, new) end
    add(value)
    i = i + 1
    name, value = debug.getupvalue(f, i)
  end
end

return function(root, old, new)
  local seen, found, at = shared(), {}, 1
  local function add(value)
    local kind = type(value)
    if (kind == "table" or kind == "function") and not seen[value] then
      seen[value] = true
      found[#found + 1] = value
    end
  end
  seen[old] = true
  for key, value in next, _G do
    if rawequal(value, old) then rawset(_G, key, new) end
  end
  add(root)
  add(new)
  while found[at] do
    local enter = type(found[at]) == "table" and add_table or add_function
    enter(found[at], old, new, add)
    at = at + 1
  end
end
