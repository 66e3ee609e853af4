-- rundir.lua - a run's directory: runs/NAME-TIME or --out, and the tables and pictures in it.
--
-- rundir.open makes it and tries it out before anything is trained; discard takes it away again if
-- nothing came into it. Files are written beside their place and renamed, so a reader, or a killed
-- run, never sees half of one. Surprising: in an --out that already holds a run, files are replaced
-- one by one, as their new versions come.

local ffi = require "ffi"
local C = require "cnn.ffi".C
local fail = require "cnn.fail"
local files = require "cnn.files"
local handle = require "cnn.handle"

ffi.cdef "int rmdir(const char *path);"

local EEXIST = 17
local BLOCK = 2 ^ 20 -- bytes at a time, of a copy

local rundir = {}

local Directory = {}
Directory.__index = Directory

-- A directory that nobody else has: of two runs that start in one second mkdir refuses one. Its
-- path, or nil and why not.
local function make_new(name, made)
  local why = files.make_directory("runs", made)
  if why then return nil, why end
  local base = ("runs/%s-%s"):format(name:gsub("[^%w_.-]", "_"), os.date "%Y%m%d-%H%M%S")
  local path, n = base, 1
  local number, why_not = files.mkdir(path, made)
  while number == EEXIST do
    n = n + 1
    path = base .. "-" .. n
    number, why_not = files.mkdir(path, made)
  end
  if number then return nil, why_not end
  return path
end

-- rmdir takes empty ones only.
local function remove(made)
  for i = #made, 1, -1 do ffi.C.rmdir(made[i]) end
end

function rundir.open(name, out)
  local made = {}
  local path, why = out
  if out then
    why = files.make_directory(out, made)
  else
    path, why = make_new(name, made)
  end
  if why then
    remove(made)
    fail.run("cannot write the run's directory %s", why)
  end
  return setmetatable({ path = path, made = made }, Directory)
end

-- Removes what was made for a run that left nothing in it.
function Directory:discard()
  remove(self.made)
end

function Directory:file(name)
  return self.path .. "/" .. name
end

-- Whether all of one file has gone into the other, which is then closed; nil and why not.
local function pour(from, to)
  for block in function() return from:read(BLOCK) end do
    local ok, why = to:write(block)
    if not ok then
      to:close()
      return nil, why
    end
  end
  return to:close()
end

-- A copy of `source`, if there is such a file, as `name`: whole, or not at all.
function Directory:copy(source, name)
  local from = io.open(source, "rb")
  if not from then return end
  local part = self:file(name) .. ".part"
  local to, why = io.open(part, "wb")
  local ok = to ~= nil
  if ok then ok, why = pour(from, to) end
  from:close()
  if ok then ok, why = os.rename(part, self:file(name)) end
  if not ok then
    os.remove(part)
    fail.run("%s: cannot write: %s", self:file(name), why)
  end
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
    handle.fail()
  end
end

-- ----------------------------------------------------------------------------------- curves.png

-- plot.curves as a file: true, or nil and why not. The figure stays here, to be shown as well.
function Directory:draw_curves(points, title, epochs)
  self.curves = require "cnn.plot".curves(points, title, epochs)
  if not self.curves then return true end
  return self.curves:write(self:file "curves.png")
end

return rundir
