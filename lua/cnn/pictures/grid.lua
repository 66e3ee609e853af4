-- grid.lua - many small pictures side by side.
--
--   grid.draw(tiles, { columns =, scale =, labels = {..}, gap =, title =, label_colors = {..},
--     rows = {..}, heads = {..}, marks = {..} }) -> pixels, places
--
-- tiles: u8 C x H x W with 1 or 3 channels, of any sizes; labels stand above them and may have
-- several lines. rows and heads name the rows at their left and the columns at their top. marks are
-- frames around some tiles or, with left, top, width, height in their pixels, around a part of one:
-- { [i] = { color =, thick = } }. columns and scale (how many pixels a side each pixel becomes) are
-- chosen when they are left out. places tells for each tile { left, top } of its first pixel, from
-- 0; places.scale and places.columns.
--
-- Surprising: the number of columns is one that fills all rows where there is such a one near the
-- square root, so that channel numbers stand in even columns.

local canvas = require "cnn.pictures.canvas"

local grid = {}

local INK, FRAME = canvas.INK, { 172, 172, 172 }
local MARGIN, GAP, SPACE = 8, 6, 3 -- SPACE: between a tile and its label
local LABEL, TITLE = 11, 14 -- font sizes
local SIDE = 1200           -- pixels, what a grid's longer side aims at
local LARGEST, ALONE, SMALLEST = 192, 1024, 32 -- what a tile may be magnified to

local function lines_of(text)
  local lines = {}
  for line in (tostring(text) .. "\n"):gmatch "([^\n]*)\n" do lines[#lines + 1] = line end
  return lines
end

-- The widest line and the height of all.
local function text_block(text, options)
  local width, height = 0, 0
  for _, line in ipairs(lines_of(text)) do
    local w, h = canvas.text_size(line, options)
    width, height = math.max(width, w), height + h
  end
  return width, height
end

local function largest_block(texts, n, options)
  local width, height = 0, 0
  for i = 1, n do
    if texts and texts[i] then
      local w, h = text_block(texts[i], options)
      width, height = math.max(width, w), math.max(height, h)
    end
  end
  return width, height
end

local function draw_text(c, left, top, text, options)
  for _, line in ipairs(lines_of(text)) do
    c:text(left, top, line, options)
    local _, height = c:text_size(line, options)
    top = top + height
  end
end

local function columns_for(n)
  local root = math.ceil(math.sqrt(n))
  for columns = root, 2 * root - 1 do
    if n % columns == 0 then return columns end
  end
  return root
end

local function largest_tile(tiles)
  local height, width = 1, 1
  for _, tile in ipairs(tiles) do
    height, width = math.max(height, tile:size(2)), math.max(width, tile:size(3))
  end
  return height, width
end

local function scale_for(columns, rows, height, width)
  local across, down = SIDE / columns - GAP, SIDE / rows - GAP
  local most = columns * rows == 1 and ALONE or LARGEST
  local scale = math.min(across / width, down / height, most / math.max(height, width))
  return math.max(1, math.floor(math.max(scale, SMALLEST / math.max(height, width))))
end

-- Where everything goes.
local function plan(tiles, options)
  local n = #tiles
  local columns = math.min(options.columns or columns_for(n), math.max(1, n))
  local height, width = largest_tile(tiles)
  local p = { columns = columns, rows = math.ceil(n / columns), gap = options.gap or GAP }
  p.scale = options.scale or scale_for(columns, p.rows, height, width)
  p.height, p.width = height * p.scale, width * p.scale
  local label_width, label_height = largest_block(options.labels, n, { size = LABEL })
  local head_width, head_height = largest_block(options.heads, columns, { size = LABEL })
  local row_width = largest_block(options.rows, p.rows, { size = LABEL })
  local title_width, title_height = 0, 0
  if options.title then title_width, title_height = text_block(options.title, { size = TITLE }) end
  p.label_height = label_height > 0 and label_height + SPACE or 0
  p.cell_width = math.max(p.width, label_width, head_width)
  p.cell_height = p.height + p.label_height
  p.left = MARGIN + (row_width > 0 and row_width + p.gap or 0)
  p.heads_top = MARGIN + (title_height > 0 and title_height + p.gap or 0)
  p.top = p.heads_top + head_height
  local across = p.left + columns * (p.cell_width + p.gap) - p.gap
  p.picture_width = math.max(across, MARGIN + title_width) + MARGIN
  p.picture_height = p.top + p.rows * (p.cell_height + p.gap) - p.gap + MARGIN
  return p
end

-- The left and the top of cell i.
local function cell(p, i)
  local column, row = (i - 1) % p.columns, math.floor((i - 1) / p.columns)
  return p.left + column * (p.cell_width + p.gap), p.top + row * (p.cell_height + p.gap)
end

local function draw_heads(c, p, options)
  for column = 1, options.heads and p.columns or 0 do
    local left = cell(p, column)
    c:text(left + p.cell_width / 2, p.heads_top, options.heads[column] or "",
      { size = LABEL, color = INK, align = "center" })
  end
  for row = 1, options.rows and p.rows or 0 do
    local text = options.rows[row] or ""
    local _, top = cell(p, (row - 1) * p.columns + 1)
    local _, height = c:text_size(text, { size = LABEL })
    c:text(p.left - p.gap, math.floor(top + p.label_height + (p.height - height) / 2), text,
      { size = LABEL, color = INK, align = "right" })
  end
end

-- Around the tile at left, top, or around a part of it.
local function draw_mark(c, mark, left, top, scale, tile)
  left, top = left + (mark.left or 0) * scale, top + (mark.top or 0) * scale
  local width, height = (mark.width or tile:size(3)) * scale, (mark.height or tile:size(2)) * scale
  for i = 1, mark.thick do
    c:frame(left - i, top - i, width + 2 * i, height + 2 * i, mark.color)
  end
end

local function draw_tile(c, p, i, tile, options)
  local left, top = cell(p, i)
  local label = options.labels and options.labels[i]
  if label then
    local color = options.label_colors and options.label_colors[i] or INK
    local _, height = text_block(label, { size = LABEL })
    draw_text(c, left + p.cell_width / 2, top + p.label_height - SPACE - height, label,
      { size = LABEL, color = color, align = "center" })
  end
  left, top = left + math.floor((p.cell_width - p.width) / 2), top + p.label_height
  c:frame(left - 1, top - 1, tile:size(3) * p.scale + 2, tile:size(2) * p.scale + 2, FRAME)
  c:blit(tile, left, top, p.scale)
  local mark = options.marks and options.marks[i]
  if mark then draw_mark(c, mark, left, top, p.scale, tile) end
  return { left, top }
end

function grid.draw(tiles, options)
  options = options or {}
  local p = plan(tiles, options)
  local c = canvas.new(p.picture_width, p.picture_height)
  if options.title then
    draw_text(c, MARGIN, MARGIN, options.title, { size = TITLE, color = INK })
  end
  draw_heads(c, p, options)
  local places = { scale = p.scale, columns = p.columns }
  for i, tile in ipairs(tiles) do places[i] = draw_tile(c, p, i, tile, options) end
  return c:finish(), places
end

return grid
