-- rundir.lua - a run's directory: runs/NAME-TIME or --out, and the tables and pictures in it.
--
-- rundir.open makes it and tries it out before anything is trained. Files are written beside their
-- place and renamed, so a reader, or a killed run, never sees half of one. Surprising: in an --out
-- that already holds a run, files are replaced one by one, as their new versions come.

local ffi = require "ffi"
local C = require "cnn.ffi".C
local fail = require "cnn.fail"

ffi.cdef [[
int mkdir(const char *path, unsigned mode);
char *strerror(int number);
int access(const char *path, int mode);
]]

local WRITE_AND_SEARCH = 2 + 1

local rundir = {}

local Directory = {}
Directory.__index = Directory

local function exists(path)
  local f = io.open(path, "r")
  if f then f:close() end
  return f ~= nil
end

-- mkdir -p; nil, or why not. What is there already is no reason: opening it tells.
local function make(path)
  local refused
  local function add(part)
    if not exists(part) and ffi.C.mkdir(part, 511) ~= 0 then
      refused = refused or part .. ": " .. ffi.string(ffi.C.strerror(ffi.errno()))
    end
  end
  for at in path:gmatch "()/" do
    if at > 1 then add(path:sub(1, at - 1)) end
  end
  add(path)
  local f, why = io.open(path .. "/.", "r")
  if not f then return refused or (why:gsub("/%.:", ":")) end
  f:close()
  if ffi.C.access(path .. "/.", WRITE_AND_SEARCH) ~= 0 then
    return path .. ": " .. ffi.string(ffi.C.strerror(ffi.errno()))
  end
  return nil
end

local function unused(name)
  local base = ("runs/%s-%s"):format(name:gsub("[^%w_.-]", "_"), os.date "%Y%m%d-%H%M%S")
  local path, n = base, 1
  while exists(path) do
    n = n + 1
    path = base .. "-" .. n
  end
  return path
end

function rundir.open(name, out)
  local path = out or unused(name)
  local why = make(path)
  if why then fail.run("cannot write the run's directory %s", why) end
  return setmetatable({ path = path }, Directory)
end

function Directory:file(name)
  return self.path .. "/" .. name
end

-- ---------------------------------------------------------------------------------- metrics.csv

local columns = {
  { "epoch", "%g" }, { "train_loss", "%.6f" }, { "train_acc", "%.6f" }, { "test_acc", "%.6f" },
  { "lr", "%g" }, { "seconds", "%.3f" }, { "examples_per_s", "%.1f" }, { "peak_mb", "%.1f" },
}

-- rows: a list of tables by column; a value that is not there stays empty.
function Directory:write_metrics(rows)
  local names, lines = {}, {}
  for i, column in ipairs(columns) do names[i] = column[1] end
  lines[1] = table.concat(names, ",")
  for _, row in ipairs(rows) do
    local values = {}
    for i, column in ipairs(columns) do
      local value = row[column[1]]
      values[i] = value and column[2]:format(value) or ""
    end
    lines[#lines + 1] = table.concat(values, ",")
  end
  local text = table.concat(lines, "\n") .. "\n"
  if C.cnn_file_write(self:file "metrics.csv", text, #text) ~= 0 then
    error(ffi.string(C.cnn_error()), 0)
  end
end

-- ----------------------------------------------------------------------------------- curves.png

local function series(label, style, points, column)
  local list = {}
  for _, point in ipairs(points) do
    if point[column] then list[#list + 1] = { point.epoch, point[column] } end
  end
  return { label = label, style = style, points = list }
end

-- points: { epoch =, train_loss =, train_acc =, test_acc = }, in order. true, or nil and why not.
-- As in the book the axis starts at 1, unless all there is lies before.
function Directory:draw_curves(points, title, epochs)
  local beyond = #points > 0 and points[#points].epoch > 1
  return require "cnn.plot".curves(self:file "curves.png", {
    series("train loss", "solid", points, "train_loss"),
    series("train acc", "dashed", points, "train_acc"),
    series("test acc", "dashdot", points, "test_acc"),
  }, { title = title, from = beyond and 1 or 0, to = epochs })
end

return rundir
