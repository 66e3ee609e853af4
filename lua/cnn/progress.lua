-- progress.lua - what a training run says on stdout.
--
-- On a terminal one line an epoch is redrawn, ten times a second at most; elsewhere each epoch gets
-- one plain line. quiet: the two closing lines only; json: one object at the end. Surprising: the
-- live line is never wider than the terminal, because a line that wraps cannot be redrawn; its bar
-- takes what is left, and the time left stands before what may be cut off.

local ffi = require "ffi"
local C = require "cnn.ffi".C
local commas = require "cnn.text".commas
local files = require "cnn.files"

ffi.cdef [[
typedef struct { unsigned short rows, columns, x, y; } cnnlua_winsize;
int ioctl(int file, unsigned long request, ...);
]]

local TIOCGWINSZ = 0x5413
local REDRAW_SECONDS = 0.1
local LONGEST_BAR, SHORTEST_BAR = 16, 4

local Progress = {}
Progress.__index = Progress

local function duration(seconds)
  if seconds < 100 then return ("%.1f s"):format(seconds) end
  local s = math.floor(seconds + 0.5)
  if s < 3600 then return ("%d:%02d min"):format(s / 60, s % 60) end
  return ("%d:%02d h"):format(s / 3600, s % 3600 / 60)
end

local function columns()
  local size = ffi.new "cnnlua_winsize"
  if ffi.C.ioctl(1, TIOCGWINSZ, size) == 0 and size.columns > 0 then return size.columns end
  return 80
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
  self:say(("device %s (%s), %s kernels, %d threads, %s"):format(facts.device, facts.cpu,
    facts.kernels, facts.threads, facts.precision))
  self:say(("data %s: %s training and %s test images%s%s"):format(facts.data,
    commas(facts.train_images), commas(facts.test_images), facts.resized,
    facts.data_dir and ", " .. facts.data_dir or ""))
  self:say(("%s, lr %g, batch %d, %d epochs, seed %d; results in %s"):format(facts.optimizer,
    facts.lr, facts.batch, facts.epochs, facts.seed, facts.out))
  if facts.resumed then self:say(facts.resumed) end
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
  local tail = (" %3d%%  %s left  loss %.3f  acc %.3f  %.0f examples/sec"):format(part * 100, left,
    now.loss, now.acc, now.rate)
  return (head .. bar(part, width - #head - #tail - 1) .. tail):sub(1, width)
end

-- now: epoch, epochs, done, total (batches), loss, acc, rate (images/s)
function Progress:live(now)
  if self.silent or not self.terminal then return end
  local time = C.cnn_seconds()
  if time - self.drawn < REDRAW_SECONDS and now.done < now.total then return end
  self.drawn = time
  io.write("\r", live_line(now, (self.columns or columns()) - 1), "\27[K")
  io.flush()
  self.open = true
end

-- Ends the live line, so that what follows stands on its own.
function Progress:clear()
  if self.open then
    io.write "\r\27[K"
    io.flush()
    self.open = false
  end
end

function Progress:epoch(row, epochs)
  self:clear()
  self:say(("epoch %d/%d: loss %.3f, train acc %.3f, test acc %.3f, %.1f examples/sec, %s"):format(
    row.epoch, epochs, row.train_loss, row.train_acc, row.test_acc, row.examples_per_s,
    duration(row.seconds)))
end

-- The book's two lines; the figure in brackets counts loading, evaluation and saving as well.
function Progress:close(result)
  self:clear()
  if self.kind == "json" then
    io.write(require "cjson".encode(result), "\n")
  else
    io.write(("loss %.3f, train acc %.3f, test acc %.3f\n"):format(result.loss, result.train_acc,
      result.test_acc))
    io.write(("%.1f examples/sec on %s (%.1f end to end, with loading and evaluation)\n"):format(
      result.examples_per_s, result.device, result.end_to_end_examples_per_s))
  end
  io.flush()
end

-- kind: "quiet", "json" or nil. What it finds out, whether stdout is a terminal, may be set after:
-- terminal, columns (nil: as wide as the terminal is now).
return function(kind)
  return setmetatable({
    kind = kind, silent = kind ~= nil, terminal = files.is_terminal(1), drawn = 0,
  }, Progress)
end
