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

require "cnn.path" -- models can be required

local C = engine.C
local cnn = {}

for name, op in pairs(bind.ops) do cnn[name] = op end
for name, make in pairs(create) do cnn[name] = make end

-- Along the first axis unless another is given.
function cnn.cat(list, axis) return bind.ops.cat(list, axis or 1) end
function cnn.stack(list, axis) return bind.ops.stack(list, axis or 1) end

cnn.version = ffi.string(C.cnn_version())
cnn.is_tensor = tensor.is_tensor
cnn.no_grad = autograd.no_grad
cnn.is_grad_enabled = autograd.is_grad_enabled
cnn.set_grad_enabled = autograd.set_grad_enabled
cnn.step = step

function cnn.manual_seed(seed)
  C.cnn_manual_seed(argument.whole("cnn.manual_seed", "seed", seed, 0))
end

-- 0: one for each CPU.
function cnn.set_threads(n)
  n = math.min(argument.whole("cnn.set_threads", "n", n, 0), 2 ^ 31 - 1)
  if C.cnn_set_threads(n) ~= 0 then handle.fail() end
end

function cnn.threads() return C.cnn_threads() end

cnn.cuda = {}

-- Asks the engine for an empty tensor there.
function cnn.cuda.is_available()
  local x = C.cnn_empty(nil, 0, "f32", "cuda")
  if x == nil then return false end
  C.cnn_release(x)
  return true
end

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
