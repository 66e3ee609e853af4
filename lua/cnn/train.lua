-- train.lua - cnn.train(recipe, options): the loop over epochs and batches, and what is left of it.
--
-- Options are those of `cnnlua train`. Returns a table of results (loss, train_acc, test_acc, ...).
-- A step is two recordings: gradients, then, if the loss is finite, the optimizer. So whatever ends
-- a run, a NaN, Ctrl-C, a full disk, the net holds the weights after its last whole step, and they
-- are what last.safetensors gets.
--
-- Surprising: nothing random depends on what was done before. Step k draws the streams of step k,
-- math.random included, epoch e the order of epoch e; that is why a resumed run ends with the same
-- bits.

local C = require "cnn.ffi".C
local cnn = require "cnn"
local err = require "cnn.error"
local fail = require "cnn.fail"
local finite = require "cnn.finite"
local guard = require "cnn.guard"
local handle = require "cnn.handle"
local members = require "cnn.members"
local meter = require "cnn.meter"
local paused = require "cnn.paused"
local recipe = require "cnn.recipe"
local report = require "cnn.probes.report"
local run_data = require "cnn.run_data"
local saved_run = require "cnn.saved_run"
local tally = require "cnn.tally"

local POINTS_AN_EPOCH = 5  -- of the curves, as in the book
local DRAW_SECONDS = 10    -- between two drawings of the curves

local train = {}

local Run = {}
Run.__index = Run

-- ---------------------------------------------------------------------------------------- set-up

