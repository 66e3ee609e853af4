-- sixel.lua - a picture as DEC's sixel graphics (VT340), which many terminals know.
--
-- sixel.encode(picture) takes u8 C x H x W with 1 or 3 channels and gives the escape sequence. It
-- goes by bands of six rows; in each band every colour that occurs there is drawn over the whole
-- width, a character for the six pixels of a column. Surprising: colours are told in percent, so a
-- channel comes out up to 1.3 of 255 off.

local ffi = require "ffi"
local bit = require "bit"
local palette = require "cnn.terminal.palette"
local pixels = require "cnn.terminal.pixels"

local BAND = 6
local SHORTEST_RUN = 4 -- "!4~" is no longer than "~~~~"

local sixel = {}

local column = {} -- bits of a column, the topmost the lowest -> its character
for bits = 0, 63 do column[bits] = string.char(63 + bits) end

local function add_run(parts, bits, count)
  if count >= SHORTEST_RUN then
    parts[#parts + 1] = "!" .. count .. column[bits]
  elseif count > 0 then
    parts[#parts + 1] = column[bits]:rep(count)
  end
end

-- The columns of one colour up to its last one, which they are cleared of.
local function add_row(parts, columns, last)
  local run, bits = 0, columns[0]
  for x = 0, last do
    if columns[x] ~= bits then
      add_run(parts, bits, run)
      run, bits = 0, columns[x]
    end
    run = run + 1
    columns[x] = 0
  end
  add_run(parts, bits, run)
end

-- columns: for each colour a byte a column, all 0; last: for each -1. Both are so afterwards.
local function add_band(parts, index, width, first, rows, columns, last)
  local used = {}
  for y = 0, rows - 1 do
    for x = 0, width - 1 do
      local color = index[(first + y) * width + x]
      if last[color] < 0 then used[#used + 1] = color end
      last[color] = math.max(last[color], x)
      local at = color * width + x
      columns[at] = bit.bor(columns[at], bit.lshift(1, y))
    end
  end
  for i, color in ipairs(used) do
    parts[#parts + 1] = (i > 1 and "$#" or "#") .. color
    add_row(parts, columns + color * width, last[color])
    last[color] = -1
  end
  parts[#parts + 1] = "-"
end

local function encode(data, plane, height, width)
  local colors, index = palette.of(data, plane, height * width)
  local parts = { ('\27P0;1;0q"1;1;%d;%d'):format(width, height) }
  for i, color in ipairs(colors) do
    local function percent(c) return math.floor(color[c] / 255 * 100 + 0.5) end
    parts[#parts + 1] = ("#%d;2;%d;%d;%d"):format(i - 1, percent(1), percent(2), percent(3))
  end
  local columns = ffi.new("uint8_t[?]", #colors * width)
  local last = ffi.new("int[?]", #colors)
  for i = 0, #colors - 1 do last[i] = -1 end
  for first = 0, height - 1, BAND do
    add_band(parts, index, width, first, math.min(BAND, height - first), columns, last)
  end
  parts[#parts + 1] = "\27\\"
  return table.concat(parts)
end

function sixel.encode(picture) return pixels.read(picture, encode) end

return sixel
