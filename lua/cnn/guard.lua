-- guard.lua - Ctrl-C, where the program answers it (cnn.host) and where plain luajit does.
--
-- guard.call(f, ...) is pcall; after a Ctrl-C the caller may clean up undisturbed. Between
-- guard.hold(true) and guard.hold(false) a Ctrl-C waits. Surprising: under plain luajit these do
-- next to nothing, because there SIGINT is not ours.

local ok, host = pcall(require, "cnn.host")

if ok then
  return { call = host.guard, hold = host.hold, interrupted = host.interrupted, clear = host.clear }
end

return {
  call = pcall,
  hold = function() end,
  interrupted = function() return false end,
  clear = function() end,
}
