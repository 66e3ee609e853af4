-- cnn.lua - `local cnn = require "cnn"`: tensors, nn, optim and the rest under one name.
--
-- Surprising: only what tensors need is loaded here. cnn.train, cnn.data, cnn.options, cnn.image
-- and whatever else lua/cnn/ holds are loaded when they are first named, so starting is fast.

local registry = debug.getregistry()

-- Test runners forget loaded modules between files, but LuaJIT never forgets a C type's metatable:
-- the library is loaded once in a Lua state.
local kept = registry["cnn.loaded"]
if kept then
  for name, module in pairs(kept) do package.loaded[name] = module end
  return kept.cnn
end

local ffi = require "ffi"
local engine = require "cnn.ffi"
local argument = require "cnn.argument"
local autograd = require "cnn.autograd"
local bind = require "cnn.bind"
local create = require "cnn.create"
local handle = require "cnn.handle"
local step = require "cnn.step"
local tensor = require "cnn.tensor"

require "cnn.path"           -- models can be required
require "cnn.reload.sources" -- and are known, for cnn.reload

local C = engine.C
local cnn = {}

for name, op in pairs(bind.ops) do cnn[name] = op end
for name, make in pairs(create) do cnn[name] = make end

--- cnn.cat(list, axis = 1)
-- See: cnn.stack, x:split
function cnn.cat(list, axis) return bind.ops.cat(list, axis or 1) end

--- cnn.stack(list, axis = 1)
-- See: cnn.cat, x:unsqueeze
function cnn.stack(list, axis) return bind.ops.stack(list, axis or 1) end

--- cnn.version
-- The version of the library, a string.
-- Example: type(cnn.version) --> "string"
cnn.version = ffi.string(C.cnn_version())
--- cnn.is_tensor(value)
-- Whether a value is a tensor.
-- Example: cnn.is_tensor(x), cnn.is_tensor(3) --> true false
cnn.is_tensor = tensor.is_tensor
cnn.no_grad = autograd.no_grad
cnn.is_grad_enabled = autograd.is_grad_enabled
cnn.set_grad_enabled = autograd.set_grad_enabled
cnn.step = step

--- cnn.manual_seed(seed)
-- Begins the random numbers anew: of weights, cnn.rand, dropout and shuffling. The same seed gives
-- the same numbers with any number of threads. The seed is 1 unless it is set.
-- Errors: a seed that is no whole number from 0
-- Example: cnn.manual_seed(1) a = cnn.rand(2):sum():item() cnn.manual_seed(1)
--   cnn.rand(2):sum():item() == a --> true
-- See: cnn.rand, nn.Dropout, split:batches
function cnn.manual_seed(seed)
  C.cnn_manual_seed(argument.whole("cnn.manual_seed", "seed", seed, 0))
end

--- cnn.precision(name)
-- What convolutions and products compute with, on every device: "fp32", or "bf16": convolutions
-- take and give bf16, so do the ops behind them (norms, pooling, arithmetic, cat, dropout);
-- products take it and give f32; weights, statistics, sums, losses and all else are f32. On a card
-- also "tf32" and "auto" (tf32 in convolutions, as PyTorch has it), which the CPU takes for fp32.
-- Errors: another name
-- Example: cnn.precision "fp32"
-- See: cnn.cuda.precision, cnnlua train, cnn.train
function cnn.precision(name)
  argument.string("cnn.precision", "name", name)
  if C.cnn_set_precision(name) ~= 0 then handle.fail() end
end

--- cnn.set_threads(n)
-- How many threads the engine uses; 0: one for each CPU, as at the start. Results do not depend on
-- it.
-- Errors: what is no whole number from 0
-- Example: cnn.set_threads(2)
--   cnn.threads() --> 2
-- See: cnn.threads
function cnn.set_threads(n)
  n = math.min(argument.whole("cnn.set_threads", "n", n, 0), 2 ^ 31 - 1)
  if C.cnn_set_threads(n) ~= 0 then handle.fail() end
end

--- cnn.threads()
-- How many threads the engine uses.
-- Example: cnn.threads() >= 1 --> true
-- See: cnn.set_threads
function cnn.threads() return C.cnn_threads() end

local loaded = { cnn = cnn }
registry["cnn.loaded"] = loaded

-- What is loaded by now, by a module that another one asked for too.
local function remember()
  for name, module in pairs(package.loaded) do
    if name:match("^cnn%.") then loaded[name] = module end
  end
end

local function exists(name)
  return package.preload[name] or package.searchpath(name, package.path)
end

setmetatable(cnn, {
  __index = function(_, name)
    local module = "cnn." .. tostring(name)
    if not exists(module) then return nil end
    cnn[name] = require(module)
    remember()
    return cnn[name]
  end,
})

remember()
return cnn
