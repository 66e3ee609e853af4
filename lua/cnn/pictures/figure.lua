-- figure.lua - curves with axes, ticks and a legend, drawn by gnuplot: a picture, or characters.
--
--   figure.new { title =, width =, panels = { { title =, ylabel =, height =, from =, to =,
--     series = { { label =, color = "#1f77b4", style = "solid", points = { { x, y } } } } } } }
--
-- A figure is a picture (picture.lua) with a text of its own; :write(file) is :png that returns nil
-- and why not, for a run that does not end for a picture's sake. A panel with `keys`, a list of
-- { label, color, style }, has these for its legend; else its legend names the series. zero = true:
-- the axis of y begins at 0. ticks: between x's.
--
-- Surprising: panels stand one above the other in a picture, but side by side in text, which is
-- wide and low. A series of one point is drawn as a point, for a line of it would not be seen.

local gnuplot = require "cnn.pictures.gnuplot"
local picture = require "cnn.pictures.picture"

local quote = gnuplot.quote
local FEW_KEYS = 4          -- more of them stand closer together
local KEY_HEIGHT = 18       -- pixels of a line of a legend
local MARGINS = 110         -- pixels of a picture at the left and the right of its axes
local TEXT_WIDE = 100       -- columns of a figure as text, at most
local SIDE_BY_SIDE = 64     -- columns from which on its panels stand so
local TEXT_HIGH = 18        -- lines of a panel of text without its legend
local TEXT_KEY = 10         -- columns of a legend's line beside the label
local TEXT_MARKS = 7        -- characters that lines of text are told apart by

-- gnuplot's numbers, of a line of this style and of a single point.
local styles = { solid = { 1, 7 }, dashed = { 2, 6 }, dashdot = { 4, 7 } }

local figure = {}

local Figure = {}
Figure.__index = Figure

-- --------------------------------------------------------------------------------- the commands

-- How the i-th series of a panel looks, or the key of one.
local function look(one, i, target)
  local mark = (i - 1) % TEXT_MARKS + 1
  local dash, point = unpack(styles[one.style])
  return ("lw 2 pt %d lt %d lc rgb %s dt %d"):format(target.text and mark or point, mark,
    quote(one.color), dash)
end

local function title_of(label)
  return label and ("title %s noenhanced"):format(quote(label)) or "notitle"
end

-- Nil: the series themselves. Without colours only those can tell lines apart.
local function keys_of(panel, target) return not target.mono and panel.keys or nil end

