-- plot.lua - cnn.plot: the curves of one run or several over each other, from their metrics.csv.
--
-- plot.curves(points, title, epochs) is the book's figure of one run, which curves.png shows.
-- Surprising: one picture tells runs apart by colour and quantities by the style of the line, so it
-- takes no more runs than there are colours.

local argument = require "cnn.argument"
local err = require "cnn.error"
local figure = require "cnn.pictures.figure"
local metrics = require "cnn.metrics"

local WIDTH, PANEL_HEIGHT, LABEL_HEIGHT = 600, 240, 20
local FEW, LONGEST_OF_FEW, LONGEST = 6, 28, 22 -- runs, and characters of their names
local MOST_TICKS = 10

local plot = {}

-- ------------------------------------------------------------------------------ the book's figure

-- matplotlib's first colour, "m--", "g-.".
local book = {
  { "train_loss", "train loss", "solid", "#1f77b4" },
  { "train_acc", "train acc", "dashed", "#bf00bf" },
  { "test_acc", "test acc", "dashdot", "#008000" },
}

local function points_of(rows, column)
  local points = {}
  for _, row in ipairs(rows) do
    if row[column] then points[#points + 1] = { row.epoch, row[column] } end
  end
  return points
end

-- points: { epoch =, train_loss =, train_acc =, test_acc = }, in order; nil where there are none.
-- As in the book the axis starts at 1, unless all there is lies before.
function plot.curves(points, title, epochs)
  local series = {}
  for _, line in ipairs(book) do
    local column, label, style, color = unpack(line)
    local list = points_of(points, column)
    if #list > 0 then
      series[#series + 1] = { label = label, style = style, color = color, points = list }
    end
  end
  if #series == 0 then return nil end
  return figure.new {
    title = "curves of " .. title, width = WIDTH,
    panels = { {
      title = title, height = 420, xlabel = "epoch", zero = true, series = series,
      from = points[#points].epoch > 1 and 1 or 0,
      to = math.max(epochs, math.ceil(points[#points].epoch)), -- more than the recipe asks for now
    } },
  }
end

-- --------------------------------------------------------------------------- runs over each other

-- matplotlib's ten, and the same darker.
local colors = {
  "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22",
  "#17becf", "#0f3b5a", "#804007", "#165016", "#6b1314", "#4a335e", "#462b25", "#723b61", "#404040",
  "#5e5f11", "#0b5f67",
}

local titles = {
  loss = "loss", acc = "accuracy", lr = "learning rate", seconds = "seconds an epoch",
  examples_per_s = "examples/sec", peak_mb = "peak memory, MB",
}
local short = {
  loss = { { "train_loss", "solid" } },
  acc = { { "train_acc", "dashed" }, { "test_acc", "solid" } },
}

-- The columns that a metric stands for, with the styles of their lines.
local function columns_of(metric) return short[metric] or { { metric, "solid" } } end

-- Long names keep their beginning and their end, where the time stands; no character is cut.
local function cut(name, longest)
  if #name <= longest then return name end
  local half = math.floor((longest - 3) / 2)
  local head = half
  while name:find("^[\128-\191]", head + 1) do head = head - 1 end
  return name:sub(1, head) .. "..." .. name:sub(-half):gsub("^[\128-\191]+", "")
end

local function last_of(path)
  return path:gsub("%c", "?"):gsub("/+$", ""):gsub("/metrics%.csv$", ""):match "[^/]*$"
end

-- The last part of each path, all of it where that is another one's too; numbered if need be.
local function names_of(paths)
  local count, names, seen = {}, {}, {}
  for _, path in ipairs(paths) do
    local last = last_of(path)
    count[last] = (count[last] or 0) + 1
  end
  for i, path in ipairs(paths) do
    local last = last_of(path)
    local long = count[last] > 1 and path:gsub("%c", "?")
    local name = cut(long or last, #paths > FEW and LONGEST or LONGEST_OF_FEW)
    names[i] = seen[name] and ("%d: %s"):format(i, name) or name
    seen[name] = true
  end
  return names
end

-- Runs, of which each has a name, a colour, rows and columns.
function plot.read(who, paths)
  if type(paths) == "string" then paths = { paths } end
  if type(paths) ~= "table" or #paths == 0 then
    err.raise(who .. ": expected runs, a list of directories, got "
      .. (type(paths) == "table" and "an empty one" or err.got(paths)))
  end
  for i, path in ipairs(paths) do argument.string(who, "run " .. i, path) end
  if #paths > #colors then
    err.raise(("%s: expected at most %d runs in one picture, got %d"):format(who, #colors, #paths))
  end
  local runs, names = {}, names_of(paths)
  for i, path in ipairs(paths) do
    local rows, columns = metrics.read(path)
    runs[i] = { name = names[i], color = colors[i], rows = rows, columns = columns, path = path }
  end
  return runs
end

-- What is wrong with a metric, or nil.
function plot.unknown(metric, runs)
  local known, list = { loss = true, acc = true }, { "loss", "acc" }
  for _, column in ipairs(runs[1].columns) do
    if column ~= "epoch" then known[column], list[#list + 1] = true, column end
  end
  if known[metric] then return nil end
  local near = type(metric) == "string" and argument.nearest(metric, list)
  return ("metric: expected one of %s, got %s%s"):format(table.concat(list, ", "),
    err.got(metric), near and "; did you mean '" .. near .. "'?" or "")
end

local function range_of(runs)
  local from, to = math.huge, -math.huge
  for _, run in ipairs(runs) do
    for _, row in ipairs(run.rows) do
      from, to = math.min(from, row.epoch), math.max(to, row.epoch)
    end
  end
  if from > to then return 0, 1 end
  if from == to then return from - 1, to + 1 end
  local margin = 0.02 * (to - from) -- for what lies on the frame
  return from - margin, to + margin
end

-- Whole epochs: 1, 2, 5, 10, 20 ... between ticks.
local function ticks_of(from, to)
  local step, power = 1, 1
  while (to - from) / step > MOST_TICKS do
    if step == 2 * power then
      step = 5 * power
    elseif step == power then
      step = 2 * power
    else
      power = 10 * power
      step = power
    end
  end
  return step
end

local function panel_of(metric, runs, from, to)
  local columns, series, keys = columns_of(metric), {}, {}
  local function label(column) return (column:gsub("_", " ")) end
  for _, run in ipairs(runs) do
    for _, column in ipairs(columns) do
      local points = points_of(run.rows, column[1])
      if #points > 0 then
        series[#series + 1] = {
          label = #columns > 1 and run.name .. " " .. label(column[1]) or run.name,
          color = run.color, style = column[2], points = points,
        }
      end
    end
  end
  for i, column in ipairs(columns) do
    keys[i] = { label = label(column[1]), color = "#404040", style = column[2] }
  end
  return {
    ylabel = titles[metric] or label(metric), height = PANEL_HEIGHT, from = from, to = to,
    ticks = ticks_of(from, to), series = series, keys = #columns > 1 and keys or {},
  }
end

-- The runs' names come first in the first panel's legend, and it grows by their lines.
local function add_legend(panel, runs)
  local keys = {}
  for i, run in ipairs(runs) do
    keys[i] = { label = run.name, color = run.color, style = "solid" }
  end
  for _, key in ipairs(panel.keys) do keys[#keys + 1] = key end
  panel.keys, panel.height = keys, panel.height + figure.legend_height(keys, WIDTH)
end

function plot.draw(who, runs, options)
  local from, to = range_of(runs)
  local panels = {}
  for _, metric in ipairs(options.metric and { options.metric } or { "loss", "acc" }) do
    local panel = panel_of(metric, runs, from, to)
    if #panel.series > 0 then panels[#panels + 1] = panel end
  end
  if #panels == 0 then
    err.raise(("%s: %s: expected numbers of %s, got none"):format(who, runs[1].path,
      options.metric or "loss and acc"))
  end
  add_legend(panels[1], runs)
  local lowest = panels[#panels]
  lowest.xlabel, lowest.height = "epoch", lowest.height + LABEL_HEIGHT
  panels[1].title = options.title
  local what = #runs == 1 and runs[1].name or #runs .. " runs"
  return figure.new { title = "curves of " .. what, width = WIDTH, panels = panels }
end

--- cnn.plot(runs, { metric = nil, title = nil })
-- The curves of a run, or of several over each other, as a picture: from the metrics.csv in their
-- directories. Each run has a colour, each quantity a style of line.
-- Options: metric: "loss", "acc" or a column of metrics.csv, by default loss and acc; title: what
--   stands above
-- Errors: a directory without metrics.csv, and a file that is no such; an unknown metric is told
--   with those that there are
-- Example: result = cnn.train(recipe, { epochs = 1, limit = 64, batch = 32, quiet = true })
--   cnn.plot({ result.out }, { metric = "loss" }):png "cmp.png"
-- See: cnn.train, cnnlua plot
local function call(_, paths, options)
  local who = "cnn.plot"
  options = argument.options(who, options, { "metric", "title" })
  if options.title ~= nil then argument.string(who, "title", options.title) end
  local runs = plot.read(who, paths)
  local why = options.metric ~= nil and plot.unknown(options.metric, runs)
  if why then err.raise(who .. ": " .. why) end
  return plot.draw(who, runs, options)
end

return setmetatable(plot, { __call = call })
