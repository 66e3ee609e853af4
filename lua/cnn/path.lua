-- path.lua - where `require` looks for scripts: "models.resnet" is found from any directory.
--
-- path.add_script(file) puts the script's directory, and the one above it, behind what package.path
-- has; requiring this module adds the directory of the program's own models (a source tree's or an
-- installed one's). Surprising: a checkout's models come from where the program was built.

local ffi = require "ffi"

ffi.cdef "long readlink(const char *path, char *text, unsigned long size);"

local path = {}

local function add(folder)
  local pattern = folder .. "/?.lua"
  if not (";" .. package.path .. ";"):find(";" .. pattern .. ";", 1, true) then
    package.path = package.path .. ";" .. pattern
  end
end

function path.add_script(file)
  local folder = file:match "^(.*)/[^/]*$" or "."
  add(folder)
  add(folder .. "/..")
end

-- The directory of the program, or nil.
function path.program()
  local text = ffi.new "char[4096]"
  local length = tonumber(ffi.C.readlink("/proc/self/exe", text, 4096))
  return length > 0 and ffi.string(text, length):match "^(.*)/[^/]*$" or nil
end

local program = path.program()
if program then
  add(program .. "/..")
  add(program .. "/../share/cnnlua")
end

return path
