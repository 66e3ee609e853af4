-- show.lua - a picture in the terminal, as well as that can.
--
--   require "cnn.terminal.show"(pixels, { columns = nil, kind = nil })
--
-- pixels: u8 C x H x W with 1 or 3 channels. columns: as many at most, else as wide as the terminal
-- is; kind: one of screen.lua's, else what the terminal can. A wider picture is reduced, and so is
-- one higher than many screens; a small one is magnified by a whole number. show.text is for what
-- can be told in characters instead.
-- Surprising: where standard output is no terminal nothing is drawn, and one line says so; a log
-- full of escape sequences helps nobody.

local argument = require "cnn.argument"
local err = require "cnn.error"
local pixel = require "cnn.terminal.pixels"
local screen = require "cnn.terminal.screen"

-- A picture that stays below on both sides is magnified: pixels, and characters of one pixel.
local SMALL, SMALL_IN_BLOCKS = 256, 32
local MOST_LINES = 200 -- of characters; what is higher is reduced

local encoders = {
  kitty = function(x) return require "cnn.terminal.inline".kitty(x) .. "\n" end,
  iterm = function(x) return require "cnn.terminal.inline".iterm(x) .. "\n" end,
  sixel = function(x) return require "cnn.terminal.sixel".encode(x) .. "\n" end,
  blocks = function(x) return require "cnn.terminal.blocks".encode(x) end,
  ascii = function(x) return require "cnn.terminal.blocks".ascii(x) end,
}

-- In widest x highest pixels of the picture's; a pixel shown is `tall` times as high as wide.
local function fit(x, widest, highest, small, tall)
  local height, width = x:size(2), x:size(3)
  local times = math.floor(math.min(small / height, small / width, widest / width))
  if times > 1 then
    x, height, width = pixel.magnify(x, times), height * times, width * times
  end
  local share = math.min(1, widest / width, highest / height)
  local h = math.max(1, math.floor(height * share / tall + 0.5))
  local w = math.max(1, math.floor(width * share + 0.5))
  if h == height and w == width then return x end
  return pixel.reduce(x, h, w)
end

local function fitted(x, kind, columns)
  if screen.has_pixels(kind) then
    local width, height = screen.cell()
    return fit(x, columns * width, MOST_LINES * height, SMALL, 1)
  end
  return fit(x, columns, 2 * MOST_LINES, SMALL_IN_BLOCKS, kind == "ascii" and 2 or 1)
end

-- What is asked for, or found: the kind and how many columns.
local function target(options)
  local who = "picture:show"
  options = argument.options(who, options, { "columns", "kind" })
  local columns, kind = argument.optional_whole(who, "columns", options.columns), options.kind
  if kind ~= nil and kind ~= "none" and not encoders[kind] then
    err.raise(("%s: kind: expected one of %s, got %s"):format(who,
      table.concat(screen.kinds, ", "), err.got(kind)))
  end
  return kind or screen.kind(), columns or screen.columns()
end

local show = {}

-- For pictures that are mostly text: where the terminal shows no pixels, writes what
-- as_text(columns, color) gives, and returns true.
function show.text(as_text, options)
  local kind, columns = target(options)
  if kind ~= "blocks" and kind ~= "ascii" then return false end
  io.write(as_text(columns, kind == "blocks"))
  io.flush()
  screen.settle()
  return true
end

local function call(_, pixels, options)
  local kind, columns = target(options)
  if kind == "none" then
    io.write(("picture %dx%d: the output is no terminal; :png(file) writes it\n"):format(
      pixels:size(3), pixels:size(2)))
    return
  end
  io.write(encoders[kind](fitted(pixels, kind, columns)))
  io.flush()
  screen.settle()
end

return setmetatable(show, { __call = call })
