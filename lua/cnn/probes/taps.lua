-- taps.lua - net:tap(path, fn): a function that sees what a layer gives, each time it is called.
--
-- calls.lua tells of each call as soon as one layer is tapped; until then it looks at one field. A
-- layer's taps are a list in its own record (members.state), which is made anew at each change: a
-- tap may add and remove taps while it runs.
--
-- Surprising: the layer holds the functions, and a handle knows its layer weakly. So a handle that
-- nobody kept goes on tapping, and one that was kept does not keep a net alive.

local calls = require "cnn.calls"
local err = require "cnn.error"
local handle = require "cnn.handle"
local look = require "cnn.probes.look"
local members = require "cnn.members"

local taps = {}

local layers = setmetatable({}, { __mode = "kv" }) -- a handle -> the layer that it is on

local Tap = {}
Tap.__index = Tap

function Tap:__tostring()
  return ("tap on %s%s"):format(self.label, layers[self] and "" or " (removed)")
end

-- No longer called; again changes nothing.
function Tap:remove()
  local layer = layers[self]
  if not layer then return end
  local state, rest = members.state(layer), {}
  for _, entry in ipairs(state.taps or rest) do -- a net that became another one may have none
    if entry.tap ~= self then rest[#rest + 1] = entry end
  end
  state.taps = #rest > 0 and rest or nil
  layers[self] = nil
end

-- From now on `list`, another layer's taps, is that of `layer`.
function taps.move(list, layer)
  members.state(layer).taps = list
  for _, entry in ipairs(list) do layers[entry.tap] = layer end
end

local function finish(was, ok, why)
  calls.tapping = was
  if not ok then error(why, 0) end
end

-- A pass over shapes has no values to see.
local function is_meta(x, y)
  local value = handle.is_tensor(y) and y or x
  return handle.is_tensor(value) and value.device == "meta"
end

local function tell(layer, x, y)
  local list = members.state(layer).taps
  if not list or is_meta(x, y) then return end
  for _, entry in ipairs(list) do
    if layers[entry.tap] then -- not removed by the one before
      local was, path = calls.tapping, entry.tap.path
      calls.tapping = path
      finish(was, err.pcall(err.call, entry.fn, y, x, path))
    end
  end
end

--- net:tap(path, fn)
-- Calls fn(y, x, path) after each call of that layer, with its output and its input, in training as
-- elsewhere, but not while net:shapes, net:probe and the like look; what fn returns is ignored. It
-- returns a handle: handle:remove() ends it. Several taps on a layer are called in the order in
-- which they were made; "net" taps the net itself. cnn.reload keeps a tap on a layer whose path and
-- kind stay.
-- Shapes: y and x are the layer's own tensors. In a recorded step (cnn.step, cnn.train) they end
--   with it: keep numbers, as y:mean():item(), which makes that step a little slower
-- Errors: an unknown path is told with the nearest; what fn throws ends the call, with fn's line
-- Example: local h = net:tap("net", function(y) print(y:shape()) end); net(x); h:remove()
-- See: net:get, net:probe
function taps.add(net, path, fn)
  local who = "net:tap(path, fn)"
  local layer, place = look.resolve(net, path, who)
  if type(fn) ~= "function" then
    err.raise(who .. ": fn: expected a function, got " .. err.got(fn))
  end
  local label = layer == net and place or place .. " " .. layer:describe()
  local tap = setmetatable({ path = place, label = label }, Tap)
  local state, list = members.state(layer), {}
  for i, entry in ipairs(state.taps or list) do list[i] = entry end
  list[#list + 1] = { tap = tap, fn = fn }
  state.taps, layers[tap] = list, layer
  calls.tell = tell
  return tap
end

return taps
