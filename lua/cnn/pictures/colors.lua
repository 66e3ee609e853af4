-- colors.lua - numbers as colours.
--
--   colors.apply(x, { lo = 0, hi = 1, map = "gray" })  -> u8 pixels, bad, flat
--   colors.range(x)                                    -> least, most, bad
--
-- bad: how many values are not finite; least and most are of the others, nil when there are none;
-- flat: there are some, and all are the same.
-- x is H x W, or 3 x H x W taken as red, green and blue. A value becomes the colour at
-- round(255 (v - lo) / (hi - lo)) of the map: "gray", "viridis", "plasma", or "diverging" from blue
-- over white to red, which without lo and hi has 0 in its middle. Without lo and hi they are x's
-- own; where both are the same, that value is the map's first colour.
--
-- Surprising: a pixel that is not finite is magenta, so a gray picture with one has 3 channels.

local ffi = require "ffi"
local bit = require "bit"
local C = require "cnn.ffi".C
local err = require "cnn.error"
local handle = require "cnn.handle"

local colors = { MAGENTA = { 255, 0, 255 } }

-- Some colours at even distances; between them lines are drawn.
local anchors = {
  gray = { 0x000000, 0xffffff },
  viridis = {
    0x440154, 0x482878, 0x3e4a89, 0x31688e, 0x26828e, 0x1f9e89, 0x35b779, 0x6dcd59, 0xb4de2c,
    0xfde725,
  },
  plasma = { 0x0d0887, 0x6a00a8, 0xb12a90, 0xe16462, 0xfca636, 0xf0f921 },
  diverging = { 0x053061, 0x2166ac, 0x67a9cf, 0xf7f7f7, 0xef8a62, 0xb2182b, 0x67001f },
}

colors.names = {}
for name in pairs(anchors) do colors.names[#colors.names + 1] = name end
table.sort(colors.names)

-- 256 times r, g, b.
local function fill_table(list)
  local values = ffi.new "uint8_t[768]"
  for i = 0, 255 do
    local at = i / 255 * (#list - 1)
    local k = math.min(math.floor(at), #list - 2)
    for c = 0, 2 do
      local shift = 16 - 8 * c
      local a = bit.band(bit.rshift(list[k + 1], shift), 255)
      local b = bit.band(bit.rshift(list[k + 2], shift), 255)
      values[3 * i + c] = math.floor(a + (b - a) * (at - k) + 0.5)
    end
  end
  return values
end

local tables = {}

local function table_of(name)
  if not anchors[name] then
    err.raise(("colours: expected one of %s, got %s"):format(table.concat(colors.names, ", "),
      err.got(name)))
  end
  tables[name] = tables[name] or fill_table(anchors[name])
  return tables[name]
end

-- The values in logical order as floats: their tensor, to be given back after the last look at the
-- address, and that.
local function open(x)
  x = x:detach():to("cpu"):to("f32"):contiguous()
  return x, ffi.cast("const float *", handle.data(x))
end

local function scan(data, n)
  local lo, hi, bad = math.huge, -math.huge, 0
  for i = 0, n - 1 do
    local v = data[i]
    if v - v ~= 0 then
      bad = bad + 1
    else
      if v < lo then lo = v end
      if v > hi then hi = v end
    end
  end
  return lo, hi, bad
end

function colors.range(x)
  local values, data = open(x)
  local lo, hi, bad = scan(data, values:numel())
  handle.give_back(values)
  if lo > hi then return nil, nil, bad end
  return lo, hi, bad
end

-- 0 to 255; v is finite.
local function level(v, lo, span)
  if span <= 0 then return v > lo and 255 or 0 end
  local i = math.floor(255 * (v - lo) / span + 0.5)
  return i < 0 and 0 or i > 255 and 255 or i
end

local function paint_gray(data, n, out, lo, span)
  for i = 0, n - 1 do out[i] = level(data[i], lo, span) end
end

local function paint_map(data, n, out, lo, span, map)
  for i = 0, n - 1 do
    local v, r, g, b = data[i], 255, 0, 255
    if v - v == 0 then
      local at = 3 * level(v, lo, span)
      r, g, b = map[at], map[at + 1], map[at + 2]
    end
    out[i], out[n + i], out[2 * n + i] = r, g, b
  end
end

local function paint_rgb(data, n, out, lo, span)
  for i = 0, n - 1 do
    local r, g, b = data[i], data[n + i], data[2 * n + i]
    if r - r == 0 and g - g == 0 and b - b == 0 then
      out[i], out[n + i], out[2 * n + i] =
        level(r, lo, span), level(g, lo, span), level(b, lo, span)
    else
      out[i], out[n + i], out[2 * n + i] = 255, 0, 255
    end
  end
end

-- What the caller left open of lo and hi.
local function limits(options, map, least, most)
  local lo, hi = options.lo, options.hi
  if map == "diverging" and not lo and not hi then
    hi = math.max(math.abs(least), math.abs(most))
    return -hi, hi
  end
  return lo or least, hi or most
end

function colors.apply(x, options)
  options = options or {}
  local is_rgb = x:dim() == 3
  local name = options.map or "gray"
  local map = table_of(name)
  local h, w = x:size(-2), x:size(-1)
  local values, data = open(x)
  local least, most, bad = scan(data, values:numel())
  local flat = least == most
  if least > most then least, most = 0, 0 end
  local lo, hi = limits(options, name, least, most)
  local paint = is_rgb and paint_rgb or name == "gray" and bad == 0 and paint_gray or paint_map
  local channels = paint == paint_gray and 1 or 3
  local out = ffi.new("uint8_t[?]", math.max(1, channels * h * w))
  paint(data, h * w, out, lo, hi - lo, map)
  handle.give_back(values)
  local sizes = ffi.new("int64_t[3]", channels, h, w)
  return handle.wrap(C.cnn_from_data(sizes, 3, "u8", out)), bad, flat
end

return colors
