-- reload.lua - cnn.reload(net, file): an edited script is run again, and the net keeps its weights.
--
-- The table `net` itself becomes the new net, so all who hold it see the new layers; carry.lua says
-- which tensors go over into it. Files that the script requires are run again where they have
-- changed (sources.lua). reload.script, set by the prompt, is what `net` came from:
-- { file =, words =, options =, recipe = }; it stands for what is left out in a call.
--
-- Surprising: all that may fail happens to a net beside the old one: the script, its check, its
-- shapes, the memory on the device. What then changes the old one cannot fail, and a Ctrl-C waits
-- for it. And fresh weights draw from a stream of their own: the random numbers that come next are
-- those that would have come without the reload.

local C = require "cnn.ffi".C
local argument = require "cnn.argument"
local carry = require "cnn.reload.carry"
local err = require "cnn.error"
local fail = require "cnn.fail"
local files = require "cnn.files"
local guard = require "cnn.guard"
local members = require "cnn.members"
local recipe = require "cnn.recipe"
local report = require "cnn.probes.report"
local sources = require "cnn.reload.sources"
local text = require "cnn.text"

local reload = { script = nil }

-- Of the random numbers for the weights of the n-th reload: beyond those of any step, below those
-- of the shuffles.
local FIRST_STREAM, STREAMS = 0x2000000000000000ULL, 2 ^ 20

local count = 0 -- reloads so far

-- ------------------------------------------------------------------------------------ the recipe

local function copy_of(t)
  local copy = {}
  for key, value in pairs(t) do copy[key] = value end
  return copy
end

-- The same value, or tables with the same values.
local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do
    if b[key] ~= value then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

-- Whether a script has made up its mind anew. Functions, and tables in tables, are other ones after
-- each run: of them nobody knows.
local function is_news(before, now)
  local kind = type(before)
  if kind ~= type(now) then return true end
  if kind == "function" then return false end
  if kind ~= "table" then return before ~= now end
  for key, value in pairs(before) do
    if type(value) ~= "table" and is_news(value, now[key]) then return true end
  end
  return false
end

local function all_keys(a, b)
  local keys = copy_of(a)
  for key, value in pairs(b) do keys[key] = value end
  return keys
end

-- What the script says now in place of what it said before; but what was set since, and of which
-- the script says nothing new, stays.
local function merge(target, before, now)
  for key in pairs(all_keys(before, now)) do
    if same(target[key], before[key]) or is_news(before[key], now[key]) then
      target[key] = now[key]
    end
  end
end

