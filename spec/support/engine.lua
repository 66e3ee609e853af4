-- engine.lua - what specs need of the engine beneath the tensors: kernel variants, threads, values
-- as flat arrays, and memory that is dirty on purpose.
--
-- engine.poison() makes the memory that is handed out next full of values that no result may
-- contain: blocks of the arena get NaN, small ones, which come from malloc, 3.4e38 (0x7f in every
-- byte, what mallopt's M_PERTURB can write). Surprising: a kernel that forgets an element is then
-- seen in every variant, generic included, where comparing two dirty results could agree.

local ffi = require "ffi"
local C = require "cnn.ffi".C

ffi.cdef "int mallopt(int parameter, int value);"

local engine = { C = C }

local M_PERTURB = -6

-- What this CPU runs, worst to best.
engine.variants = {}
for _, name in ipairs { "generic", "blas", "avx2", "avx512" } do
  if C.cnn_use_kernels(name) == 0 then table.insert(engine.variants, name) end
end
C.cnn_use_kernels(nil)

function engine.use(variant)
  assert(C.cnn_use_kernels(variant) == 0, ffi.string(C.cnn_error()))
end

-- Calls f(...) under a variant; afterwards the best one is in force again.
function engine.with(variant, f, ...)
  engine.use(variant)
  local results = { pcall(f, ...) }
  engine.use(nil)
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2)
end

-- The values in logical order, as a C array of doubles, and their number.
function engine.values(x)
  local n = tonumber(C.cnn_numel(x))
  local values = ffi.new("double[?]", math.max(1, n))
  if C.cnn_read(x, values) ~= 0 then error(ffi.string(C.cnn_error()), 0) end
  return values, n
end

-- The same as a Lua table.
function engine.list(x)
  local values, n = engine.values(x)
  local list = {}
  for i = 1, n do list[i] = values[i - 1] end
  return list
end

-- Releases a tensor of `count` NaNs, whose block the next ops then get.
function engine.poison(count)
  ffi.C.mallopt(M_PERTURB, 0x80)
  if count < 2 ^ 14 then return end
  collectgarbage()
  local size = ffi.new("int64_t[1]", count)
  local x = C.cnn_full(size, 1, 0 / 0, "f32", "cpu")
  assert(x ~= nil and C.cnn_data(x) ~= nil)
  C.cnn_release(x)
end

function engine.clean() ffi.C.mallopt(M_PERTURB, 0) end

-- A sequence of numbers in (0, 1) that is the same everywhere.
function engine.random(seed)
  local state = seed * 48271 % 2147483647
  return function()
    state = state * 48271 % 2147483647
    return state / 2147483647
  end
end

return engine
