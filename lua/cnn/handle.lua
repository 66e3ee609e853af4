-- handle.lua - owns the engine's tensors on behalf of Lua.
--
-- handle.wrap(p) takes a new cnn_tensor * and returns the tensor that Lua code holds; the
-- collector gives it back. handle.fail() raises the engine's last error at the user's line.
--
-- Surprising: a handle looks like 16 bytes to the collector, whatever it holds. So wrap asks the
-- engine how much is alive, and runs a collection when that has grown by half (64 MB at least). A
-- card may be full before: an op that runs out of memory is asked once more after a collection
-- (ran_out), and before what cannot be asked twice there is one in time (make_room).

local ffi = require "ffi"
local engine = require "cnn.ffi"
local err = require "cnn.error"

local C, gc, istype = engine.C, ffi.gc, ffi.istype
local tensor_type = ffi.typeof("cnn_tensor")
local release = C.cnn_release

local handle = {}

local growth = 64 * 2 ^ 20
local low, limit = 0, growth -- the least alive since the last collection, and what calls for one

local function set_limit(alive)
  low, limit = alive, alive + math.max(growth, alive / 2)
end

local function collect()
  collectgarbage()
  set_limit(tonumber(C.cnn_bytes_alive()))
  C.cnn_cuda_spare(1)
end

-- Whether the op that failed is to be asked again: it ran out of memory, and garbage is gone now.
-- An op takes its memory before it computes or writes anything.
function handle.ran_out()
  if not ffi.string(C.cnn_error()):find "^out of memory" then return false end
  collect()
  return true
end

-- Before a list of ops: what may be garbage goes where the card was nearly full since the last
-- collection. If each round of a loop leaves as much, memory lasts until the next one's check.
function handle.make_room()
  local garbage = tonumber(C.cnn_bytes_alive()) - low
  if garbage > 2 ^ 20 and garbage > tonumber(C.cnn_cuda_spare(0)) / 2 then collect() end
end

function handle.fail()
  local message = ffi.string(C.cnn_error())
  if C.cnn_interrupted() ~= 0 then error(message, 0) end
  err.raise(message)
end

function handle.wrap(p)
  if p == nil then handle.fail() end
  local x = gc(p[0], release)
  local alive = tonumber(C.cnn_bytes_alive())
  if alive > limit then collect() elseif alive < low then set_limit(alive) end
  return x
end

-- What nobody will ask for again, without waiting for the collector.
function handle.give_back(...)
  for i = 1, select("#", ...) do release(gc((select(i, ...)), nil)) end
end

-- x outlives the step that made it, as what a module holds does.
function handle.keep(x)
  if C.cnn_keep(x) ~= 0 then handle.fail() end
  return x
end

-- The address of the first element; what is pending is computed first. x has to outlive it.
function handle.data(x)
  local data = C.cnn_data(x)
  if data == nil then handle.fail() end
  return data
end

function handle.is_tensor(x)
  return istype(tensor_type, x)
end

-- A number as a tensor without axes, for the ops that take tensors only.
function handle.scalar(value)
  return handle.wrap(C.cnn_full(nil, 0, value, "f32", "cpu"))
end

-- The same to be read only: the usual ones are kept. (A table has no key NaN, and one for both 0s.)
local constants, constants_count = {}, 0

function handle.constant(value)
  if value ~= value or value == 0 and 1 / value < 0 then return handle.scalar(value) end
  local known = constants[value]
  if known then return known end
  local x = handle.scalar(value)
  C.cnn_keep(x)
  if constants_count >= 256 then constants, constants_count = {}, 0 end
  constants[value], constants_count = x, constants_count + 1
  return x
end

return handle