-- "lr 0.1 -> 0.05" for each setting of two tables `train` that differs.
local function differences(was, train)
  local list = {}
  for key in pairs(all_keys(was, train)) do
    if not same(was[key], train[key]) and is_news(was[key], train[key]) then
      list[#list + 1] = ("%s %s -> %s"):format(key, text.value(was[key]), text.value(train[key]))
    end
  end
  table.sort(list)
  return list
end

-- Brings a recipe that somebody holds up to date; `before` is what a script's check gave for it,
-- nil where it is the script's own table, which gets the fields of the new one. Returns what
-- changed in its train.
local function update(target, before, checked)
  local train = type(target.train) == "table" and target.train or {}
  local was = copy_of(train)
  if before then
    merge(train, before.train, checked.train)
    for _, key in ipairs { "name", "input", "data", "batch_asked" } do
      merge(target, { [key] = before[key] }, { [key] = checked[key] })
    end
    target.train, target.script, target.net = train, checked.script, checked.net
  else
    for key in pairs(target) do target[key] = nil end
    for key, value in pairs(checked.script) do target[key] = value end
  end
  return differences(was, target.train or {})
end

-- ------------------------------------------------------------------------------------- the reload

-- fn(...) without sight of the frames that lead here: an error that is of no line of the script's
-- then has that of the layer, and not the one that asked for the reload.
local function apart(fn, ...)
  local ok, why = coroutine.resume(coroutine.create(fn), ...)
  if not ok then error(why, 0) end
end

-- The script's own options in force, as a list for --set, and { ratio = 4 } in place of what they
-- say of the same.
local function set_of(given)
  local list = {}
  for _, item in ipairs(recipe.script_options()) do
    if given[item:match "^[^=]*"] == nil then list[#list + 1] = item end
  end
  for key, value in pairs(given) do
    if type(value) == "number" then value = ("%.17g"):format(value) end
    list[#list + 1] = ("%s=%s"):format(tostring(key), tostring(value))
  end
  return list
end

-- The script's recipe, the account of what its net takes over from the one at hand, and what the
-- script said before of the recipe that is to be brought up to date. From then on a Ctrl-C waits.
local function make(job)
  local found, why = files.read(job.file)
  if not found then fail.run("cannot open %s", why) end
  C.cnn_set_rng_stream(FIRST_STREAM + count * STREAMS)
  local value = recipe.value(job.file, { set = set_of(job.set) }, unpack(job.words))
  local checked = recipe.check(value, job.options)
  apart(recipe.measure, checked)
  local account = carry(job.net, checked.net, members.device(job.net))
  local before = job.recipe and job.recipe.script and recipe.check(job.recipe.script, job.options)
  job.held = guard.hold(true)
  return checked, account, before
end

-- The net at hand takes the place of the one that the script made: in its recipe and its globals. A
-- function of the script goes on with its own table, which has the same layers.
local function put_in_place(job, checked, account)
  local fresh = checked.net
  if fresh ~= job.net then
    members.become(job.net, fresh)
    checked.net, checked.script.net = job.net, job.net
    for name, value in next, _G do
      if rawequal(value, fresh) then rawset(_G, name, job.net) end
    end
  end
  account:settle()
end

-- The error in one line, with the script's name in it.
local function line_of(file, why)
  if guard.interrupted() then return ("interrupted; %s was not reloaded"):format(file) end
  local line = fail.line(why)
  if not line:find(file, 1, true) and not line:find "^[^:]+:%d+: " then
    line = file .. ": " .. line
  end
  return line .. "; the net is as it was"
end

local function told(account, changes)
  local lines = tostring(account)
  if #changes > 0 then lines = lines .. "\nrecipe: " .. table.concat(changes, ", ") end
  return report.new(account:plain(), lines)
end

-- job: net, file, set, words, options (of recipe.check) and recipe (to be brought up to date, or
-- nil). Returns the recipe and the account, a table with a text; throws one line.
function reload.run(job)
  if guard.interrupted() then guard.clear() end -- by a Ctrl-C that a script has caught
  local seed, stream, set = C.cnn_seed(), C.cnn_rng_stream(), recipe.script_options()
  local undo = sources.forget(sources.stale(sources.of(job.file)))
  local ok, checked, account, before = guard.call(make, job)
  local held = not ok and guard.hold(true) or job.held
  C.cnn_manual_seed(seed)
  C.cnn_set_rng_stream(stream)
  if not ok then
    undo()
    recipe.prepare { set = set }
    guard.hold(held)
    error(line_of(job.file, checked), 0)
  end
  count = count + 1
  put_in_place(job, checked, account)
  local changes = job.recipe and update(job.recipe, before, checked) or {}
  guard.hold(held)
  return job.recipe or checked, told(account, changes)
end

-- ---------------------------------------------------------------------------------------- the call

local function check_set(who, given)
  if given == nil or type(given) == "table" then return given or {} end
  err.raise(("%s: set: expected a table such as { ratio = 4 }, got %s"):format(who, err.got(given)))
end

local function check_recipe(who, value)
  if value == nil or type(value) == "table" and not members.is_module(value) then return value end
  err.raise(("%s: recipe: expected a recipe, got %s"):format(who, err.got(value)))
end

reload.options = { "recipe", "set", "batch", "epochs", "lr", "resize" }

local known = { "quiet", unpack(reload.options) }

-- The job that a call asks for, with the options that are named above. What it leaves open is the
-- prompt's script's.
function reload.job(who, net, file, options)
  local script = reload.script or {}
  if net == nil and script.recipe then net = script.recipe.net end
  if not members.is_module(net) then
    err.raise(("%s(net, file): net: expected a module such as nn.Sequential(...), got %s")
      :format(who, err.got(net)))
  end
  if file == nil then file = script.file end
  if file == nil then
    err.raise(who .. "(net, file): file: expected the script's name, got nil (cnnlua -i FILE has "
      .. "one)")
  end
  local own = script.recipe and script.recipe.net == net and script.recipe or nil
  if argument.string(who, "file", file) ~= script.file then script = {} end
  local given = copy_of(script.options or {})
  for _, key in ipairs { "batch", "epochs", "lr" } do given[key] = options[key] or given[key] end
  if options.resize ~= nil then
    given.resize = { argument.pair(who, "resize", options.resize, 1) }
  end
  return {
    net = net, file = file, words = script.words or {}, options = given,
    set = check_set(who, options.set),
    recipe = check_recipe(who, options.recipe) or own,
  }
end

--- cnn.reload(net, file, { recipe = nil, set = nil, quiet = false,
---   batch = nil, epochs = nil, lr = nil, resize = nil })
-- Runs an edited script and makes `net` the net that it returns, with each weight and buffer kept
-- whose name and shape are still the same; says what was kept and what was not. Returns the net,
-- the recipe (its net is this one) and that account. The very tensors are kept, with their
-- gradients: an optimizer made before goes on with them, and a new one,
-- cnn.optim.SGD(net:parameters(), ...), is needed for new ones; cnn.train(recipe) sees to it
-- itself. Files that the script requires are run again where they changed. At a prompt with a
-- script net and file can be left out.
-- Options: recipe: a recipe in use, brought up to date in place (the prompt's own is); what was set
--   in it since, such as recipe.train.lr, stays unless the script says something new of it; set:
--   the script's own options, beside those in force; quiet: prints nothing; batch, epochs, lr,
--   resize: as for train
-- Errors: a script that fails, that returns no recipe or whose net does not fit its input is told
--   in one line, and the net is as it was
-- Example: cnn.reload(net, "models/bn_lenet.lua")
-- See: cnn.watch, cnn.train
local function call(_, net, file, options)
  local who = "cnn.reload"
  options = argument.options(who, options, known)
  local job = reload.job(who, net, file, options)
  local quiet = argument.boolean(who, "quiet", options.quiet, false)
  local checked, account = reload.run(job)
  report.show(account, quiet)
  report.pass_over(job.net, checked, account)
  return job.net, checked, account
end

return setmetatable(reload, { __call = call })
