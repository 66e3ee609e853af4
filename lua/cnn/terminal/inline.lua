-- inline.lua - pictures as PNG files inside of escape sequences: the protocols of kitty and iTerm2.
--
--   inline.kitty(picture)     also WezTerm, ghostty and Konsole      inline.iterm(picture)   mintty
--
-- picture: u8 C x H x W; each gives a string. kitty takes the base64 in chunks of 4096 characters,
-- all but the last with m=1. Surprising: without q=2 kitty answers each picture, and that would be
-- taken for typed keys.

local ffi = require "ffi"
local bit = require "bit"
local C = require "cnn.ffi".C
local handle = require "cnn.handle"

local CHUNK = 4096
local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local digits = ffi.new("uint8_t[64]", { DIGITS:byte(1, -1) })
local PADDING = ("="):byte()

local inline = {}

-- RFC 4648, of `size` bytes.
local function base64(bytes, size)
  local groups = math.ceil(size / 3)
  local text = ffi.new("uint8_t[?]", 4 * groups + 1)
  for g = 0, groups - 1 do
    local i, left = 3 * g, size - 3 * g
    local second, third = left > 1 and bytes[i + 1] or 0, left > 2 and bytes[i + 2] or 0
    local word = bytes[i] * 65536 + second * 256 + third
    text[4 * g] = digits[bit.rshift(word, 18)]
    text[4 * g + 1] = digits[bit.band(bit.rshift(word, 12), 63)]
    text[4 * g + 2] = left > 1 and digits[bit.band(bit.rshift(word, 6), 63)] or PADDING
    text[4 * g + 3] = left > 2 and digits[bit.band(word, 63)] or PADDING
  end
  return ffi.string(text, 4 * groups)
end

-- The picture's PNG file in base64, and how many bytes the file has.
local function png(picture)
  local file = handle.wrap(C.cnn_png_pack(picture:to "cpu"))
  local text = base64(ffi.cast("const uint8_t *", handle.data(file)), file:numel())
  return text, file:numel()
end

function inline.kitty(picture)
  local text, parts = png(picture), {}
  for at = 1, #text, CHUNK do
    local more = at + CHUNK <= #text and 1 or 0
    local keys = at == 1 and ("a=T,f=100,q=2,m=%d"):format(more) or "m=" .. more
    parts[#parts + 1] = ("\27_G%s;%s\27\\"):format(keys, text:sub(at, at + CHUNK - 1))
  end
  return table.concat(parts)
end

function inline.iterm(picture)
  local text, size = png(picture)
  return ("\27]1337;File=inline=1;size=%d;width=%dpx;height=%dpx:%s\7"):format(size,
    picture:size(3), picture:size(2), text)
end

return inline
