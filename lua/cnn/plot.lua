-- plot.lua - curves.png: the book's figure, drawn by gnuplot.
--
-- plot.curves(file, series, title) takes a list of { label, style, points = { { x, y }, ... } }.
-- It returns true, or nil and one line that says why there is no picture; a run does not end for a
-- picture's sake. Surprising: gnuplot reads a file, not a pipe, so that its early end cannot kill
-- the run by SIGPIPE; and it writes beside the picture, which is then renamed.

local files = require "cnn.files"

local plot = {}

-- The book's lines of train loss, train acc and test acc: matplotlib's first colour, "m--", "g-.".
local styles = {
  solid = "lc rgb '#1f77b4' dt 1",
  dashed = "lc rgb '#bf00bf' dt 2",
  dashdot = "lc rgb '#008000' dt 4",
}

local function quoted(text)
  return "'" .. text:gsub("'", "''") .. "'"
end

-- gnuplot has data blocks only where each has a name; "-" reads them in the order of the plots.
local function script(picture, series, options)
  local lines = {
    "set terminal pngcairo size 600,420 font 'Sans,11' background rgb 'white'",
    "set output " .. quoted(picture),
    "set title " .. quoted(options.title or "") .. " noenhanced",
    "set xlabel 'epoch'",
    "set grid lc rgb '#b0b0b0' dt 1 lw 0.5",
    "set key tmargin center horizontal",
    ("set xrange [%g:%g]"):format(options.from, options.to),
    "set yrange [0:*]",
    "set tics out nomirror",
  }
  local plots = {}
  for _, one in ipairs(series) do
    plots[#plots + 1] = ("'-' with %s lw 2 pt 7 ps 0.6 %s title %s noenhanced"):format(
      #one.points == 1 and "points" or "lines", styles[one.style], quoted(one.label))
  end
  lines[#lines + 1] = "plot " .. table.concat(plots, ", ")
  for _, one in ipairs(series) do
    for _, point in ipairs(one.points) do
      lines[#lines + 1] = ("%.6g %.6g"):format(point[1], point[2])
    end
    lines[#lines + 1] = "e"
  end
  return table.concat(lines, "\n") .. "\n"
end

-- gnuplot has no names for exit codes; 127 is the shell's for a command that is not there.
local function run(command)
  local status = os.execute(command)
  return status == 0, status == 127 or status == 127 * 256
end

function plot.curves(picture, series, options)
  local drawn = {}
  for _, one in ipairs(series) do
    if #one.points > 0 then drawn[#drawn + 1] = one end
  end
  if #drawn == 0 then return true end
  local commands, fresh = picture .. ".gnuplot", picture .. ".new"
  local f, why = io.open(commands, "w")
  if not f then return nil, why end
  f:write(script(fresh, drawn, options))
  f:close()
  local ok, missing = run("gnuplot " .. files.shell(commands) .. " >/dev/null 2>&1 </dev/null")
  os.remove(commands)
  if ok then ok, why = os.rename(fresh, picture) end
  if ok then return true end
  os.remove(fresh)
  if missing then return nil, "gnuplot is not installed (apt-get install gnuplot-nox)" end
  return nil, why or "gnuplot could not write it"
end

return plot
