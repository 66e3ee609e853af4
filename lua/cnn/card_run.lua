-- card_run.lua - the trainer's steps on a card, which the host does not wait for.
--
--   run.card = card_run.new(run, seed_step)
--   run.card:step(x, y)      forward, backward and update as one recording: one graph, replayed
--   run.card:settle()        waits; the run's loss and accuracy are then up to date
--   card_run.step(job, x, y) such a step alone, for who measures it
--
-- The sums of loss and right answers stay on the card and are read when a line is drawn, at the
-- points of the curves and at the end of an epoch. A loss that is no number is seen then; so at
-- each look that finds a good one the weights are copied, on the card, and a run that diverges ends
-- with those of the last good look.
--
-- Surprising: the watch of the steps runs from the first step of an epoch to the look at its end,
-- since the time of a step that nobody waits for says nothing.

local C = require "cnn.ffi".C
local cnn = require "cnn"
local fail = require "cnn.fail"
local guard = require "cnn.guard"
local handle = require "cnn.handle"
local tally = require "cnn.tally"

local LOOK_SECONDS = 0.1

local card_run = {}

local Card = {}
Card.__index = Card

-- ----------------------------------------------------------------------------------- what is kept

local counters = { "steps", "batches", "trained", "epoch_images" }

-- Everything that a step changes, each with room for a copy beside it.
local function changing(run)
  local list = {}
  local function add(x)
    list[#list + 1] = { now = x, good = handle.keep(x:detach():clone()) }
  end
  cnn.no_grad(function()
    for _, p in run.net:named_parameters() do add(p) end
    for _, b in run.net:named_buffers() do add(b) end
    local inner = run.optimizer.inner
    if inner.state then
      for _, x in pairs(inner:state().tensors) do add(x) end
    end
  end)
  return list
end

local function copy_all(list, to, from)
  cnn.step(function()
    cnn.no_grad(function()
      for _, pair in ipairs(list) do pair[to]:copy(pair[from]) end
    end)
  end)
end

-- The optimizer's buffers come with its first step: what is there then is listed anew.
function Card:keep_good()
  if not self.list or self.listed_at == 0 then
    self.list, self.listed_at = changing(self.run), self.run.steps
  else
    copy_all(self.list, "good", "now")
  end
  self.counted = {}
  for _, name in ipairs(counters) do self.counted[name] = self.run[name] end
end

function Card:take_good()
  if not self.list then return end
  copy_all(self.list, "now", "good")
  for _, name in ipairs(counters) do self.run[name] = self.counted[name] end
end

-- -------------------------------------------------------------------------------------- a step

-- job: net, criterion, optimizer, tally; before: what is done to a batch, or nil; whole: called
-- where from the step counts as a whole, or nil.
local function record(job, x, y, count)
  job.optimizer:zero_grad()
  if job.before then x, y = job.before(x, y) end
  local out = job.net(x)
  local loss = job.criterion(out, y)
  loss:backward()
  job.tally:add(loss:detach(), tally.right(out, y), count)
  if C.cnn_interrupted() ~= 0 then error("interrupted", 0) end -- the optimizer has not counted it
  if job.whole then job.whole() end
  job.optimizer:step()
  job.optimizer:zero_grad() -- no gradient outlives the step: its memory is the graph's
end

-- Forward, backward and update as one recording.
function card_run.step(job, x, y)
  local count = y:numel()
  cnn.step(record, job, x, y, count)
  job.tally:counted(count)
end

function Card:step(x, y)
  local run = self.run
  local count = y:numel()
  if not run.steps_watch.since then run.steps_watch:start() end
  run.optimizer:schedule(run.epoch - 1 + run.batches / run.total)
  self.seed_step(run)
  card_run.step(self.job, x, y)
  run.batches, run.steps = run.batches + 1, run.steps + 1
  run.trained, run.epoch_images = run.trained + count, run.epoch_images + count
  guard.hold(false)
end

-- -------------------------------------------------------------------------------------- a look

local function diverged(self, loss)
  local run, last = self.run, self.run.steps
  run.diverged = true
  self:take_good()
  local first = run.steps + 1
  local where = first == last and "at step " .. last or ("from a step between %d and %d on")
    :format(first, last)
  fail.run("the loss is %s %s (epoch %d) with lr %g; the weights after step %d are in %s",
    loss ~= loss and "not a number" or "infinite", where, run.epoch, run.optimizer.lr, run.steps,
    run.dir:file "last.safetensors")
end

function Card:settle()
  local run = self.run
  local loss, acc, count = self.tally:read()
  self.looked = C.cnn_seconds()
  if count == 0 then return end
  if loss - loss ~= 0 then diverged(self, loss) end
  run.loss:add(loss, count)
  run.acc:add(acc, count)
  self:keep_good()
end

function Card:due()
  return C.cnn_seconds() - self.looked > LOOK_SECONDS
end

-- What is left of a run that ended with an error: what can still be read is.
function Card:rescue()
  if not self.run.diverged then pcall(self.settle, self) end
end

function card_run.new(run, seed_step)
  local sums = tally.new(run.device)
  local self = setmetatable({
    run = run, seed_step = seed_step, tally = sums, looked = C.cnn_seconds(),
    job = {
      net = run.net, criterion = run.criterion, optimizer = run.optimizer.inner, tally = sums,
      before = run.before, whole = function() guard.hold(true) end,
    },
  }, Card)
  self:keep_good()
  return self
end

return card_run
