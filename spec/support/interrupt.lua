-- interrupt.lua - a Ctrl-C from within: interrupt() strikes as one does.
--
-- guard.clear() is the end of it. Surprising: inside of the program, where `make asan` runs the
-- specs, it is a real signal; a stock luajit leaves those alone, and there it is the engine's flag.

local ffi = require "ffi"
local C = require "cnn.ffi".C

local SIGINT = 2

ffi.cdef "int cnnlua_spec_raise(int number) __asm__(\"raise\");"

return function()
  if pcall(require, "cnn.host") then ffi.C.cnnlua_spec_raise(SIGINT) else C.cnn_interrupt(1) end
end
