-- argument.lua - checks what users hand to constructors: options, whole numbers, pairs.
--
-- Every function takes the caller's name for its message and raises at the user's line.

local err = require "cnn.error"

local argument = {}

-- The number of edits between two words, for "did you mean".
local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local diagonal = row[0]
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local best = math.min(row[j] + 1, row[j - 1] + 1, diagonal + cost)
      diagonal, row[j] = row[j], best
    end
  end
  return row[#b]
end

-- The known word that `word` is a slip of, or nil.
function argument.nearest(word, known)
  local best, least = nil, math.max(1, math.floor(#word * 0.4)) + 1
  for _, candidate in ipairs(known) do
    local d = distance(word, candidate)
    if d < least then best, least = candidate, d end
  end
  return best
end

-- Returns `options` or {}, after checking that all of its keys are in the list `known`.
function argument.options(who, options, known)
  if options == nil then return {} end
  if type(options) ~= "table" then
    err.raise(who .. ": options: expected a table, got " .. err.got(options))
  end
  local names = {}
  for _, name in ipairs(known) do names[name] = true end
  for name in pairs(options) do
    if not names[name] then
      name = type(name) == "string" and #name <= 80 and name or err.got(name)
      local hint = argument.nearest(name, known)
      local list = #known > 0 and "known: " .. table.concat(known, ", ") or "it has none"
      err.raise(("%s: unknown option '%s' (%s%s)"):format(who, name, list,
        hint and "; did you mean '" .. hint .. "'?" or ""))
    end
  end
  return options
end

-- (first, options) of a call that may leave out `first`: a plain table in its place is the options.
function argument.may_skip(first, options)
  if options == nil and type(first) == "table" and getmetatable(first) == nil then
    return nil, first
  end
  return first, options
end

-- Beyond 2^53 not every whole number is one that Lua has.
local function is_whole(value)
  return type(value) == "number" and value % 1 == 0 and math.abs(value) <= 2 ^ 53
end

-- least <= value <= 2^53
function argument.whole(who, name, value, least)
  if not is_whole(value) or value < least then
    err.raise(("%s: %s: expected a whole number >= %d, got %s")
      :format(who, name, least, err.got(value)))
  end
  return value
end

-- A whole number >= 1, or nil: found at the first input.
function argument.optional_whole(who, name, value)
  if value == nil then return nil end
  return argument.whole(who, name, value, 1)
end

local MOST_PIXELS = 2 ^ 31 - 1 -- a side, in the engine

-- A number or {h, w} -> h, w.
function argument.pair(who, name, value, least)
  local function is_side(v) return is_whole(v) and v >= least and v <= MOST_PIXELS end
  if is_side(value) then return value, value end
  if type(value) == "table" and #value == 2 then
    local h, w = value[1], value[2]
    if is_side(h) and is_side(w) then return h, w end
  end
  err.raise(("%s: %s: expected a whole number >= %d or two of them {h, w}, got %s")
    :format(who, name, least, type(value) == "table" and "another table" or err.got(value)))
end

-- A finite number with least <= value < below (either bound may be nil).
function argument.number(who, name, value, least, below)
  local fits = type(value) == "number" and value - value == 0 and
    (not least or value >= least) and (not below or value < below)
  if not fits then
    local range = "a finite number"
    if least and below then
      range = ("a number in [%g, %g)"):format(least, below)
    elseif least then
      range = ("a finite number >= %g"):format(least)
    end
    err.raise(("%s: %s: expected %s, got %s"):format(who, name, range, err.got(value)))
  end
  return value
end

function argument.string(who, name, value)
  if type(value) ~= "string" then
    err.raise(("%s: %s: expected a string, got %s"):format(who, name, err.got(value)))
  end
  return value
end

-- nil -> default.
function argument.boolean(who, name, value, default)
  if value == nil then return default end
  if type(value) ~= "boolean" then
    err.raise(("%s: %s: expected true or false, got %s"):format(who, name, err.got(value)))
  end
  return value
end

return argument
