-- canvas.lua - a sheet of pixels to put pictures, text, bars and frames on, by cairo.
--
--   local c = canvas.new(width, height, { background = { 255, 255, 255 } })
--   c:blit(pixels, left, top, scale)       pixels: u8 1 or 3 x H x W; a pixel becomes scale x scale
--   c:text(left, top, "conv1", { size = 12, color =, align = "left", bold = false })
--   c:fill(left, top, width, height, color)      c:frame(...), a border of 1 pixel inside of it
--   c:pixels()   u8 3 x H x W, or 1 x H x W where all is gray
--   c:finish()   the same, and the canvas is given back
--
-- Pixels count from 0, colours are { r, g, b } of 0 to 255; what lies outside is cut off. With
-- align "center" or "right", `left` is the text's middle or its right end.
--
-- Surprising: the pixels lie in a tensor and cairo only draws there. So the engine knows how much
-- memory canvases hold, and handle.lua collects those that nobody gave back.

local ffi = require "ffi"
local bit = require "bit"
local C = require "cnn.ffi".C
local err = require "cnn.error"
local handle = require "cnn.handle"
local library = require "cnn.library"

ffi.cdef [[
void *cairo_image_surface_create_for_data(void *data, int format, int width, int height,
                                          int stride);
void cairo_surface_destroy(void *surface);
void *cairo_create(void *surface);
void cairo_destroy(void *cr);
int cairo_status(void *cr);
const char *cairo_status_to_string(int status);
void cairo_set_source_rgb(void *cr, double r, double g, double b);
void cairo_rectangle(void *cr, double x, double y, double width, double height);
void cairo_move_to(void *cr, double x, double y);
void cairo_fill(void *cr);
void cairo_surface_flush(void *surface);
void cairo_surface_mark_dirty(void *surface);
void cairo_select_font_face(void *cr, const char *family, int slant, int weight);
void cairo_set_font_size(void *cr, double size);
void cairo_font_extents(void *cr, double *extents);
void cairo_text_extents(void *cr, const char *utf8, double *extents);
void cairo_show_text(void *cr, const char *utf8);
]]

local band, rshift = bit.band, bit.rshift
local RGB24 = 1          -- a 32-bit word a pixel, 0x00RRGGBB
local MOST_SIDE = 32767  -- in cairo
local MOST_PIXELS = 2 ^ 28
local BLACK, WHITE = { 0, 0, 0 }, { 255, 255, 255 }

-- Of text, of what is said beside it, and of what is wrong.
local canvas = { INK = { 30, 30, 30 }, PALE = { 110, 110, 115 }, WRONG = { 190, 30, 20 } }

local Canvas = {}
Canvas.__index = Canvas

local function cairo()
  return library "libcairo.so.2"
    or err.raise "pictures are drawn by libcairo.so.2: apt-get install libcairo2"
end

local function check(self)
  local status = cairo().cairo_status(self.context)
  if status ~= 0 then
    err.raise("a picture cannot be drawn: " .. ffi.string(cairo().cairo_status_to_string(status)))
  end
end

-- A new u8 tensor that outlives a recorded step, and the address of its bytes.
local function bytes(...)
  local n = select("#", ...)
  local x = handle.keep(handle.wrap(C.cnn_empty(ffi.new("int64_t[?]", n, ...), n, "u8", "cpu")))
  return x, handle.data(x)
end

function canvas.new(width, height, options)
  local fits = width >= 1 and height >= 1 and width <= MOST_SIDE and height <= MOST_SIDE
  if not fits or width * height > MOST_PIXELS then
    err.raise(("a picture of %.0fx%.0f pixels is too large (at most %d a side, %d in all): draw "
      .. "fewer tiles, or in other columns"):format(width, height, MOST_SIDE, MOST_PIXELS))
  end
  local lib = cairo()
  local words, data = bytes(height, width, 4)
  local surface = lib.cairo_image_surface_create_for_data(data, RGB24, width, height, 4 * width)
  surface = ffi.gc(surface, lib.cairo_surface_destroy)
  local self = setmetatable({
    width = width, height = height, words = words, data = ffi.cast("uint32_t *", data),
    surface = surface, context = ffi.gc(lib.cairo_create(surface), lib.cairo_destroy),
  }, Canvas)
  check(self)
  self:fill(0, 0, width, height, options and options.background or WHITE)
  return self
end

-- The canvas is no more; without this the collector sees to it.
function Canvas:close()
  local lib = cairo()
  lib.cairo_destroy(ffi.gc(self.context, nil))
  lib.cairo_surface_destroy(ffi.gc(self.surface, nil))
  handle.give_back(self.words)
  self.context, self.surface, self.words, self.data = nil, nil, nil, nil
end

-- --------------------------------------------------------------------------------------- pixels

-- A picture row after row: a tensor, to be given back after the last look at its bytes; these; its
-- three sizes.
local function open(pixels)
  local fits = handle.is_tensor(pixels) and pixels.dtype == "u8" and pixels:dim() == 3
    and (pixels:size(1) == 1 or pixels:size(1) == 3)
  if not fits then
    err.raise("expected pixels: u8 C x H x W with 1 or 3 channels, got " .. err.got(pixels))
  end
  local x = pixels:to("cpu"):contiguous()
  return x, ffi.cast("uint8_t *", handle.data(x)), x:size(1), x:size(2), x:size(3)
