-- saved_run.lua - best and last.safetensors of a run, and how a run goes on from one of them.
--
-- Beside the weights a file has the optimizer's tensors ("optimizer....") and, in its metadata, the
-- place in the run: epoch, batch, step, means, curves, settings. Numbers are written exactly, and
-- with the seed they are all that the rest of the run depends on.
--
-- Surprising: settings come from the file unless the command line names them, so `--resume RUN`
-- alone goes on with the run as it was started, the script's own options (--set) included. What
-- belongs to the machine is not kept: threads, device, precision and the data's directory.

local cnn = require "cnn"
local checkpoint = require "cnn.checkpoint"
local fail = require "cnn.fail"
local files = require "cnn.files"
local json = require "cjson"

local saved_run = {}

local Saved = {}
Saved.__index = Saved

local KEY = "cnnlua.run"

-- Numbers as text that loses nothing; JSON's own would be rounded to 14 digits.
local function exact(value)
  if type(value) == "number" then return ("%a"):format(value) end
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, inner in pairs(value) do copy[key] = exact(inner) end
  return copy
end

local function inexact(value)
  if type(value) == "string" and value:match "^%-?0x[%x.]+p[+-]%d+$" then return tonumber(value) end
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, inner in pairs(value) do copy[key] = inexact(inner) end
  return copy
end

-- Plain values that make up the place in the run; the same keys are read back.
local fields = { "epoch", "batches", "steps", "trained", "epoch_images", "rows", "points", "best",
                 "last", "seed" }

-- The place of a run, as text.
function saved_run.encode(run)
  local state = {
    name = run.recipe.name, loss = run.loss:state(), acc = run.acc:state(),
    settings = {
      batch = run.train.batch, epochs = run.train.epochs, lr = run.train.lr,
      height = run.recipe.input[2], width = run.recipe.input[3],
      limit = run.data.train.settings.limit, images = run.data.train:count(),
      shuffle_seed = run.data.train.seed, optimizer = run.optimizer.name,
      set = require "cnn.recipe".script_options(),
    },
    counters = run.optimizer:counters(), lr = run.optimizer.lr,
    step_seconds = run.steps_watch:seconds(), seconds = run.watch:seconds(),
    epoch_seconds = run.batches > 0 and run.epoch_watch:seconds() or 0,
    epoch_step_seconds = run.batches > 0 and run.steps_watch:seconds() - run.steps_before or 0,
  }
  for _, key in ipairs(fields) do state[key] = run[key] end
  return json.encode(exact(state))
end

function saved_run.decode(place) return inexact(json.decode(place)) end

function saved_run.write(run, name)
  local list = checkpoint.tensors(run.net)
  for _, item in ipairs(run.optimizer:tensors()) do
    list[#list + 1] = { checkpoint.STATE .. item[1], item[2] }
  end
  checkpoint.write(run.dir:file(name), list, { [KEY] = saved_run.encode(run), format = "pt" })
end

-- ----------------------------------------------------------------------------------------- resume

local function is_texts(list)
  local fits = type(list) == "table"
  for _, item in ipairs(fits and list or {}) do fits = fits and type(item) == "string" end
  return fits
end

-- The file that a run is resumed from, checked; with `dir`, `state` and the methods below.
function saved_run.open(path)
  local file = files.is_directory(path) and path:gsub("/+$", "") .. "/last.safetensors" or path
  local saved = checkpoint.open(file)
  local text = saved.metadata[KEY]
  if not text then
    fail.run("%s has weights but no run to go on with; resume takes a run's directory or its "
      .. "last.safetensors or best.safetensors", file)
  end
  local ok, state = pcall(saved_run.decode, text)
  if not ok or type(state) ~= "table" or type(state.settings) ~= "table"
    or type(state.steps) ~= "number" or not is_texts(state.settings.set or {}) then
    fail.run("%s: what it says of its run cannot be read", file)
  end
  saved.state, saved.dir = state, file:match "^(.*)/[^/]*$" or "."
  return setmetatable(saved, Saved)
end

local function differ(what, was, is)
  fail.run("--resume: the run was made with %s %s, now it is %s", what, tostring(was), tostring(is))
end

-- Before data and optimizer are made: what the options leave open is as it was, and put into them.
function Saved:take_settings(run, options)
  local settings, train, input = self.state.settings, run.train, run.recipe.input
  if self.state.name ~= run.recipe.name then
    differ("the recipe", self.state.name, run.recipe.name)
  end
  if options.batch and options.batch ~= settings.batch then
    differ("--batch", settings.batch, options.batch)
  end
  if options.seed and options.seed ~= self.state.seed then
    differ("--seed", self.state.seed, options.seed)
  end
  if options.limit and options.limit ~= settings.limit then
    differ("--limit", settings.limit or "none", options.limit)
  end
  options.limit = settings.limit
  for _, key in ipairs { "batch", "epochs", "lr" } do
    options[key] = options[key] or settings[key]
    train[key] = options[key]
  end
  options.resize = options.resize or { settings.height, settings.width }
  input[2], input[3] = unpack(options.resize)
  run.seed, run.shuffle_seed = self.state.seed, settings.shuffle_seed
end

local function restore_optimizer(run, saved)
  local names, prefix = {}, checkpoint.STATE
  for name in pairs(saved.tensors) do
    if name:sub(1, #prefix) == prefix then names[#names + 1] = name:sub(#prefix + 1) end
  end
  run.optimizer:restore(saved.state.counters, names, function(name)
    return checkpoint.read(saved, prefix .. name)
  end)
end

-- Puts the run where one was of which this is the state: everything but weights and optimizer.
function saved_run.place(run, state)
  run.optimizer.lr = state.lr or run.optimizer.lr
  for _, key in ipairs(fields) do run[key] = state[key] end
  run.loss:restore(state.loss)
  run.acc:restore(state.acc)
  run.steps_watch.total = state.step_seconds
  run.watch.total = state.seconds
  run.epoch_seconds, run.epoch_step_seconds = state.epoch_seconds, state.epoch_step_seconds
  cnn.manual_seed(run.seed)
end

-- Puts the run where the saved one was.
function Saved:restore(run)
  local state = self.state
  if state.settings.images ~= run.data.train:count() then
    differ("training images", state.settings.images, run.data.train:count())
  end
  if state.settings.optimizer ~= run.optimizer.name then
    differ("the optimizer", state.settings.optimizer, run.optimizer.name)
  end
  checkpoint.load(run.net, self)
  restore_optimizer(run, self)
  saved_run.place(run, state)
  run.resumed = ("resumed from %s at epoch %d, batch %d of %d"):format(self.file, run.epoch,
    run.batches, run.total)
end

return saved_run
