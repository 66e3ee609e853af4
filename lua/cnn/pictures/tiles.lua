-- tiles.lua - values as the small pictures of a grid, and the options that say how.
--
--   tiles.options(who, options, known, own, default)   scale, colors, columns and the `known` ones
--   tiles.choose(who, name, wanted, count, most)  -> numbers, notes: which ones are drawn
--   tiles.draw(list, options)                     -> tiles, notes, range, as a title says it
--   tiles.grid(list, options, layout, notes)      -> pixels, notes, places; layout: grid.draw's
--   tiles.channels(who, x, title, options)        the same of x's channels, with their numbers
--
-- list: tensors H x W, or 3 x H x W in colour. scale is `own` (the word for: each tile its own
-- range), "all" (one range for all) or { lo, hi }; colors is one of colors.names.
--
-- Surprising: a tile whose values are all the same is black under its own range, whatever they are;
-- a note says how many there are.

local argument = require "cnn.argument"
local colors = require "cnn.pictures.colors"
local err = require "cnn.error"
local grid = require "cnn.pictures.grid"
local text = require "cnn.text"

local tiles = {}

local MOST_TILES = 1024
local MOST_PIXELS = 2 ^ 24 -- of a grid, unless more is asked for

local function check_scale(who, scale, own)
  if scale == own or scale == "all" then return scale end
  local fits = type(scale) == "table" and #scale == 2
  for i = 1, 2 do
    fits = fits and type(scale[i]) == "number" and scale[i] - scale[i] == 0
  end
  if not fits or scale[1] >= scale[2] then
    err.raise(("%s: scale: expected '%s', 'all' or { lo, hi } with lo < hi, got %s"):format(who,
      own, type(scale) == "table" and text.value(scale) or err.got(scale)))
  end
  return { scale[1], scale[2] }
end

local function check_colors(who, name)
  for _, known in ipairs(colors.names) do
    if known == name then return name end
  end
  err.raise(("%s: colors: expected one of %s, got %s"):format(who,
    table.concat(colors.names, ", "), err.got(name)))
end

-- A copy of the options with the defaults put in; `own` is that of scale unless it is said.
function tiles.options(who, options, known, own, default)
  options = argument.options(who, options, { "scale", "colors", "columns", unpack(known) })
  local checked = {}
  for name, value in pairs(options) do checked[name] = value end
  if options.scale == nil then checked.scale = default or own end
  checked.scale = check_scale(who, checked.scale, own)
  checked.colors = check_colors(who, options.colors == nil and "gray" or options.colors)
  argument.optional_whole(who, "columns", options.columns)
  return checked
end

-- As many tiles of h x w as are drawn when nobody says how many.
function tiles.most(h, w)
  return math.max(1, math.min(MOST_TILES, math.floor(MOST_PIXELS / (h * w))))
end

-- 1 to `count`, at most the first `most`; and a list with a note, where some are left out.
function tiles.first(count, most, what)
  local list, notes = {}, {}
  for i = 1, math.min(count, most) do list[i] = i end
  if count > most then
    notes[1] = ("the first %d of %s %s"):format(most, text.commas(count), what)
  end
  return list, notes
end

-- Those that the list `wanted` has, or the first `wanted`, or, when it is nil, the first `most`.
function tiles.choose(who, name, wanted, count, most)
  if wanted == nil then
    local list, notes = tiles.first(count, most, name)
    if notes[1] then notes[1] = ("%s; %s = { ... } says which"):format(notes[1], name) end
    return list, notes
  end
  if type(wanted) ~= "table" then
    return (tiles.first(count, argument.whole(who, name, wanted, 1), name)), {}
  end
  if #wanted == 0 then
    err.raise(("%s: %s: expected a number or a list of numbers, got an empty table")
      :format(who, name))
  end
  for _, i in ipairs(wanted) do
    if argument.whole(who, name, i, 1) > count then
      err.raise(("%s: %s: expected 1 to %d, got %d"):format(who, name, count, i))
    end
  end
  return { unpack(wanted) }, {}
end

-- Of all together; nil, nil when no value is finite.
local function common_range(list)
  local lo, hi
  for _, x in ipairs(list) do
    local least, most = colors.range(x)
    if least then lo, hi = math.min(lo or least, least), math.max(hi or most, most) end
  end
  return lo, hi
end

-- "1 value is", "3 values of the maps are" not finite, as a list of notes: empty for none.
function tiles.bad_notes(bad, where)
  if bad == 0 then return {} end
  where = where or ""
  return { text.counted(bad, "value" .. where .. " is", "values" .. where .. " are")
    .. " not finite (magenta)" }
end

local function flat_note(count)
  return text.counted(count, "tile has", "tiles have") .. " one value everywhere"
end

function tiles.draw(list, options)
  local scale, lo, hi = options.scale, nil, nil
  if scale == "all" then
    lo, hi = common_range(list)
  elseif type(scale) == "table" then
    lo, hi = unpack(scale)
  end
  local drawn, bad, flat = {}, 0, 0
  for i, x in ipairs(list) do
    local bad_here, flat_here
    drawn[i], bad_here, flat_here = colors.apply(x, { lo = lo, hi = hi, map = options.colors })
    bad = bad + bad_here
    if flat_here and not lo then flat = flat + 1 end
  end
  local notes = tiles.bad_notes(bad)
  if flat > 0 then notes[#notes + 1] = flat_note(flat) end
  return drawn, notes, lo and ("%.3g to %.3g"):format(lo, hi) or "each its own range"
end

-- Side by side; the title is made to say the range, and what is there to note is added to `notes`.
function tiles.grid(list, options, layout, notes)
  local drawn, bad, range = tiles.draw(list, options)
  for _, note in ipairs(bad) do notes[#notes + 1] = note end
  if layout.title then layout.title = layout.title .. ", " .. range end
  local pixels, places = grid.draw(drawn, layout)
  return pixels, notes, places
end

-- x: C x H x W, or C x 3 x H x W; options.channels, columns and numbers say which and how.
function tiles.channels(who, x, title, options)
  local numbers, notes = tiles.choose(who, "channels", options.channels, x:size(1),
    tiles.most(x:size(-2), x:size(-1)))
  local list = {}
  for i, channel in ipairs(numbers) do list[i] = x[channel] end
  return tiles.grid(list, options, {
    columns = options.columns, labels = options.numbers and numbers or nil, title = title,
  }, notes)
end

return tiles