end

-- Row `y` of the source into the words from `row` on, columns first .. last of the canvas.
local function blit_row(row, data, channels, plane, at, left, scale, first, last)
  local green, blue = plane, 2 * plane
  if channels == 1 then green, blue = 0, 0 end
  for x = first, last do
    local i = at + math.floor((x - left) / scale)
    row[x] = data[i] * 65536 + data[i + green] * 256 + data[i + blue]
  end
end

function Canvas:blit(pixels, left, top, scale)
  scale = scale or 1
  local source, data, channels, h, w = open(pixels)
  local first, last = math.max(0, left), math.min(self.width, left + w * scale) - 1
  cairo().cairo_surface_flush(self.surface)
  for y = 0, h - 1 do
    local from, to = math.max(0, top + y * scale), math.min(self.height, top + (y + 1) * scale) - 1
    if first <= last and from <= to then
      local row = self.data + from * self.width
      blit_row(row, data, channels, h * w, y * w, left, scale, first, last)
      for copy = from + 1, to do
        ffi.copy(self.data + copy * self.width + first, row + first, 4 * (last - first + 1))
      end
    end
  end
  cairo().cairo_surface_mark_dirty(self.surface)
  handle.give_back(source)
end

-- Cairo leaves anything in the highest byte.
local function is_gray(words, count)
  for i = 0, count - 1 do
    local word = words[i]
    if band(word, 0xffffff) ~= band(word, 255) * 0x010101 then return false end
  end
  return true
end

local function unpack_words(words, plane, channels, data)
  for i = 0, plane - 1 do
    local word = words[i]
    data[i] = band(rshift(word, 8 * (channels - 1)), 255)
    if channels == 3 then
      data[plane + i], data[2 * plane + i] = band(rshift(word, 8), 255), band(word, 255)
    end
  end
end

-- Gray ones are a third of the work for whoever packs or sends them.
function Canvas:pixels()
  check(self)
  cairo().cairo_surface_flush(self.surface)
  local plane = self.width * self.height
  local channels = is_gray(self.data, plane) and 1 or 3
  local x, data = bytes(channels, self.height, self.width)
  unpack_words(self.data, plane, channels, ffi.cast("uint8_t *", data))
  return x
end

function Canvas:finish()
  local x = self:pixels()
  self:close()
  return x
end

-- --------------------------------------------------------------------------------------- shapes

local function set_color(self, color)
  cairo().cairo_set_source_rgb(self.context, color[1] / 255, color[2] / 255, color[3] / 255)
end

function Canvas:fill(left, top, width, height, color)
  set_color(self, color)
  cairo().cairo_rectangle(self.context, left, top, width, height)
  cairo().cairo_fill(self.context)
end

function Canvas:frame(left, top, width, height, color)
  self:fill(left, top, width, 1, color)
  self:fill(left, top + height - 1, width, 1, color)
  self:fill(left, top, 1, height, color)
  self:fill(left + width - 1, top, 1, height, color)
end

-- ----------------------------------------------------------------------------------------- text

-- The forms of a UTF-8 character; cairo draws nothing more once it has met anything else.
local forms = {
  "^[\32-\126]+", "^[\194-\223][\128-\191]", "^\224[\160-\191][\128-\191]",
  "^[\225-\236\238\239][\128-\191][\128-\191]", "^\237[\128-\159][\128-\191]",
  "^\240[\144-\191][\128-\191][\128-\191]", "^[\241-\243][\128-\191][\128-\191][\128-\191]",
  "^\244[\128-\143][\128-\191][\128-\191]",
}

local function form_at(text, at)
  for _, form in ipairs(forms) do
    local found = text:match(form, at)
    if found then return found end
  end
end

local function clean(text)
  text = tostring(text)
  local parts, at = {}, 1
  while at <= #text do
    local part = form_at(text, at)
    parts[#parts + 1] = part or "?"
    at = at + (part and #part or 1)
  end
  return table.concat(parts)
end

local extents = ffi.new("double[6]")

-- Sets the font; the height of a line and how far its base is below its top.
local function set_font(self, options)
  local lib = cairo()
  lib.cairo_select_font_face(self.context, "sans", 0, options.bold and 1 or 0)
  lib.cairo_set_font_size(self.context, options.size or 12)
  lib.cairo_font_extents(self.context, extents)
  local ascent, descent = math.ceil(extents[0]), math.ceil(extents[1])
  return ascent + descent, ascent
end

local function width_of(self, text)
  cairo().cairo_text_extents(self.context, text, extents)
  return math.ceil(extents[4]) -- x_advance
end

local shares = { left = 0, center = 0.5, right = 1 }

function Canvas:text(left, top, text, options)
  options = options or {}
  text = clean(text)
  local _, base = set_font(self, options)
  local share = shares[options.align or "left"]
  if share > 0 then left = math.floor(left - share * width_of(self, text) + 0.5) end
  set_color(self, options.color or BLACK)
  cairo().cairo_move_to(self.context, left, top + base)
  cairo().cairo_show_text(self.context, text)
  check(self)
end

function Canvas:text_size(text, options)
  local height = set_font(self, options or {})
  return width_of(self, clean(text)), height
end

local ruler

-- The same before there is a canvas: width, height.
function canvas.text_size(text, options)
  ruler = ruler or canvas.new(1, 1)
  return ruler:text_size(text, options)
end

return canvas