local function longest_of(keys)
  local longest = 0
  for _, key in ipairs(keys) do longest = math.max(longest, #key.label) end
  return longest
end

-- gnuplot has data blocks only where each has a name; "-" reads them in the order of the plots.
local function plot_lines(panel, target)
  local plots, data = {}, {}
  local keys = keys_of(panel, target)
  for i, key in ipairs(keys or {}) do
    plots[i] = ("keyentry with lines %s %s"):format(look(key, i, target), title_of(key.label))
  end
  for i, one in ipairs(panel.series) do
    plots[#plots + 1] = ("'-' with %s %s %s"):format(#one.points == 1 and "points" or "lines",
      look(one, i, target), title_of(not keys and one.label))
    for _, point in ipairs(one.points) do
      data[#data + 1] = ("%.9g %.9g"):format(point[1], point[2])
    end
    data[#data + 1] = "e"
  end
  return "plot " .. table.concat(plots, ", ") .. "\n" .. table.concat(data, "\n")
end

-- gnuplot leaves more room for a label the longer it is, which many have no room for.
local function key_line(keys, target)
  if target.text or #keys <= FEW_KEYS then return "set key samplen 4 width 0" end
  return ("set key samplen 3 width %d"):format(-math.floor(longest_of(keys) / 10))
end

-- place: left, bottom, width and height as parts of the whole. Text has no room beside its axes.
local function panel_lines(panel, place, target)
  local title = panel.title or ""
  if target.text and panel.ylabel then
    title = title == "" and panel.ylabel or title .. ": " .. panel.ylabel
  end
  return table.concat({
    ("set origin %.4f,%.4f"):format(place[1], place[2]),
    ("set size %.4f,%.4f"):format(place[3], place[4]),
    key_line(panel.keys or {}, target),
    "set title " .. quote(title) .. " noenhanced",
    panel.ylabel and not target.text and "set ylabel " .. quote(panel.ylabel) or "unset ylabel",
    panel.xlabel and "set xlabel " .. quote(panel.xlabel) or "unset xlabel",
    ("set xrange [%g:%g]"):format(panel.from, panel.to),
    panel.ticks and ("set xtics %g"):format(panel.ticks) or "set xtics autofreq",
    panel.zero and "set yrange [0:*]" or "set yrange [*:*]",
    plot_lines(panel, target),
  }, "\n")
end

-- Pixels of a legend of keys in a picture so wide. gnuplot says to nobody how many it puts into a
-- line; this is what it was seen to do, rather one too few.
function figure.legend_height(keys, width)
  local longest = longest_of(keys)
  local key_width = #keys > FEW_KEYS and longest * 8.5 + 45 or longest * 9.5 + 50
  local in_line = math.max(1, math.floor((width - MARGINS) / key_width))
  return KEY_HEIGHT * math.ceil(#keys / in_line)
end

-- heights: of the panels, which stand one above the other.
local function stacked(heights)
  local places, total, top = {}, 0, 1
  for _, height in ipairs(heights) do total = total + height end
  for i, height in ipairs(heights) do
    top = top - height / total
    places[i] = { 0, math.max(0, top), 1, height / total }
  end
  return places
end

local function side_by_side(n)
  local places = {}
  for i = 1, n do places[i] = { (i - 1) / n, 0, 1 / n, 1 } end
  return places
end

-- target: { terminal =, text =, mono = }
local function commands(self, target, places)
  local lines = {
    target.terminal, "set tics out nomirror", "set key tmargin center horizontal",
    target.text and "unset grid" or "set grid lc rgb '#c4c4c4' dt 1 lw 1",
    "set lmargin 10", "set rmargin 3", "set multiplot",
  }
  for i, place in ipairs(places) do
    lines[#lines + 1] = panel_lines(self.panels[i], place, target)
  end
  lines[#lines + 1] = "unset multiplot\n"
  return table.concat(lines, "\n")
end

local function png_commands(self)
  local heights = {}
  for i, panel in ipairs(self.panels) do heights[i] = panel.height end
  return commands(self, {
    terminal = ("set terminal pngcairo size %d,%d font 'Sans,11' background rgb 'white'"):format(
      self.width, self.height),
  }, stacked(heights))
end

-- ----------------------------------------------------------------------------------- the picture

function Figure:write(file)
  local ok, why = pcall(self.png, self, file)
  if ok then return true end
  return nil, why
end

function Figure:draw()
  return gnuplot.through(png_commands(self), function(file)
    return require "cnn.image".read(file, { channels = 3 })
  end)
end

function Figure:size() return self.height, self.width end

function Figure:describe()
  return ("%s, %dx%d"):format(self.title, self.width, self.height)
end

function Figure:__tostring()
  return picture.headline(self, self.title)
end

-- gnuplot begins with a form feed, and fills lines and page with blanks.
local function trimmed(text)
  text = text:gsub("^\f", ""):gsub(" +\n", "\n")
  local bare = "^[\27%[%d;m%s]*$"
  local lines = {}
  for line in text:gmatch "[^\n]+" do
    if #lines > 0 or not line:find(bare) then lines[#lines + 1] = line end
  end
  while #lines > 0 and lines[#lines]:find(bare) do lines[#lines] = nil end
  return table.concat(lines, "\n") .. "\n"
end

-- Lines of a panel as text, its legend included.
local function text_height(panel, columns, target)
  local keys = keys_of(panel, target) or panel.series
  local in_line = math.max(1, math.floor(columns / (longest_of(keys) + TEXT_KEY)))
  return TEXT_HIGH + math.ceil(#keys / in_line)
end

function Figure:as_text(columns, color)
  columns = math.max(1, math.min(columns - 1, TEXT_WIDE))
  local target, n = { text = true, mono = not color }, #self.panels
  local beside = n > 1 and columns >= SIDE_BY_SIDE
  local heights, rows = {}, 0
  for i, panel in ipairs(self.panels) do
    heights[i] = text_height(panel, beside and columns / n or columns, target)
    rows = beside and math.max(rows, heights[i]) or rows + heights[i]
  end
  local places = beside and side_by_side(n) or stacked(heights)
  target.terminal = ("set terminal dumb %s size %d,%d"):format(color and "ansirgb" or "mono",
    columns, rows)
  local text = gnuplot.through(commands(self, target, places), function(file)
    return (assert(require "cnn.files".read(file)))
  end)
  return trimmed(text) .. (color and "\27[0m" or "")
end

picture.extend(Figure)

function figure.new(fields)
  fields.height = 0
  for _, panel in ipairs(fields.panels) do fields.height = fields.height + panel.height end
  return setmetatable(fields, Figure)
end

return figure
