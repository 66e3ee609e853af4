-- picture.lua - what every picture can: be written, be shown, tell its size.
--
--   picture.new(pixels, { notes = { "3 values are not finite (magenta)" }, text = "maps of b3",
--     places = { { left, top }, ... } })
--   picture.extend(class)      the same methods for a class that has :draw() -> pixels; one that is
--                              mostly text also has :as_text(columns, color), its lines for a
--                              terminal without pixels
--   picture.headline(p, what)  "maps of b3: picture 640x480 (:show(), :png(file))"
--
-- pixels is a u8 tensor C x H x W with 1 or 3 channels. p.places, of a grid, tells where in the
-- picture each tile begins, in pixels from 0, and places.scale how many pixels a side one of its
-- pixels is.
--
-- Surprising: a result that is also a picture (a confusion matrix) is drawn when it is first asked
-- for one, so that it costs nothing more to those who want its numbers.

local C = require "cnn.ffi".C
local argument = require "cnn.argument"
local err = require "cnn.error"
local handle = require "cnn.handle"

local picture = {}

local drawn = setmetatable({}, { __mode = "k" }) -- picture -> its pixels, kept out of its fields

local methods = {}

local function check(pixels)
  local fits = handle.is_tensor(pixels) and pixels.dtype == "u8" and pixels:dim() == 3
    and (pixels:size(1) == 1 or pixels:size(1) == 3) and pixels:numel() > 0
  if not fits then
    err.raise("a picture: expected u8 C x H x W with 1 or 3 channels, got " .. err.got(pixels))
  end
  return pixels
end

--- picture:pixels()
-- The picture as a tensor, u8 of 0 to 255: 3 x H x W, or 1 x H x W where it is gray.
-- Example: cnn.image.grid(x):pixels():shape()
-- See: cnn.image.write
function methods:pixels()
  drawn[self] = drawn[self] or check(self:draw())
  return drawn[self]
end

--- picture:size()
-- Height and width in pixels.
-- Example: local height, width = cnn.image.grid(x):size()
function methods:size()
  local pixels = self:pixels()
  return pixels:size(2), pixels:size(3)
end

--- picture:png(file)
-- Writes the picture as a PNG file and returns it. The file is there whole or not at all.
-- Errors: a file that cannot be written, a directory that does not exist
-- Example: cnn.image.grid(x):png "batch.png"
-- See: picture:show
function methods:png(file)
  argument.string("picture:png(file)", "file", file)
  if C.cnn_png_write(file, self:pixels()) ~= 0 then handle.fail() end
  return self
end

--- picture:show({ kind = nil, columns = nil })
-- Draws the picture in the terminal, as well as that can, and returns it.
-- Options: kind: "kitty", "iterm", "sixel", "blocks" or "ascii", otherwise what the terminal is
--   found to be, or $CNNLUA_PICTURES says; columns: how wide, otherwise as the terminal is
-- Errors: an unknown kind is told with those that there are
-- Example: cnn.image.grid(x):show()
-- See: picture:png
function methods:show(options)
  local show = require "cnn.terminal.show"
  local function as_text(columns, color) return self:as_text(columns, color) end
  if not (self.as_text and show.text(as_text, options)) then show(self:pixels(), options) end
  return self
end

-- The methods, for a class of results; its own come first.
function picture.extend(class)
  for name, method in pairs(methods) do
    if class[name] == nil then class[name] = method end
  end
  return class
end

function picture.headline(p, what)
  local height, width = p:size()
  what = what and what .. ": " or ""
  return ("%spicture %dx%d (:show(), :png(file))"):format(what, width, height)
end

-- ------------------------------------------------------------------------------ a plain picture

local Picture = picture.extend {}
Picture.__index = Picture

function Picture:__tostring()
  local lines = { picture.headline(self, self.text) }
  for _, note in ipairs(self.notes) do lines[#lines + 1] = note end
  return table.concat(lines, "\n")
end

function picture.new(pixels, options)
  options = options or {}
  local self = setmetatable({
    notes = options.notes or {}, text = options.text, places = options.places,
  }, Picture)
  drawn[self] = check(pixels)
  return self
end

return picture
