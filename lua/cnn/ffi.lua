-- ffi.lua - finds the engine and declares it to LuaJIT.
--
-- The engine is the program that runs us (cnnlua exports it) or libcnn.so. Its header comes out of
-- the engine itself, so the declarations cannot disagree with the library that they describe.
--
-- Surprising: `struct cnn_tensor` gets a body here, of one byte that nobody reads. LuaJIT indexes a
-- pointer natively, so on a pointer `x[1]` would never reach the metatable; on a reference, which
-- is what indexing a pointer to a complete struct gives, it does. C functions take either.

local ffi = require "ffi"

ffi.cdef "const char *cnn_header(void);"

local function exported()
  return (pcall(function() return ffi.C.cnn_header end))
end

local function readable(file)
  local f = io.open(file, "rb")
  if f then f:close() end
  return f ~= nil
end

-- The library beside these files: build/ of a source tree, PREFIX/lib of an installed one.
local function beside()
  local folder = debug.getinfo(1, "S").source:match("^@(.*)cnn[/\\]ffi%.lua$")
  if not folder then return nil end
  for _, place in ipairs { "../build/", "../../../lib/" } do
    local file = folder .. place .. "libcnn.so"
    if readable(file) then return file end
  end
end

local function open()
  if exported() then return ffi.C end
  local name = os.getenv("CNN_LIB") or beside() or "cnn"
  local ok, library = pcall(ffi.load, name)
  if not ok then
    error("the engine cannot be opened: " .. tostring(library) ..
      " (build it with make, or let CNN_LIB name libcnn.so)", 0)
  end
  return library
end

local C = open()
local header = ffi.string(C.cnn_header())

-- busted and others load modules twice; types can be declared only once.
if not pcall(ffi.typeof, "cnn_tensor") then
  ffi.cdef((("\n" .. header):gsub("\n#[^\n]*", "\n")))
  ffi.cdef "struct cnn_tensor { char opaque; };"
end

return { C = C, header = header }
