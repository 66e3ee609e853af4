-- path.lua - where `require` looks for scripts: "models.resnet" is found from any directory.
--
-- path.add_script(file) puts the script's directory, and the one above it, behind what package.path
-- has. Requiring this module does so for the library's own models: those of a source tree, or
-- PREFIX/share/cnnlua of an installed one.
--
-- Surprising: a program's models are found from where the program lies, which has its Lua files in
-- itself; under a stock luajit from where this file lies.

local ffi = require "ffi"

ffi.cdef "long readlink(const char *path, char *text, unsigned long size);"

local path = {}

local function add(folder)
  local pattern = folder .. "/?.lua"
  if not (";" .. package.path .. ";"):find(";" .. pattern .. ";", 1, true) then
    package.path = package.path .. ";" .. pattern
  end
end

-- The directory above, without "..": folders get into the messages of the scripts in them.
local function above(folder)
  folder = folder:gsub("/+$", "")
  local rest, last = folder:match "^(.-)/*([^/]+)$"
  if not last then return folder end
  if last == ".." then return folder .. "/.." end
  if last == "." then return rest == "" and ".." or above(rest) end
  if rest == "" and folder:sub(1, 1) ~= "/" then return "." end
  return rest
end

function path.add_script(file)
  local folder = file:match "^(.*)/[^/]*$" or "."
  add(folder)
  add(above(folder))
end

-- The directory of the running program, or nil.
local function program()
  local text = ffi.new "char[4096]"
  local length = tonumber(ffi.C.readlink("/proc/self/exe", text, 4096))
  return length > 0 and ffi.string(text, length):match "^(.*)/[^/]*$" or nil
end

-- The directory of the Lua files, lua/ or PREFIX/share/lua/5.1, or nil.
local function files()
  return debug.getinfo(1, "S").source:match "^@(.*)/cnn/path%.lua$"
end

local function add_models(folder)
  local f = io.open(folder .. "/models/.")
  if not f then return end
  f:close()
  add(folder)
end

local is_program = package.preload["cnn.host"] ~= nil -- cnnlua, not a stock luajit
local folder = is_program and program() or not is_program and files()
if folder then
  local parent = above(folder)
  add_models(parent)
  add_models(is_program and parent .. "/share/cnnlua" or above(parent) .. "/cnnlua")
end

return path
