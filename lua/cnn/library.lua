-- library.lua - opens a shared library that may be missing: library("libcairo.so.2"), or nil.
--
-- Of several names the first that is there counts. Surprising: LuaJIT closes a library when its
-- namespace is collected, and finalizers of what it made may run after that, into code that is
-- gone. So each stays in the registry, until the Lua state ends.

local ffi = require "ffi"

local KEY = "cnn.libraries"

local registry = debug.getregistry()
registry[KEY] = registry[KEY] or {}
local opened = registry[KEY] -- name -> its namespace

return function(...)
  for _, name in ipairs { ... } do
    if opened[name] then return opened[name] end
    local ok, library = pcall(ffi.load, name)
    if ok then
      opened[name] = library
      return library
    end
  end
  return nil
end
