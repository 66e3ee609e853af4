-- step.lua - cnn.step(fn, ...): records what fn does as one step, then runs it.
--
-- Returns what fn returns; of all tensors made inside only those live on, one level deep in
-- returned tables too. An error inside forgets what has not run. A step inside a step is part of
-- the outer one.

local ffi = require "ffi"
local engine = require "cnn.ffi"
local err = require "cnn.error"
local handle = require "cnn.handle"

local C, is_tensor = engine.C, handle.is_tensor

local recording = false

local function add_kept(kept, value)
  if is_tensor(value) then kept[#kept + 1] = value end
end

local function finish(ok, ...)
  recording = false
  if not ok then
    C.cnn_step_abandon()
    error((...), 0)
  end
  local kept = {}
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    add_kept(kept, value)
    if type(value) == "table" then
      for _, inner in pairs(value) do add_kept(kept, inner) end
    end
  end
  local list = ffi.new("cnn_tensor *[?]", math.max(1, #kept))
  for i = 1, #kept do list[i - 1] = kept[i] end
  if C.cnn_step_end(list, #kept) ~= 0 then handle.fail() end
  return ...
end

return function(fn, ...)
  if type(fn) ~= "function" then
    err.raise("cnn.step(fn, ...): fn: expected a function, got " .. err.got(fn))
  end
  if recording then return fn(...) end
  if C.cnn_step_begin() ~= 0 then handle.fail() end
  recording = true
  return finish(pcall(fn, ...))
end
