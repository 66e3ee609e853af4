-- engine.lua - what specs need of the engine beneath the tensors: kernel variants, threads, values
-- as flat arrays, and memory that is dirty on purpose.
--
-- engine.poison() makes the memory that is handed out next full of values that no result may
-- contain: blocks of the arena get NaN, small ones, which come from malloc, 3.4e38 (0x7f in every
-- byte, what mallopt's M_PERTURB can write). Surprising: a kernel that forgets an element is then
-- seen in every variant, generic included, where comparing two dirty results could agree.
--
-- The variants of a card ("cuda", "cublas", "cudnn") take part where there is one, or its host
-- double, which $CNN_CUDA_HOST_LIB names: tensors that inputs.lua makes under such a variant lie
-- there.

local ffi = require "ffi"
local C = require "cnn.ffi".C

ffi.cdef [[
int mallopt(int parameter, int value);
int setenv(const char *name, const char *value, int overwrite);
int unsetenv(const char *name);
]]

local engine = { C = C }

local M_PERTURB = -6

-- The library is opened once; programs that specs start do not see the double.
local function open_card()
  local double = os.getenv "CNN_CUDA_HOST_LIB"
  local given = os.getenv "CNN_CUDA_LIB"
  if not given and double then ffi.C.setenv("CNN_CUDA_LIB", double, 1) end
  local count = C.cnn_cuda_count()
  if not given and double then ffi.C.unsetenv "CNN_CUDA_LIB" end
  return count > 0
end

local function runs(names)
  local list = {}
  for _, name in ipairs(names) do
    if C.cnn_use_kernels(name) == 0 then list[#list + 1] = name end
  end
  return list
end

local function is_double()
  local facts = C.cnn_cuda_describe()
  return facts ~= nil and ffi.string(facts):find "\ncapability 0%.0\n" ~= nil
end

-- What this CPU runs, worst to best, in fp32 and in bf16; what its card runs; all. The double of a
-- card is slow: whole nets and large layers are not for it.
engine.has_card = open_card()
engine.card_is_double = engine.has_card and is_double()
engine.cpu_variants = runs { "generic", "blas", "avx2", "avx512" }
engine.cpu_mixed_variants = runs { "generic", "avx2", "avx512", "avx512bf16" }
engine.card_variants = engine.has_card and runs { "cuda", "cublas", "cudnn" } or {}
C.cnn_use_kernels(nil)

engine.variants = { unpack(engine.cpu_variants) }
engine.mixed_variants = { unpack(engine.cpu_mixed_variants) }
for _, name in ipairs(engine.card_variants) do
  table.insert(engine.variants, name)
  table.insert(engine.mixed_variants, name)
end

local of_card = {}
for _, name in ipairs(engine.card_variants) do of_card[name] = true end

-- Where the tensors are that the variant in force computes with.
engine.device = "cpu"

function engine.use(variant)
  assert(C.cnn_use_kernels(variant) == 0, ffi.string(C.cnn_error()))
  assert(C.cnn_set_precision "fp32" == 0)
  engine.device = of_card[variant] and "cuda" or "cpu"
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
  if engine.device ~= "cpu" then return engine.poison_card(count) end
  ffi.C.mallopt(M_PERTURB, 0x80)
  if count < 2 ^ 14 then return end
  collectgarbage()
  local size = ffi.new("int64_t[1]", count)
  local x = C.cnn_full(size, 1, 0 / 0, "f32", "cpu")
  assert(x ~= nil and C.cnn_data(x) ~= nil)
  C.cnn_release(x)
end

-- The same for a card: the pool hands out last what was given back last, so a few sizes are.
function engine.poison_card(count)
  local sizes, list = { 64, 1024, 16384, count }, {}
  for i, n in ipairs(sizes) do
    list[i] = C.cnn_full(ffi.new("int64_t[1]", n), 1, 0 / 0, "f32", "cuda")
    assert(list[i] ~= nil, ffi.string(C.cnn_error()))
    C.cnn_data(list[i]) -- which the host cannot have, but now it is filled
  end
  for _, x in ipairs(list) do C.cnn_release(x) end
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
