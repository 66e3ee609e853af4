-- calls.lua - which modules are being called right now, and on what.
--
-- calls.call is every module's __call. The arrays run parallel, by depth: stack[d] is called with
-- input[d]; where it calls its children in a row, previous[d] is the one that made the current
-- child's input, and earlier[d] what that one was given. explain.lua names layers from this.
-- Who looks at each call sets calls.observe's observer; who taps a layer (probes/taps.lua), tell.
--
-- Surprising: pcall surrounds the outermost call only, and costs nothing worth measuring; it is
-- there so that an error leaves no stale depth behind.

local err = require "cnn.error"

local calls = {
  depth = 0,
  stack = {}, input = {}, previous = {}, earlier = {},
  observer = nil, -- { enter = function(module, depth, x), leave = function(module, depth, y) },
                  -- either may be missing
  base = 0, -- the depth at which the observer was set; its own count from 1 on
  tell = nil, -- function(module, x, y), called after each call once a layer was tapped
  tapping = nil, -- while a tap runs: the path that it is on
  trial = nil, -- while explain.lua only tries a shape: the layers that have found their size there
}

local DEEPEST = 1000 -- some more, and Lua's own stack would end

local stack, input, previous, earlier = calls.stack, calls.input, calls.previous, calls.earlier

local function reset()
  for d = #stack, 1, -1 do stack[d], input[d], previous[d], earlier[d] = nil, nil, nil, nil end
  calls.depth = 0
end

local function leave(self, d, ...)
  local observer = calls.observer
  if observer and observer.leave then observer.leave(self, d - calls.base, ...) end
  local tell = calls.tell
  if tell then tell(self, input[d], (...)) end
  stack[d], input[d], earlier[d] = nil, nil, nil
  calls.depth = d - 1
  return ...
end

local function run(self, d, x, ...)
  calls.depth = d
  stack[d], input[d], previous[d] = self, x, false
  local observer = calls.observer
  if observer and observer.enter then observer.enter(self, d - calls.base, x) end
  return leave(self, d, self:forward(x, ...))
end

err.calls_user(run, function(n)
  local called = stack[calls.depth + 1 - n]
  return called and called.forward
end)

local function finish(ok, ...)
  if not ok then
    reset()
    error((...), 0)
  end
  return ...
end

-- self:forward(x, ...). Whatever ends the outermost call, Ctrl-C included, leaves none open.
function calls.call(self, x, ...)
  local d = calls.depth + 1
  if d > DEEPEST then
    err.raise(("expected modules nested at most %d deep (does one hold itself?)"):format(DEEPEST))
  end
  if d == 1 then return finish(err.pcall(run, self, d, x, ...)) end
  return run(self, d, x, ...)
end

local function restore(outer, ok, ...)
  calls.observer, calls.base = outer.observer, outer.base
  if not ok then
    calls.depth = outer.depth
    error((...), 0)
  end
  return ...
end

-- fn's results; each module called meanwhile is shown to `observer` (and to no other).
function calls.observe(observer, fn, ...)
  local outer = { observer = calls.observer, base = calls.base, depth = calls.depth }
  calls.observer, calls.base = observer, calls.depth
  return restore(outer, err.pcall(fn, ...))
end

function err.explain(message, place)
  if calls.depth == 0 then return message, place end
  if calls.tapping then return ("the tap on %s: %s"):format(calls.tapping, message), place end
  return require("cnn.explain")(message, place)
end

return calls
