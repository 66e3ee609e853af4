-- step.lua - cnn.step(fn, ...): records what fn does as one step, then runs it.
--
-- Returns what fn returns; of all tensors made inside only those live on, one level deep in
-- returned tables too. An error inside forgets what has not run. A step inside a step is part of
-- the outer one.
--
-- Surprising: fn is called through string.gsub. Lua cannot yield across it, so no coroutine leaves
-- a step half-way, never to come back.

local ffi = require "ffi"
local engine = require "cnn.ffi"
local err = require "cnn.error"
local handle = require "cnn.handle"

local C, is_tensor = engine.C, handle.is_tensor

local function add_kept(kept, value)
  if is_tensor(value) then kept[#kept + 1] = value end
end

local function pack(...) return { n = select("#", ...), ... } end

-- fn's results, or nil and what it threw.
local function record(fn, ...)
  local arguments, results = pack(...), nil
  local ok, message = err.pcall(string.gsub, "x", "x", function()
    results = pack(fn(unpack(arguments, 1, arguments.n)))
  end)
  return ok and results, message
end

local function finish(results)
  local kept = {}
  for i = 1, results.n do
    local value = results[i]
    add_kept(kept, value)
    if type(value) == "table" then
      for _, inner in next, value do add_kept(kept, inner) end
    end
  end
  local list = ffi.new("cnn_tensor *[?]", math.max(1, #kept))
  for i = 1, #kept do list[i - 1] = kept[i] end
  handle.make_room()
  if C.cnn_step_end(list, #kept) ~= 0 then handle.fail() end
  return unpack(results, 1, results.n)
end

--- cnn.step(fn, ...)
-- Records what fn does as one step and then runs it as a plan: faster than op by op, in memory that
-- is given back at its end. Returns what fn returns; of the tensors made inside only those live on.
-- A value asked for inside (x:item()) makes that step run op by op.
-- Errors: fn that is no function; a tensor of the step that is used later and was not returned
-- Example: loss = cnn.step(function()
--     local loss = nn.CrossEntropyLoss()(net(x), y)
--     loss:backward()
--     return loss
--   end)
-- See: opt:step, cnn.train
return function(fn, ...)
  if type(fn) ~= "function" then
    err.raise("cnn.step(fn, ...): fn: expected a function, got " .. err.got(fn))
  end
  if C.cnn_step_begin() ~= 0 then return fn(...) end -- one is being recorded
  local results, message = record(fn, ...)
  if results then return finish(results) end
  C.cnn_step_abandon()
  error(message, 0)
end
