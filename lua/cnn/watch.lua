-- watch.lua - cnn.watch(net, file): cnn.reload whenever the script changes.
--
-- Nothing runs beside the program: watch.poll() looks at the files, and the prompt calls it while
-- it waits for a key and before each input. So a training run, a loop, anything that has been
-- typed, is over before the net changes. A script of one's own that wants to follow its files calls
-- cnn.watch.poll() where it suits it.
--
-- Surprising: what is compared is text, that of the script and of the files that it requires. They
-- are small, and a file that was written again as it was is no change. An empty or missing file is
-- most often one that an editor is writing: only one that stays so is told, once.

local C = require "cnn.ffi".C
local argument = require "cnn.argument"
local err = require "cnn.error"
local fail = require "cnn.fail"
local files = require "cnn.files"
local guard = require "cnn.guard"
local reload = require "cnn.reload"
local sources = require "cnn.reload.sources"

local watch = {}

local watches = {} -- those that run, in the order of their start
local polling = false

local Watch = {}
Watch.__index = Watch

-- ----------------------------------------------------------------------------------- the files

-- Reads them all. Of a file that was known before, `keep` says to go on with the text of then.
local function look(self, keep)
  local before = {}
  for _, entry in ipairs(keep and self.sources or {}) do before[entry.file] = entry end
  self.sources = sources.of(self.job.file)
  for i, entry in ipairs(self.sources) do self.sources[i] = before[entry.file] or entry end
end

local function has_changed(self)
  for _, entry in ipairs(self.sources) do
    if files.read(entry.file) ~= entry.text then return true end
  end
  return false
end

-- What an editor may have left half-way, in words; or nil.
local function half_saved(self)
  for _, entry in ipairs(self.sources) do
    if entry.text == nil then return entry.file .. " cannot be read" end
    if entry.text == "" then return entry.file .. " is empty" end
  end
end

-- ----------------------------------------------------------------------------------- one watch

-- Ctrl-C stops the script that runs, and does not count as one at the prompt.
local function run(job)
  local ok, why, account = guard.free(reload.run, job)
  if guard.interrupted() then guard.clear(true) end
  if not ok then return fail.line(why) end
  return ("%s: %s"):format(job.file, (tostring(account):gsub("\n", "; "))), true
end

-- A line of what there is to tell, or nil.
local function check(self)
  if not has_changed(self) then
    local half = self.half
    self.half = nil
    return half and half .. "; the net stays as it was until the next change"
  end
  look(self)
  self.half = half_saved(self)
  if self.half then return nil end
  local line, done = run(self.job)
  if done then self.reloads = self.reloads + 1 end
  look(self, true) -- it may require other files now
  return line
end

-- Over what stands in the terminal's line, such as a prompt.
local function print_alone(line)
  if files.is_terminal(1) then io.write "\r\27[K" end
  print(line)
end

local function tell(self, line, print_line)
  if not self.report then return (print_line or print_alone)(line) end
  local ok, why = pcall(err.call, self.report, line)
  if not ok then fail.complain(why) end
end

-- Ends it; again does no harm.
function Watch:stop()
  self.stopped = true
  for i = #watches, 1, -1 do
    if watches[i] == self then table.remove(watches, i) end
  end
end

function Watch:__tostring()
  local others = #self.sources - 1
  return ("watch on %s%s, %d reload%s%s"):format(self.job.file,
    others > 0 and (" and %d file%s that it requires"):format(others, others == 1 and "" or "s")
      or "",
    self.reloads, self.reloads == 1 and "" or "s",
    self.stopped and ", stopped" or "; :stop() ends it")
end

-- ------------------------------------------------------------------------------------ all of them

--- cnn.watch.poll(print_line)
-- Looks at the watched files once, reloads what has changed and tells it; the prompt does so by
-- itself. Returns true when something was told.
-- Options: print_line: a function of a line, for the watches that have no report of their own
-- Example: cnn.watch.poll() --> false
-- See: cnn.watch
function watch.poll(print_line)
  if polling or not watches[1] or guard.interrupted() then return false end
  polling = true
  local held, told, now = guard.hold(true), false, C.cnn_seconds()
  for _, self in ipairs { unpack(watches) } do
    if now - self.looked >= self.every and not self.stopped then
      self.looked = now
      local line = check(self)
      if line then
        tell(self, line, print_line)
        told = true
      end
    end
  end
  polling = false
  if not held and guard.interrupted() then guard.clear() end
  guard.hold(held)
  return told
end

local known = { "every", "report", unpack(reload.options) }

local function check_report(who, report)
  if report == nil or type(report) == "function" then return report end
  err.raise(("%s: report: expected a function of a line, got %s"):format(who, err.got(report)))
end

--- cnn.watch(net, file, { every = 0, report = print, recipe = nil, set = nil,
---   batch = nil, epochs = nil, lr = nil, resize = nil })
-- Reloads the net (cnn.reload) whenever the script, or a file that it requires, has changed.
-- Returns a handle; handle:stop() ends it. The prompt looks while it waits for a key and before
-- each input, never while something runs: what has been typed, a training run too, ends first. At a
-- prompt with a script net and file can be left out.
-- Options: every: seconds between two looks at least, where the prompt's five a second are too
--   many; report: called with each line in place of print; the others: as for cnn.reload
-- Errors: a script that is wrong is told in one line, and tried again when it changes next
-- Example: w = cnn.watch(net, "models/bn_lenet.lua") w:stop()
-- See: cnn.reload
local function call(_, net, file, options)
  local who = "cnn.watch"
  options = argument.options(who, options, known)
  local self = setmetatable({
    job = reload.job(who, net, file, options), reloads = 0, looked = 0,
    every = argument.number(who, "every", options.every or 0, 0),
    report = check_report(who, options.report),
  }, Watch)
  look(self)
  if not self.sources[1].text then fail.run("%s: cannot open %s", who, self.job.file) end
  for _, other in ipairs { unpack(watches) } do
    if other.job.net == self.job.net and other.job.file == self.job.file then other:stop() end
  end
  watches[#watches + 1] = self
  return self
end

return setmetatable(watch, { __call = call })
