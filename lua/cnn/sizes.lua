-- sizes.lua - sizes as the engine takes them: a buffer of int64_t, and how many there are.
--
-- sizes.buffer(who, list) checks that each is a whole number and raises in the name of `who`.
-- Surprising: a tensor without axes has no sizes, but its buffer has room for one, since C knows
-- no array of none.

local ffi = require "ffi"
local argument = require "cnn.argument"

local sizes = {}

function sizes.buffer(who, list)
  local buffer = ffi.new("int64_t[?]", math.max(1, #list))
  for i = 1, #list do buffer[i - 1] = argument.whole(who, "size " .. i, list[i], 0) end
  return buffer, #list
end

return sizes
