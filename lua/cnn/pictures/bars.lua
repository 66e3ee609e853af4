-- bars.lua - a row of numbers as bars: what a layer that gives a vector looks like.
--
--   bars.draw(x, { title = })  -> pixels, notes, places
--
-- x: one axis. Bars stand on the line of zero, blue upwards and red downwards; a value that is not
-- finite is a magenta bar from top to bottom. Long vectors go on in further strips, all of one
-- scale. places[i]: { left, top, width, height } of the space that bar i has.
--
-- Surprising: zero always belongs to the range, so that the heights can be compared by eye.

local canvas = require "cnn.pictures.canvas"
local colors = require "cnn.pictures.colors"
local tiles = require "cnn.pictures.tiles"

local bars = {}

local WIDE, HIGH = 960, 140 -- pixels of a strip
local NARROW, MOST = 3, 40  -- of a bar; it is one pixel where there are more than MANY
local MANY, LIMIT = 4096, 30720
local MARGIN, GAP = 8, 6
local LABEL, TITLE = 11, 14
local INK, LINE, GROUND = canvas.INK, { 120, 120, 125 }, { 244, 244, 246 }
local UP, DOWN = { 31, 119, 180 }, { 203, 67, 53 }

-- The range with zero in it, and how many values are not finite.
local function range_of(x)
  local lo, hi, bad = colors.range(x)
  lo, hi = math.min(0, lo or 0), math.max(0, hi or 0)
  if lo == hi then hi = 1 end
  return lo, hi, bad
end

local function number(v) return ("%.3g"):format(v) end

-- Every how manieth bar has its number.
local function number_step(width, count)
  local room = canvas.text_size(tostring(count), { size = LABEL }) + 4
  for _, step in ipairs { 1, 2, 5, 10, 20, 50, 100, 200, 500 } do
    if step * width >= room then return step end
  end
  return 1000
end

local function plan(count, title, lo, hi)
  local least = count <= MANY and NARROW or 1
  local p = { width = math.max(least, math.min(MOST, math.floor(WIDE / count))) }
  p.columns = math.min(count, math.floor(WIDE / p.width))
  p.strips = math.ceil(count / p.columns)
  local label = { size = LABEL }
  local low, line_height = canvas.text_size(number(lo), label)
  local axis = math.max(low, (canvas.text_size(number(hi), label)))
  local title_width, title_height = 0, 0
  if title then title_width, title_height = canvas.text_size(title, { size = TITLE }) end
  p.left = MARGIN + axis + GAP
  p.top = MARGIN + (title and title_height + GAP or 0)
  p.pitch = HIGH + line_height + GAP
  p.line_height = line_height
  local right = 2 * MARGIN -- the last number stands out
  p.picture_width = math.max(p.left + p.columns * p.width, MARGIN + title_width) + right
  p.picture_height = p.top + p.strips * p.pitch - GAP + MARGIN
  return p
end

-- How far below the strip's top the value lies, in whole pixels.
local function depth_of(v, lo, hi) return math.floor((hi - v) / (hi - lo) * HIGH + 0.5) end

local function draw_bar(c, place, v, lo, hi)
  local left, top, width = place[1], place[2], place[3]
  local inner = width > 4 and width - 2 or width -- a gap between bars that are wide enough
  if v - v ~= 0 then return c:fill(left, top, inner, HIGH, colors.MAGENTA) end
  local zero, at = depth_of(0, lo, hi), depth_of(v, lo, hi)
  c:fill(left, top + math.min(zero, at), inner, math.abs(zero - at), v > 0 and UP or DOWN)
end

local function draw_strip(c, p, strip, count, lo, hi)
  local top = p.top + (strip - 1) * p.pitch
  local here = math.min(p.columns, count - (strip - 1) * p.columns)
  local zero = depth_of(0, lo, hi)
  local label = { size = LABEL, color = INK, align = "right" }
  c:fill(p.left, top, here * p.width, HIGH, GROUND)
  c:fill(p.left, top + math.min(zero, HIGH - 1), here * p.width, 1, LINE)
  c:text(p.left - GAP, top, number(hi), label)
  c:text(p.left - GAP, top + HIGH - p.line_height, number(lo), label)
  if zero > 2 * p.line_height and zero < HIGH - 2 * p.line_height then
    c:text(p.left - GAP, top + zero - math.floor(p.line_height / 2), "0", label)
  end
end

local function draw_numbers(c, p, places)
  local step = number_step(p.width, #places)
  for i, place in ipairs(places) do
    if i % step == 0 or i == 1 and step <= 2 then
      c:text(place[1] + place[3] / 2, place[2] + HIGH, tostring(i),
        { size = LABEL, color = INK, align = "center" })
    end
  end
end

function bars.draw(x, options)
  local title = options and options.title
  local shown, notes = tiles.first(x:size(1), LIMIT, "values")
  x = x:narrow(1, 1, #shown)
  local values, lo, hi, bad = x:totable(), range_of(x)
  local p = plan(#values, title, lo, hi)
  local c = canvas.new(p.picture_width, p.picture_height)
  if title then c:text(MARGIN, MARGIN, title, { size = TITLE, color = INK }) end
  local places = {}
  for strip = 1, p.strips do draw_strip(c, p, strip, #values, lo, hi) end
  for i, v in ipairs(values) do
    local column, strip = (i - 1) % p.columns, math.floor((i - 1) / p.columns)
    places[i] = { p.left + column * p.width, p.top + strip * p.pitch, p.width, HIGH }
    draw_bar(c, places[i], v, lo, hi)
  end
  draw_numbers(c, p, places)
  for _, note in ipairs(tiles.bad_notes(bad)) do notes[#notes + 1] = note end
  return c:finish(), notes, places
end

return bars
