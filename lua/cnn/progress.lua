-- progress.lua - what a training run says on stdout.
--
-- On a terminal one line an epoch is redrawn, ten times a second at most, and the curves are shown
-- at the end; elsewhere, and where a line cannot be redrawn (TERM=dumb), each epoch gets one plain
-- line. quiet: the two closing lines only; json: one object at the end. All of it is ASCII.
--
-- Surprising: the live line is never wider than the terminal, because a line that wraps cannot be
-- redrawn; what does not fit is left out, the least important first, and the bar takes the rest. A
-- terminal that became narrower has wrapped the line already: it is wiped from where it begins now.

local C = require "cnn.ffi".C
local commas = require "cnn.text".commas
local fail = require "cnn.fail"
local files = require "cnn.files"
local screen = require "cnn.terminal.screen"

local REDRAW_SECONDS = 0.1
local LONGEST_BAR, SHORTEST_BAR = 16, 4
local NARROWEST_CURVES = 40 -- columns

local Progress = {}
Progress.__index = Progress

local function duration(seconds)
  if seconds < 100 then return ("%.1f s"):format(seconds) end
  local s = math.floor(seconds + 0.5)
  if s < 3600 then return ("%d:%02d min"):format(s / 60, s % 60) end
  return ("%d:%02d h"):format(s / 3600, s % 3600 / 60)
end

function Progress:say(line)
  if self.silent then return end
  io.write(line, "\n")
  io.flush()
end

-- facts: name, parameters, macs, input, device, data and so on, as train.lua gathers them.
function Progress:header(facts)
  self:say(("%s: %s parameters, %.1f M multiply-adds an image of %s"):format(facts.name,
    commas(facts.parameters), facts.macs / 1e6, facts.input))
  self:say(facts.device)
  self:say(("data %s: %s training and %s test images%s%s"):format(facts.data,
    commas(facts.train_images), commas(facts.test_images), facts.resized,
    facts.data_dir and ", " .. facts.data_dir or ""))
  self:say(("%s, lr %g, batch %d, %d epochs, seed %d; results in %s"):format(facts.optimizer,
    facts.lr, facts.batch, facts.epochs, facts.seed, facts.out))
  if facts.resumed then self:say(facts.resumed) end
end

-- The parts, of which the first `needed` stand in any case, the others while they fit.
local function fitting(parts, needed, width)
  local line = ""
  for i, part in ipairs(parts) do
    if i > needed and #line + #part > width then break end
    line = line .. part
  end
  return line
end

local function bar(part, width)
  width = math.min(width, LONGEST_BAR)
  if width < SHORTEST_BAR then return "" end
  local filled = math.floor(part * width + 0.5)
  return (" %s%s"):format(("#"):rep(filled), ("."):rep(width - filled))
end

local function live_line(now, width)
  local part = now.done / now.total
  local left = duration((1 - part) * now.images / math.max(now.rate, 1e-9))
  local head = ("epoch %d/%d"):format(now.epoch, now.epochs)
  local tail = fitting({
    (" %3d%%"):format(part * 100), ("  %s left"):format(left), ("  loss %.3f"):format(now.loss),
    ("  acc %.3f"):format(now.acc), ("  %.0f examples/sec"):format(now.rate),
  }, 0, width - #head)
  return (head .. bar(part, width - #head - #tail - 1) .. tail):sub(1, width)
end

-- Wipes the live line from where it begins, which is further up if a narrower terminal wrapped it.
function Progress:rewind(columns)
  local rows = self.length > 0 and math.floor((self.length - 1) / columns) or 0
  io.write(rows > 0 and ("\27[%dA"):format(rows) or "", "\r\27[J")
end

-- now: epoch, epochs, done, total (batches), loss, acc, rate (images/s)
function Progress:live(now)
  if self.silent or not self.terminal then return end
  local time = C.cnn_seconds()
  if time - self.drawn < REDRAW_SECONDS then return end
  local columns = self.columns or screen.columns()
  local line = live_line(now, columns - 1)
  if self.length > columns then self:rewind(columns) end
  io.write("\r", line, "\27[K")
  io.flush()
  self.drawn, self.length = time, #line
end

-- Ends the live line, so that what follows stands on its own.
function Progress:clear()
  if self.length == 0 then return end
  self:rewind(self.columns or screen.columns())
  io.flush()
  self.length = 0
end

function Progress:epoch(row, epochs)
  self:clear()
  local width = self.terminal and (self.columns or screen.columns()) or math.huge
  self:say(fitting({
    ("epoch %d/%d: loss %.3f, train acc %.3f, test acc %.3f"):format(row.epoch, epochs,
      row.train_loss, row.train_acc, row.test_acc),
    (", %.1f examples/sec"):format(row.examples_per_s), ", " .. duration(row.seconds),
  }, 1, width))
end

local function show(curves)
  local kind = screen.kind()
  local fits = screen.has_pixels(kind) or screen.columns() >= NARROWEST_CURVES
  if kind ~= "none" and fits then curves:show() end
end

-- The curves, where they can be seen; a run does not end for their sake.
function Progress:curves(curves)
  if self.silent or not files.is_terminal(1) then return end
  local ok, why = pcall(show, curves)
  if not ok then io.stderr:write("cnnlua: the curves cannot be shown: ", fail.line(why), "\n") end
end

-- The book's two lines; the figure in brackets counts loading, evaluation and saving as well.
function Progress:closing(result) -- luacheck: ignore 212
  return ("loss %.3f, train acc %.3f, test acc %.3f\n"
    .. "%.1f examples/sec on %s (%.1f end to end, with loading and evaluation)"):format(result.loss,
    result.train_acc, result.test_acc, result.examples_per_s, result.device,
    result.end_to_end_examples_per_s)
end

function Progress:close(result)
  self:clear()
  io.write(self.kind == "json" and require "cjson".encode(result) or self:closing(result), "\n")
  io.flush()
end

-- kind: "quiet", "json" or nil. What it finds out, whether stdout can redraw a line, may be set
-- after: terminal, columns (nil: as wide as the terminal is now).
return function(kind)
  return setmetatable({
    kind = kind, silent = kind ~= nil, terminal = not screen.is_plain(),
    drawn = 0,  -- when
    length = 0, -- of the live line that stands there now; 0: none
  }, Progress)
end
