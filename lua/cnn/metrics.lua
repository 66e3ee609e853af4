-- metrics.lua - reads the metrics.csv of a run, which rundir.lua writes.
--
-- metrics.read(run) takes a run's directory or the file itself. Returns a list of rows, tables by
-- column, and the list of the columns. Surprising: a cell may be empty (no test accuracy in a row
-- of an epoch that was broken off) or not finite (a run that diverged); the row has neither.

local err = require "cnn.error"
local files = require "cnn.files"

local metrics = {}

local FILE = "metrics.csv"

local function path_of(run)
  if not files.exists(run) then err.raise(("%s: no such run"):format(run)) end
  if not files.is_directory(run) then return run end
  local path = run:gsub("/+$", "") .. "/" .. FILE
  if files.exists(path) then return path end
  err.raise(("%s: expected a run's directory, but there is no %s in it (it comes with the first "
    .. "epoch)"):format(run, FILE))
end

local function cells_of(line)
  local cells = {}
  for cell in (line .. ","):gmatch "([^,]*)," do cells[#cells + 1] = cell end
  return cells
end

local function check_columns(path, columns)
  if columns[1] ~= "epoch" or #columns < 2 then
    err.raise(("%s: expected the metrics of a run, with the column 'epoch' first"):format(path))
  end
end

local function row_of(path, number, columns, cells)
  if #cells ~= #columns then
    err.raise(("%s:%d: expected %d values as the first line has, got %d"):format(path, number,
      #columns, #cells))
  end
  local row = {}
  for i, cell in ipairs(cells) do
    local value = tonumber(cell)
    if not value and cell ~= "" then
      err.raise(("%s:%d: %s: expected a number, got %s"):format(path, number, columns[i],
        err.got(cell)))
    end
    if value and value - value == 0 then row[columns[i]] = value end
  end
  if not row.epoch then
    err.raise(("%s:%d: epoch: expected a number, got %s"):format(path, number, err.got(cells[1])))
  end
  return row
end

function metrics.read(run)
  local path = path_of(run)
  local text, why = files.read(path)
  if not text then err.raise(why) end
  local rows, columns, number = {}, nil, 0
  for line in text:gmatch "([^\n]*)\n?" do
    local cells = cells_of((line:gsub("\r$", "")))
    number = number + 1
    if not columns then
      columns = cells
      check_columns(path, columns)
    elseif line:find "%S" then
      rows[#rows + 1] = row_of(path, number, columns, cells)
    end
  end
  return rows, columns
end

return metrics