local function shadows(net)
  local list = {}
  for _, buffer in net:named_buffers() do
    local shadow = cnn.zeros(buffer:shape(), { device = buffer.device })
    list[#list + 1] = { buffer = buffer, shadow = shadow }
  end
  return list
end

-- kept: an interrupted run to go on with, or nil.
local function new_run(checked, options, kept)
  local run = setmetatable({
    recipe = checked, net = checked.net, train = checked.train, options = options,
    watch = meter.watch(), steps_watch = meter.watch(), epoch_watch = meter.watch(),
    loss = meter.mean(), acc = meter.mean(),
    epoch = 1, batches = 0, steps = 0, trained = 0, epoch_images = 0,
    rows = {}, points = {}, best = nil, seed = tonumber(options.seed or C.cnn_seed()),
  }, Run)
  run.watch:start()
  run.device, run.precision = recipe.device(options)
  local saved = kept or options.resume and saved_run.open(options.resume)
  if saved then saved:take_settings(run, options) end
  if options.seed or saved then cnn.manual_seed(run.seed) end
  run.data = run_data.open(run, options)
  local summary = recipe.dry_run(checked)
  run.parameters, run.macs = summary.parameters, summary.macs
  run_data.fit(run, options)
  run.total = run.data.train:batch_count(run.train.batch)
  run.net:to(run.device)
  run.optimizer = require "cnn.optimizer".new(run.net, run.train)
  run.guarded = run.device == "cpu" and shadows(run.net) or {}
  if saved then saved:restore(run) end
  run.came_from = saved and saved.dir
  run.dir = require "cnn.rundir".open(checked.name, options.out or saved and saved.dir)
  return run
end

-- ------------------------------------------------------------------------------------- evaluation

-- On a card: nothing is read before the end.
local function measure_on_card(net, split, options)
  local device = members.device(net)
  local sums, criterion = tally.new(device), cnn.nn.CrossEntropyLoss()
  local iterate, state = split:batches { batch = options and options.batch, device = device }
  local x, y = iterate(state)
  while x do
    local count = y:numel()
    cnn.step(function()
      cnn.no_grad(function()
        local out = net(x)
        sums:add(criterion(out, y), tally.right(out, y), count)
      end)
    end)
    sums:counted(count)
    handle.give_back(x, y)
    x, y = iterate(state)
  end
  local loss, acc = sums:read()
  return loss, acc
end

local function measure(net, split, options)
  if (members.device(net) or "cpu") ~= "cpu" then return measure_on_card(net, split, options) end
  local loss, acc = meter.mean(), meter.mean()
  local criterion = cnn.nn.CrossEntropyLoss()
  local iterate, state = split:batches(options)
  local x, y = iterate(state)
  while x do
    local count = y:numel()
    local l, right = cnn.step(function()
      return cnn.no_grad(function()
        local out = net(x)
        return criterion(out, y), tally.right(out, y)
      end)
    end)
    loss:add(l:item(), count)
    acc:add(right:item() / count, count)
    handle.give_back(l, right, x, y)
    x, y = iterate(state)
  end
  return loss:value(), acc:value()
end

-- Loss and accuracy over all images of a split, in prediction mode; whatever ends it, the net is
-- then in the mode that it was in.
function train.evaluate(net, split, options)
  local training = net.training
  net:eval()
  local ok, loss, acc = guard.call(measure, net, split, options)
  if training then net:train() end
  if not ok then error(loss, 0) end
  return loss, acc
end

-- ------------------------------------------------------------------------------------------ a step

-- Forward and backward as one recording; loss and the number of right answers.
function train.gradients(net, criterion, optimizer, x, y, before)
  return cnn.step(function()
    optimizer:zero_grad()
    if before then x, y = before(x, y) end
    local out = net(x)
    local loss = criterion(out, y)
    loss:backward()
    return loss, tally.right(out, y)
  end)
end

function train.update(optimizer)
  cnn.step(function() optimizer:step() end)
end

-- The random numbers of what comes next, a step or an evaluation: the engine's, and Lua's for the
-- script's own blocks.
local function seed_step(run)
  C.cnn_rng_step(run.steps + 1)
  math.randomseed(run.seed * 2 ^ 20 + run.steps)
end

local function augmented(run, x, y)
  local augment = run.train.augment
  if not augment then return x, y end
  local new_x, new_y = err.call(augment, x, y)
  if not cnn.is_tensor(new_x) then fail.run "train.augment has to return x, y" end
  return new_x, new_y or y
end

-- What is done to a batch inside the step.
local function before_step(run)
  if not run.train.augment then return nil end
  return function(x, y) return augmented(run, x, y) end
end

-- A step of its own: what ends the next one before it has run finds copies of this very moment.
local function remember_buffers(run)
  if #run.guarded == 0 then return end
  cnn.step(function()
    for _, pair in ipairs(run.guarded) do pair.shadow:copy(pair.buffer) end
  end)
end

local function restore_buffers(run)
  cnn.no_grad(function()
    for _, pair in ipairs(run.guarded) do pair.buffer:copy(pair.shadow) end
  end)
end

local function diverged(run, loss, x, y)
  run.diverged = true
  restore_buffers(run)
  local where = finite.explain(run.net, x, function()
    seed_step(run)
    local seen, labels = augmented(run, x, y)
    return run.criterion(run.net(seen), labels)
  end)
  restore_buffers(run)
  fail.run("the loss is %s at step %d (epoch %d) with lr %g: %s; the weights before that step are "
    .. "in %s", loss ~= loss and "not a number" or "infinite", run.steps + 1, run.epoch,
    run.optimizer.lr, where, run.dir:file "last.safetensors")
end

-- From `guard.hold` on the step is counted as a whole or, with the weights, not at all.
function Run:step(x, y)
  if self.card then return self.card:step(x, y) end
  local count = y:numel()
  self.steps_watch:start()
  self.optimizer:schedule(self.epoch - 1 + self.batches / self.total)
  seed_step(self)
  remember_buffers(self)
  self.in_step = true
  local loss, right = train.gradients(self.net, self.criterion, self.optimizer.inner, x, y,
    self.before)
  local value, hits = loss:item(), right:item()
  if value - value ~= 0 then diverged(self, value, x, y) end
  guard.hold(true)
  train.update(self.optimizer.inner)
  self.in_step = false
  self.loss:add(value, count)
  self.acc:add(hits / count, count)
  self.batches, self.steps = self.batches + 1, self.steps + 1
  self.trained, self.epoch_images = self.trained + count, self.epoch_images + count
  self.steps_watch:stop()
  handle.give_back(loss, right)
  guard.hold(false)
end

-- --------------------------------------------------------------------------------------- an epoch

local function live(run)
  if run.card then
    if not (run.progress.terminal and run.card:due()) then return end
    run.card:settle()
  end
  local rate = run.trained / math.max(run.steps_watch:seconds(), 1e-9)
  run.progress:live {
    epoch = run.epoch, epochs = run.train.epochs, done = run.batches, total = run.total,
    loss = run.loss:value(), acc = run.acc:value(), rate = rate, images = run.data.train:count(),
  }
end

-- The book's curves: five points an epoch, and one where it ends.
local function add_point(run)
  local every = math.max(1, math.floor(run.total / POINTS_AN_EPOCH))
  if run.batches % every == 0 or run.batches == run.total then
    if run.card then run.card:settle() end
    table.insert(run.points, {
      epoch = run.epoch - 1 + run.batches / run.total, train_loss = run.loss:value(),
      train_acc = run.acc:value(),
    })
  end
end

local function row_of(run, epoch, test_acc)
  local seconds = run.epoch_watch:seconds()
  return {
    epoch = epoch, train_loss = run.loss:value(), train_acc = run.acc:value(), test_acc = test_acc,
    lr = run.optimizer.lr, seconds = seconds,
    examples_per_s = run.epoch_images
      / math.max(run.steps_watch:seconds() - run.steps_before, 1e-9),
    peak_mb = tonumber(C.cnn_peak_rss()) / 2 ^ 20,
  }
end

local function draw(run)
  local ok, why = run.dir:draw_curves(run.points, run.recipe.name, run.train.epochs)
  run.drawn = C.cnn_seconds()
  if not ok and not run.warned then
    run.warned = true
    run.progress:clear()
    io.stderr:write("cnnlua: no curves.png: ", why, "\n")
  end
end

local function finish_epoch(run)
  if run.steps_watch.since then run.steps_watch:stop() end
  seed_step(run)
  local _, test_acc = train.evaluate(run.net, run.data.test, { batch = run.train.batch })
  guard.hold(true)
  local row = row_of(run, run.epoch, test_acc)
  table.insert(run.rows, row)
  local last = run.points[#run.points]
  last.test_acc = test_acc
  run.last = { loss = row.train_loss, train_acc = row.train_acc, test_acc = test_acc }
  local better = not run.best or test_acc > run.best.test_acc
  if better then run.best = { test_acc = test_acc, epoch = run.epoch } end
  run.progress:epoch(row, run.train.epochs)
  run.epoch, run.batches, run.epoch_images = run.epoch + 1, 0, 0
  run.loss:reset()
  run.acc:reset()
  if better then saved_run.write(run, "best.safetensors") end
  saved_run.write(run, "last.safetensors")
  run.dir:write_metrics(run.rows)
  if run.epoch > run.train.epochs or C.cnn_seconds() - run.drawn > DRAW_SECONDS then draw(run) end
  guard.hold(false)
end

local function run_epoch(run)
  run.net:train()
  run.epoch_watch = meter.watch(run.epoch_seconds)
  run.epoch_watch:start()
  run.steps_before = run.steps_watch:seconds() - (run.epoch_step_seconds or 0)
  run.epoch_seconds, run.epoch_step_seconds = nil, nil
  local iterate, state = run.data.train:batches {
    batch = run.train.batch, epoch = run.epoch, skip = run.batches, device = run.device,
  }
  local x, y = iterate(state)
  while x do
    run:step(x, y)
    handle.give_back(x, y)
    add_point(run)
    live(run)
    x, y = iterate(state)
  end
  finish_epoch(run)
end

-- --------------------------------------------------------------------------------------- the whole

local function result_of(run)
  local last, seconds = run.last, run.watch:seconds()
  return {
    name = run.recipe.name, loss = last.loss, train_acc = last.train_acc, test_acc = last.test_acc,
    best_test_acc = run.best.test_acc, best_epoch = run.best.epoch, device = run.device,
    examples_per_s = run.trained / math.max(run.steps_watch:seconds(), 1e-9),
    end_to_end_examples_per_s = run.trained / math.max(seconds, 1e-9), seconds = seconds,
    epochs = run.epoch - 1, steps = run.steps, batch = run.train.batch, lr = run.optimizer.lr,
    seed = run.seed, threads = C.cnn_threads(), parameters = run.parameters, macs = run.macs,
    peak_mb = tonumber(C.cnn_peak_rss()) / 2 ^ 20, out = run.dir.path,
  }
end

-- After a failure: the net as it was after its last whole step, and on disk what is known so far.
-- A script's error before the first step leaves nothing to keep.
local function rescue(run)
  if run.in_step then restore_buffers(run) end
  if run.card then run.card:rescue() end
  run.progress:clear()
  if run.steps == 0 and not run.diverged and not guard.interrupted() then
    return run.dir:discard()
  end
  local rows = { unpack(run.rows) }
  if run.batches > 0 then
    rows[#rows + 1] = row_of(run, run.epoch - 1 + run.batches / run.total)
  end
  run.dir:write_metrics(rows)
  if not finite.first(run.net:named_parameters()) then
    saved_run.write(run, "last.safetensors")
  end
  draw(run)
end

local function header(run)
  local data, input = run.data, run.recipe.input
  local split = data.train
  local stored = ("%dx%d"):format(unpack(split.stored))
  local size = ("%dx%d"):format(input[2], input[3])
  run.progress:header {
    name = run.recipe.name, parameters = run.parameters, macs = run.macs,
    input = ("%dx%s"):format(input[1], size), device = require "cnn.device_line".of(run),
    data = data.name, data_dir = data.dir, train_images = split:count(),
    test_images = data.test:count(),
    resized = stored == size and " of " .. stored or (" of %s resized to %s"):format(stored, size),
    optimizer = run.optimizer.name, lr = run.optimizer.base, batch = run.train.batch,
    epochs = run.train.epochs, seed = run.seed, out = run.dir.path, resumed = run.resumed,
  }
end

-- A run that goes on in another directory brings along its best weights so far.
local function work(run)
  if run.best and run.came_from ~= run.dir.path then
    run.dir:copy(run.came_from .. "/best.safetensors", "best.safetensors")
  end
  while run.epoch <= run.train.epochs do run_epoch(run) end
end

local function start(value, options, kept)
  C.cnn_reset_rss()
  local checked = recipe.check(value, options)
  local run = new_run(checked, options, kept)
  run.criterion = cnn.nn.CrossEntropyLoss()
  run.before = before_step(run)
  run.progress = require "cnn.progress"(options.json and "json" or options.quiet and "quiet" or nil)
  run.drawn = C.cnn_seconds()
  run.steps_before = 0
  header(run)
  if run.device ~= "cpu" then run.card = require "cnn.card_run".new(run, seed_step) end
  return run
end

-- As they were drawn last, if any were; where there is no curves.png, it has been said why.
local function show_curves(run)
  local curves = run.dir.curves
    or require "cnn.plot".curves(run.points, run.recipe.name, run.train.epochs)
  if curves and not run.warned then run.progress:curves(curves) end
end

-- What ends a run, in one line. `again` says how a Lua caller goes on after a Ctrl-C.
local function ending(run, why, problem, again)
  local saved = not problem and "--resume " .. run.dir.path
  if guard.interrupted() then
    why = ("interrupted at step %d"):format(run.steps)
    local ways = again and saved and ("%s goes on (from the shell: %s)"):format(again, saved)
      or (again or saved) and (again or saved) .. " goes on"
    if ways then why = why .. "; " .. ways end
  end
  if problem and run.card and #run.rows > 0 then
    return ("%s; the weights after epoch %d are in %s"):format(fail.line(why), #run.rows,
      run.dir:file "last.safetensors")
  end
  if saved or tostring(why):find(tostring(problem), 1, true) then return why end
  return ("%s; and what was reached could not be saved: %s"):format(fail.line(why),
    fail.line(problem))
end

local function run_whole(value, options, kept, again)
  if guard.interrupted() then guard.clear() end -- by a Ctrl-C that a script has caught
  local own = {} -- a resumed run fills in what is open
  for key, given in pairs(options) do own[key] = given end
  local run = start(value, own, kept)
  paused.forget(value)
  local ok, why = guard.call(work, run)
  if not ok then
    local saved, problem = pcall(rescue, run)
    if run.card and tostring(why):find("out of memory on ", 1, true) then
      local advice = require "cnn.out_of_memory".advice(run)
      if advice then why = fail.line(why) .. "; " .. advice end
    end
    if guard.interrupted() and not pcall(paused.keep, value, run) then again = nil end
    error(ending(run, why, not saved and (problem or "") or nil, again), 0)
  end
  guard.hold(false)
  local result = result_of(run)
  show_curves(run)
  run.progress:close(result)
  report.pass_over(result)
  return report.new(result, run.progress:closing(result))
end

-- options: as the command line gives them.
function train.run(value, options) return run_whole(value, options) end

--- cnn.train(recipe, { epochs = nil, batch = nil, lr = nil, resize = nil, seed = nil, limit = nil,
---   data = nil, out = nil, resume = nil, device = "auto", precision = nil, threads = nil,
---   quiet = false, json = false, deterministic = false, autotune = false })
-- Trains the recipe's net and returns a table of results: loss, train_acc, test_acc, out and more.
-- After a Ctrl-C the net has the weights of its last whole step, and cnn.train(recipe) with the
-- same table goes on: from that step, in the same directory, with the net as it is then and with
-- what the recipe says then; the same bits as without the break if nothing was changed. After its
-- end, or an error, it starts a new run.
-- Options: those of `cnnlua train`, as Lua values, before what the recipe says; resume: a run's
--   directory or file to go on with, or false, which starts a new run after a Ctrl-C too, as
--   another out does
-- Errors: a recipe that is wrong; a loss that is not finite names step, rate and layer
-- Example: result = cnn.train(recipe, { epochs = 1, limit = 64, batch = 32, quiet = true })
-- See: cnn.reload, cnnlua train
local function call(_, value, options)
  options = recipe.options("cnn.train", options)
  if options.threads then cnn.set_threads(options.threads) end
  local kept = paused.find(value, options)
  if kept then options = kept:options(value, options) end
  if not kept then recipe.add_prompt_options(value, options) end
  return run_whole(value, options, kept, "cnn.train(recipe) again")
end

return setmetatable(train, { __call = call })
