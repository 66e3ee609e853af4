-- sources.lua - the Lua files that a script is made of, and which have to be run again.
--
--   sources.of(file)        { file =, text =, name =, needs = { name, ... } }: the script, then the
--                           files that it requires, also through one another; text: nil when it
--                           cannot be read, name: nil for the script
--   sources.stale(list)     the names of those that `require` ran and that are out of date
--   sources.forget(names)   so that `require` runs them again; the function that undoes it
--
-- Out of date is a file with another text than it was run with, one that requires such a file, and
-- one that returns a net: run once for two scripts, it would give both the same net. The library's
-- own files are none of these.
--
-- Surprising: what a file requires is read off its text, `require "name"`; of names that are
-- computed, those are known that were loaded while the file was running.

local files = require "cnn.files"

local sources = {}

local ran = {}    -- name -> the text that require ran
local loaded = {} -- file -> the names that were first loaded for it

-- ------------------------------------------------------------------------------------- recording

local function is_library(name) return name == "cnn" or name:find "^cnn%." ~= nil end

-- The file of the innermost Lua function but this file's.
local function running_file()
  local own, level = debug.getinfo(1, "S").source, 2
  local info = debug.getinfo(level, "S")
  while info and (info.what == "C" or info.source == own) do
    level = level + 1
    info = debug.getinfo(level, "S")
  end
  return info and info.source:match "^@(.*)"
end

local function record(name)
  local file = package.searchpath(name, package.path)
  ran[name] = file and files.read(file)
  local by = running_file()
  if not by then return end
  loaded[by] = loaded[by] or {}
  loaded[by][name] = true
end

local search = package.loaders[2] -- the one that looks along package.path

package.loaders[2] = function(name)
  local ok, found = pcall(search, name)
  if not ok then error(found, 0) end
  if type(found) == "function" and not is_library(name) then record(name) end
  return found
end

-- --------------------------------------------------------------------------------------- looking

local function needs_of(file, text)
  local names, seen = {}, {}
  local function add(name)
    if not seen[name] and not is_library(name) and not package.preload[name] then
      seen[name] = true
      names[#names + 1] = name
    end
  end
  for name in (text or ""):gmatch "require%s*%(?%s*[\"']([%w_./-]+)[\"']" do add(name) end
  for name in pairs(loaded[file] or {}) do add(name) end
  return names
end

function sources.of(file)
  local list, seen = {}, {}
  local function add(path, name)
    seen[path] = true
    local text = files.read(path)
    local entry = { file = path, text = text, name = name, needs = needs_of(path, text) }
    list[#list + 1] = entry
    for _, needed in ipairs(entry.needs) do
      local found = package.searchpath(needed, package.path)
      if found and not seen[found] then add(found, needed) end
    end
  end
  add(file)
  return list
end

-- Whether a module's value is a net, or a table with one in it, as a recipe is.
local function has_net(value)
  local is_module = require "cnn.members".is_module
  if is_module(value) then return true end
  if type(value) ~= "table" or getmetatable(value) then return false end
  for _, inner in next, value do
    if is_module(inner) then return true end
  end
  return false
end

local function needs_any(entry, names)
  for _, name in ipairs(entry.needs) do
    if names[name] then return true end
  end
  return false
end

function sources.stale(list)
  local names, stale, found = {}, {}, true
  while found do
    found = false
    for _, entry in ipairs(list) do
      local name = entry.name
      local value = name and package.loaded[name]
      if value ~= nil and not stale[name]
        and (ran[name] ~= entry.text or has_net(value) or needs_any(entry, stale)) then
        stale[name], found = true, true
        names[#names + 1] = name
      end
    end
  end
  return names
end

-- A file whose run failed has left its mark, and require would refuse it for ever. The mark is no
-- value of Lua's: LuaJIT shows it as userdata or as a number.
local function drop_marks()
  for name, value in pairs(package.loaded) do
    local kind = type(value)
    if ran[name] and (kind == "userdata" or kind == "number") then package.loaded[name] = nil end
  end
end

function sources.forget(names)
  drop_marks()
  local was = {}
  for _, name in ipairs(names) do
    was[name] = { package.loaded[name], ran[name] }
    package.loaded[name] = nil
  end
  return function()
    drop_marks()
    for name, pair in pairs(was) do package.loaded[name], ran[name] = pair[1], pair[2] end
  end
end

return sources
