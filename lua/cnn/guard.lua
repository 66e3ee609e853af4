-- guard.lua - Ctrl-C, where the program answers it (cnn.host) and where plain luajit does.
--
-- guard.call(f, ...) is pcall; after a Ctrl-C the caller may clean up undisturbed. Between
-- guard.hold(true) and guard.hold(false) a Ctrl-C waits; hold returns whether it was held.
-- guard.free(f, ...) is guard.call for who holds: in f it strikes, before and after it waits.
-- guard.interrupted() is true from a Ctrl-C to the next guard.clear(); guard.clear(true) holds the
-- next one. Surprising: under plain luajit SIGINT is not ours; there an interruption is a
-- cnn_interrupt(1) of who embeds the engine, and nothing has to be held, because it strikes in the
-- engine's ops alone.

local found, host = pcall(require, "cnn.host")

local function hold_again(...)
  host.hold(true)
  return ...
end

local function run_free(f, ...)
  host.hold(false)
  return hold_again(pcall(f, ...))
end

-- What the inner pcall returns; the outer one catches a Ctrl-C just before and just after it.
local function inner(caught, ...)
  if caught then return ... end
  return false, (...)
end

if found then
  return {
    call = host.guard, hold = host.hold, interrupted = host.interrupted, clear = host.clear,
    free = function(f, ...) return inner(host.guard(run_free, f, ...)) end,
  }
end

local C = require "cnn.ffi".C

local struck = false

local function take_back(...)
  if C.cnn_interrupted() ~= 0 then
    struck = true
    C.cnn_interrupt(0)
  end
  return ...
end

local function call(f, ...) return take_back(pcall(f, ...)) end

return {
  call = call,
  free = call,
  hold = function() return false end,
  interrupted = function() return struck end,
  clear = function()
    struck = false
    C.cnn_interrupt(0)
  end,
}
