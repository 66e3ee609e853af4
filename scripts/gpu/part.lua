-- part.lua - the process of one part of gpu-check: runs it and writes down what it finds.
-- usage (by check.lua): cnnlua scripts/gpu/part.lua SETTINGS.json
--
-- A part is a file of parts/ that returns
--
--   { about = one line, seconds = its share of the nine minutes,
--     checks = { names ... },            what it may find to be right or wrong; for --list
--     tables = { { name =, title =, columns = { ... } } },
--     card = true where it needs one,
--     cut = true where it is no failure to be ended by the limit,
--     run = function(part) ... end }
--
-- and reports through `part`, a line of JSON at a time, so that what was found before a crash or
-- the limit is not lost. Whatever it raises fails the part. Surprising: a part has to name its
-- checks before it runs, because those that were never reached are in the report too.

local cjson = require "cjson"
local C = require "cnn.ffi".C
local fail = require "cnn.fail"
local process = require "scripts.gpu.process"

local Part = {}
Part.__index = Part

function Part:say(entry)
  self.results:write(cjson.encode(entry), "\n")
  self.results:flush()
end

-- ---------------------------------------------------------------------------------- its findings

local function names_of(checks)
  local known = {}
  for _, name in ipairs(checks or {}) do known[name] = true end
  return known
end

function Part:done(check, status, text)
  assert(self.known[check], "a check that the part does not name: " .. check)
  self.reported[check] = true
  self:say { kind = "check", name = check, status = status, text = text }
end

function Part:passed(check, text) self:done(check, "passed", text) end
function Part:failed(check, text) self:done(check, "failed", text) end
function Part:skipped(check, why) self:done(check, "skipped", why) end

function Part:check(check, ok, text)
  self:done(check, ok and "passed" or "failed", text)
  return ok
end

-- Calls f(); an error fails the check, what f returns says how it went.
function Part:try(check, f, ...)
  local ok, text = pcall(f, ...)
  if not ok then text = fail.line(text) end
  return self:check(check, ok, text)
end

-- Every check that nothing was said about.
function Part:skip_rest(why)
  for _, check in ipairs(self.checks) do
    if not self.reported[check] then self:skipped(check, why) end
  end
end

function Part:figure(name, value, unit)
  self:say { kind = "figure", name = name, value = value, unit = unit }
end

-- row: values by the names of the table's columns
function Part:row(name, row)
  self:say { kind = "row", table = name, row = row }
end

-- ---------------------------------------------------------------------------------- its means

-- Seconds until the part is ended.
function Part:left() return self.deadline - C.cnn_seconds() end

function Part:run(command, options)
  options = options or {}
  return process.run(command, {
    scratch = self.scratch, env = options.env,
    seconds = math.min(options.seconds or math.huge, self:left() - 1),
  })
end

-- The program of this build, with the words of a command line.
function Part:cnnlua(words, options)
  return self:run(process.quote(self.program) .. " " .. words, options)
end

-- The same, for a command that prints JSON: its value, or an error that says how it ended.
function Part:json(words, options)
  local r = self:cnnlua(words, options)
  if r.status ~= 0 then error(process.ending(r), 0) end
  local ok, value = pcall(cjson.decode, process.last(r.out) or "")
  if not ok then error("no JSON came: " .. r.out:sub(1, 200), 0) end
  return value, r
end

function Part:serve(name, command)
  return process.serve(name, command, self.scratch, self:left())
end

-- ------------------------------------------------------------------------------------- the whole

-- Its table, from the directory that the settings name.
local function load_part(directory, name)
  return dofile(("%s/%s.lua"):format(directory, name))
end

local function main(file)
  local settings = cjson.decode(process.read(file))
  local spec = load_part(settings.directory, settings.name)
  local part = setmetatable(settings, Part)
  part.checks, part.known, part.reported = spec.checks or {}, names_of(spec.checks), {}
  part.results = assert(io.open(settings.results_file, "a"))
  part.deadline = C.cnn_seconds() + settings.seconds
  local ok, why = pcall(spec.run, part)
  if not ok then
    part:say { kind = "error", text = fail.line(why) }
  end
  part:say { kind = "end" }
end

main(arg[1])
