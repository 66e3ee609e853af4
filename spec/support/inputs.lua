-- inputs.lua - descriptions of op inputs, and tensors made of them in several memory layouts.
--
--   T { 2, 3, lo = 0.5, hi = 2 }     sizes and the range of the values (-2 .. 2)
--     apart = true       no two values closer than (hi - lo) / count, and none at the middle of the
--                        range: for max, relu and their kin, which have a kink there
--     values = { ... }   these values; whole = true: whole numbers lo .. hi
--     grad = false       no gradient; dtype = "i32"; fixed = true: row-major in every layout
--   NONE                 an absent tensor (NULL)
--
-- Surprising: in the layout "sliced" the tensor is the inside of a larger one that is NaN all
-- around, so a kernel that reads beyond its rows is found out.

local ffi = require "ffi"
local engine = require "spec.support.engine"
local handle = require "cnn.handle"
local ops = require "cnn.bind".ops

local inputs = {}

local Tensor = {}
Tensor.__index = Tensor

function inputs.T(spec) return setmetatable(spec, Tensor) end

inputs.NONE = setmetatable({}, { __tostring = function() return "NONE" end })

function inputs.is_tensor(spec) return getmetatable(spec) == Tensor end

function Tensor:__tostring()
  local text = table.concat(self, "x")
  if #self == 0 then text = "scalar" end
  if self.lo or self.hi then text = ("%s in %g..%g"):format(text, self.lo or -2, self.hi or 2) end
  return (self.dtype or "f32") .. "[" .. text .. "]"
end

local function count_of(spec)
  local n = 1
  for _, size in ipairs(spec) do n = n * size end
  return n
end

-- Deterministic values: the same for the same seed.
function inputs.values(spec, seed)
  if spec.values then return spec.values end
  local n, random = count_of(spec), engine.random(seed)
  local lo, hi = spec.lo or -2, spec.hi or 2
  local values = {}
  if spec.apart then
    for i = 1, n do values[i] = lo + (i - 0.25) / n * (hi - lo) end
    for i = n, 2, -1 do
      local j = 1 + math.floor(random() * i)
      values[i], values[j] = values[j], values[i]
    end
  else
    for i = 1, n do
      local v = lo + (hi - lo) * random()
      values[i] = spec.whole and math.floor(lo + (hi - lo + 1) * random()) or v
    end
  end
  return values
end

-- ------------------------------------------------------------------------------------- layouts

local make = {}

function make.dense(x) return x end

function make.channels_last(x) return x:channels_last() end

-- The axes stored in the opposite order.
function make.transposed(x)
  local reversed = {}
  for i = 1, x:dim() do reversed[i] = x:dim() + 1 - i end
  return ops.permute(ops.contiguous(ops.permute(x, reversed)), reversed)
end

-- One value wider on either side of every axis; NaN there.
function make.sliced(x)
  local around = {}
  for _ = 1, 2 * x:dim() do around[#around + 1] = 1 end
  local y = ops.pad(x, around, 0 / 0)
  for axis = 1, x:dim() do y = ops.narrow(y, axis, 2, x:size(axis)) end
  return y
end

-- A slice of the channels of a channels-last picture, as concatenation leaves it.
function make.channel_slice(x)
  local y = ops.channels_last(ops.pad(x, { 0, 0, 0, 0, 3, 2 }, 0 / 0))
  return ops.narrow(y, 2, 4, x:size(2))
end

-- The first element of axis 1, repeated without memory of its own.
function make.expanded(x)
  return ops.expand(ops.narrow(x, 1, 1, 1), { x:size(1), unpack(x:shape(), 2) })
end

local needs_pictures = { channels_last = true, channel_slice = true }

local function fits(spec, layout)
  if spec.fixed or spec.dtype or #spec == 0 then return false end
  if needs_pictures[layout] then return #spec == 4 end
  return layout ~= "expanded" or spec[1] > 1
end

inputs.layouts = { "dense", "channels_last", "transposed", "sliced", "channel_slice", "expanded" }

-- Whether any of the tensors of a case is different in this layout.
function inputs.applies(tensors, layout)
  if layout == "dense" then return true end
  for _, spec in ipairs(tensors) do
    if fits(spec, layout) then return true end
  end
  return false
end

-- A tensor of the given flat values; without the checks of cnn.tensor, which take their time.
function inputs.dense(spec, values)
  local sizes = ffi.new("int64_t[?]", #spec + 1, { unpack(spec) })
  local data = ffi.new("float[?]", #values + 1, values)
  local x = handle.wrap(engine.C.cnn_from_data(sizes, #spec, "f32", data))
  return (spec.dtype and x:to(spec.dtype) or x):to(engine.device)
end

function inputs.laid_out(spec, values, layout)
  local x = inputs.dense(spec, values)
  return fits(spec, layout) and make[layout](x) or x
end

return inputs
