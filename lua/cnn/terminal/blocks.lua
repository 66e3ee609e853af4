-- blocks.lua - pictures made of characters, for terminals that show no pixels.
--
--   blocks.encode(picture)     a character for two pixels, one above the other, in 24-bit colour
--   blocks.ascii(picture)      a character for each pixel, a dense one where it is light
--
-- picture: u8 C x H x W with 1 or 3 channels. Each gives lines of text that end with a newline.
-- Surprising: a colour is sent only when it changes, so much of a picture is plain characters; and
-- at a line's end colours are taken back, or a terminal would fill the rest with the last one.

local pixels = require "cnn.terminal.pixels"

local UPPER_HALF = "\226\150\128" -- U+2580
local RESET = "\27[0m"
local RAMP = " .:-=+*#%@"

local blocks = {}

local function code(which, color)
  return ("\27[%d;2;%d;%d;%dm"):format(which, math.floor(color / 65536),
    math.floor(color / 256) % 256, color % 256)
end

-- Adds a line to `parts`: the pixels from `upper` on, above those from `lower` on. nil: none; what
-- is below the last row of an odd number keeps the terminal's own colour.
local function add_line(parts, color_at, width, upper, lower)
  local fore, back
  for x = 0, width - 1 do
    local over = color_at(upper + x)
    local under = lower and color_at(lower + x)
    if under ~= back then
      parts[#parts + 1] = code(48, under)
      back = under
    end
    if over ~= under and over ~= fore then
      parts[#parts + 1] = code(38, over)
      fore = over
    end
    parts[#parts + 1] = over == under and " " or UPPER_HALF
  end
  parts[#parts + 1] = RESET .. "\n"
end

local function encode(data, plane, height, width)
  local function color_at(i)
    return data[i] * 65536 + data[i + plane] * 256 + data[i + 2 * plane]
  end
  local parts = {}
  for y = 0, height - 1, 2 do
    add_line(parts, color_at, width, y * width, y + 1 < height and (y + 1) * width or nil)
  end
  return table.concat(parts)
end

function blocks.encode(picture) return pixels.read(picture, encode) end

-- How light a pixel is goes by the weights of ITU-R 601.
local function encode_ascii(data, plane, height, width)
  local lines = {}
  for y = 0, height - 1 do
    local line = {}
    for x = 0, width - 1 do
      local i = y * width + x
      local light = 0.299 * data[i] + 0.587 * data[i + plane] + 0.114 * data[i + 2 * plane]
      local step = math.floor(light / 256 * #RAMP) + 1
      line[x + 1] = RAMP:sub(step, step)
    end
    lines[y + 1] = table.concat(line):gsub(" +$", "") .. "\n"
  end
  return table.concat(lines)
end

function blocks.ascii(picture) return pixels.read(picture, encode_ascii) end

return blocks
