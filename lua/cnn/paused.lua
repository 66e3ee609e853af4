-- paused.lua - what a run that Ctrl-C has ended leaves in memory, for cnn.train(recipe) to go on.
--
--   paused.keep(value, run)                value: the recipe's table, as cnn.train was given it
--   paused.find(value, options)            the run that a call with these options goes on with
--   kept:options(value, options)           the options that are in force then
--   paused.forget(value)
--
-- What is found is used like a saved run of saved_run.lua (take_settings, restore, dir), with the
-- weights that the net has now in place of those of a file, and with what the recipe says now.
--
-- Surprising: a recipe is remembered weakly, and nothing that is kept may hold it or its net. So
-- the optimizer's state is kept by the names of the parameters: where a net has changed meanwhile,
-- those that are still there, in the same shape, go on, and the others start afresh.

local C = require "cnn.ffi".C
local fail = require "cnn.fail"
local saved_run = require "cnn.saved_run"
local text = require "cnn.text"

local paused = {}

local runs = setmetatable({}, { __mode = "k" }) -- recipe -> its interrupted run

local Kept = {}
Kept.__index = Kept

-- Of the options of the first call those that say what is trained, and on what.
local inherited = {
  "batch", "epochs", "lr", "resize", "seed", "limit", "data", "device", "precision",
}

-- The settings that the recipe and the options both have.
local both = { "batch", "epochs", "lr" }

-- ------------------------------------------------------------------------------------------- keep

local function settings_of(value)
  local train, settings = type(value.train) == "table" and value.train or {}, {}
  for _, key in ipairs(both) do settings[key] = train[key] end
  return settings
end

local function parameters_of(net)
  local list = {}
  for name, p in net:named_parameters() do
    list[#list + 1] = { name = name, shape = tostring(p:shape()) }
  end
  return list
end

-- The optimizer's state; `inner` is the optimizer itself where it has none to take up again.
local function optimizer_of(run)
  local optimizer = run.optimizer
  local kept = {
    name = optimizer.name, made_by = run.train.optimizer, parameters = parameters_of(run.net),
    tensors = {}, names = {},
  }
  local ok, counters, tensors = pcall(function()
    return optimizer:counters(), optimizer:tensors()
  end)
  kept.counters = ok and optimizer:has_state() and counters or nil
  if not kept.counters then kept.inner = optimizer.inner end
  for i, item in ipairs(ok and tensors or {}) do
    kept.names[i], kept.tensors[item[1]] = item[1], item[2]
  end
  return kept
end

function paused.keep(value, run)
  local given = {}
  for _, key in ipairs(inherited) do given[key] = run.options[key] end
  runs[value] = setmetatable({
    place = saved_run.encode(run), dir = run.dir.path, given = given,
    settings = settings_of(value), optimizer = optimizer_of(run),
  }, Kept)
end

function paused.forget(value) runs[value] = nil end

-- ------------------------------------------------------------------------------------------- find

-- resume, a run's name or false, asks for another run, and so does another directory.
function paused.find(value, options)
  local kept = runs[value]
  if not kept or options.resume ~= nil then return nil end
  if options.out and options.out ~= kept.dir then return nil end
  return kept
end

-- Those of the first call, but for what the recipe says otherwise since; then those of this one.
function Kept:options(value, options)
  local all, now = {}, settings_of(value)
  for key, given in pairs(self.given) do all[key] = given end
  for _, key in ipairs(both) do
    if now[key] ~= self.settings[key] then all[key] = nil end
  end
  for key, given in pairs(options) do all[key] = given end
  all.out = self.dir
  return all
end

-- ------------------------------------------------------------------------------------------ go on

local function differ(what, was, is)
  fail.run("cnn.train: the run that was interrupted has %s %s, now it is %s; resume = false starts "
    .. "a new one", what, tostring(was), tostring(is))
end

function Kept:take_settings(run, options)
  local state = saved_run.decode(self.place)
  if options.seed and options.seed ~= state.seed then differ("seed", state.seed, options.seed) end
  run.seed, run.shuffle_seed = state.seed, state.settings.shuffle_seed
end

-- For each of the parameters `now` its number among those `before`, or false, and the names of the
-- latter; and whether all are where they were.
local function match(before, now)
  local numbers, from, fresh = {}, {}, {}
  for i, p in ipairs(before) do numbers[p.name .. " " .. p.shape] = i end
  local same = #before == #now
  for i, p in ipairs(now) do
    from[i] = numbers[p.name .. " " .. p.shape] or false
    same = same and from[i] == i
    if not from[i] then fresh[#fresh + 1] = text.path("", p.name) end
  end
  return from, fresh, same
end

-- Counters and tensors under the parameters' new numbers; nil for a state that is not by number, as
-- cnn.optim's are ("velocity.3", counts).
local function renumbered(kept, from)
  if type(kept.counters.counts) ~= "table" then return nil end
  local counters, tensors, to = {}, {}, {}
  for key, value in pairs(kept.counters) do counters[key] = value end
  counters.counts = {}
  for i, old in ipairs(from) do
    counters.counts[i] = old and kept.counters.counts[old] or 0
    if old then to[old] = i end
  end
  for name, tensor in pairs(kept.tensors) do
    local slot, number = name:match "^(%a+)%.(%d+)$"
    if not slot then return nil end
    number = to[tonumber(number)]
    if number then tensors[slot .. "." .. number] = tensor end
  end
  return counters, tensors
end

local function try_state(run, counters, tensors)
  local names = {}
  for name in pairs(tensors) do names[#names + 1] = name end
  table.sort(names)
  local ok, why = pcall(run.optimizer.restore, run.optimizer, counters, names,
    function(name) return tensors[name] end)
  if ok then return true end
  if C.cnn_interrupted() ~= 0 then error(why, 0) end
  run.optimizer = require "cnn.optimizer".new(run.net, run.train)
  return false
end

-- What the optimizer cannot go on with, in words; or nil.
local function restore_optimizer(run, kept)
  local from, fresh, same = match(kept.parameters, parameters_of(run.net))
  if kept.inner then
    if not same or kept.made_by ~= run.train.optimizer then return "starts afresh" end
    run.optimizer.inner = kept.inner
    return nil
  end
  local counters, tensors = kept.counters, kept.tensors
  if not same then counters, tensors = renumbered(kept, from) end
  local had = #kept.names > 0
  if kept.name ~= run.optimizer.name then
    return had and ("starts afresh, %s in place of %s"):format(run.optimizer.name, kept.name)
  end
  if not counters or not try_state(run, counters, tensors) then
    return had and "starts afresh: its state does not fit the parameters any more"
  end
  return had and #fresh > 0 and "starts afresh for " .. text.some(fresh)
end

-- A batch of another size begins where the last one of the old size ended, or a little before.
local function place_in_epoch(run, settings)
  if run.train.batch == settings.batch then return "" end
  run.batches = math.floor(run.batches * settings.batch / run.train.batch)
  return (", with batches of %d in place of %d"):format(run.train.batch, settings.batch)
end

function Kept:restore(run)
  local state = saved_run.decode(self.place)
  local images = run.data.train:count()
  if state.settings.images ~= images then
    differ("training images", state.settings.images, images)
  end
  local afresh = restore_optimizer(run, self.optimizer)
  saved_run.place(run, state)
  local batches = place_in_epoch(run, state.settings)
  run.resumed = ("goes on at epoch %d, batch %d of %d%s%s"):format(run.epoch, run.batches,
    run.total, batches, afresh and "; the optimizer " .. afresh or "")
end

return paused
