-- recipe.lua - what a model script returns: running the script, checking the table.
--
-- recipe.load(file, options) gives a checked recipe with the command line's values put in;
-- recipe.check does the same for a table made by hand (cnn.train). Surprising: a table with input
-- and train is a recipe even without a net, so that a forgotten net is an error and not a plain Lua
-- run.

local ffi = require "ffi"
local argument = require "cnn.argument"
local err = require "cnn.error"
local fail = require "cnn.fail"
local files = require "cnn.files"

local recipe = {}

-- ------------------------------------------------------------------------------------- the script

local script_set = {} -- what the script's own options were set to

-- What the script of a run that goes on was given: --set and seed. A file that cannot be read is
-- passed over; the trainer will say so, if it is a trainer that these words are for.
local function taken_up(path)
  local ok, saved = pcall(require "cnn.saved_run".open, path)
  if not ok then return {} end
  return saved.state.settings.set or {}, saved.state.seed
end

-- Threads, seed and the script's options, before the script makes its net. Of a key that is set
-- twice the last counts, so the command line's goes before a saved run's.
function recipe.prepare(options)
  local set, seed = {}, nil
  if options.resume then set, seed = taken_up(options.resume) end
  for _, item in ipairs(options.set or {}) do set[#set + 1] = item end
  script_set, seed = set, options.seed or seed
  require "cnn.options".set(set)
  if options.threads then require "cnn".set_threads(options.threads) end
  if seed then require "cnn".manual_seed(seed) end
end

-- A list of "key=value", as for --set.
function recipe.script_options() return script_set end

-- At the prompt: the script's own loops stay interpreted, so that Ctrl-C stops them.
recipe.interpreted = false

-- Runs a file as luajit would and returns its first value.
function recipe.run_script(file, ...)
  local f, why = io.open(file, "rb")
  if not f then
    if not file:find "[/.]" then
      fail.usage("%s; and there is no command '%s' (cnnlua --help lists them)", why, file)
    end
    fail.run("cannot open %s", why)
  end
  f:close()
  if files.is_directory(file) then fail.run("%s is a directory; a Lua file is wanted", file) end
  require "cnn.path".add_script(file)
  local chunk, message = loadfile(file)
  if not chunk then fail.run("%s", message) end
  if recipe.interpreted then jit.off(chunk, true) end
  return (chunk(...))
end

function recipe.looks_like(value)
  if type(value) ~= "table" or getmetatable(value) then return false end
  return rawget(value, "net") ~= nil
    or rawget(value, "input") ~= nil and rawget(value, "train") ~= nil
end

-- The table that a script returns, as it is; `...` are its arguments.
function recipe.value(file, options, ...)
  recipe.prepare(options)
  local value = recipe.run_script(file, ...)
  if not recipe.looks_like(value) then
    local what = value == nil and "nothing" or "a " .. type(value)
    if what == "a table" then what = "a table without a net" end
    fail.run("%s returns %s; a recipe is wanted: return { name = ..., input = { C, H, W }, "
      .. "net = ..., train = { ... } }", file, what)
  end
  require "cnn.options".check()
  return value
end

function recipe.load(file, options)
  return recipe.check(recipe.value(file, options), options)
end

-- -------------------------------------------------------------------------------------- the table

local defaults = { batch = 128, lr = 0.1, epochs = 10, optimizer = "sgd" }

local train_keys = {
  "augment", "batch", "betas", "epochs", "eps", "lr", "momentum", "nesterov", "optimizer",
  "schedule", "weight_decay",
}

local is_train_key = {}
for _, key in ipairs(train_keys) do is_train_key[key] = true end

local function is_whole(value, least)
  return type(value) == "number" and value >= least and value % 1 == 0
end

local function check_input(input)
  local ok = type(input) == "table" and #input == 3
  for i = 1, 3 do ok = ok and is_whole(input[i], 1) end
  if not ok then fail.run "the recipe's input has to be { channels, height, width }" end
end

-- One key too high is easily written, and would go unheard.
local function check_top(value)
  for _, key in ipairs(train_keys) do
    if value[key] ~= nil then
      fail.run("the recipe's %s stands beside train; write it into train = { %s = ... }", key, key)
    end
  end
end

local function check_train(train)
  if type(train) ~= "table" then fail.run("the recipe's train has to be a table") end
  for key in pairs(train) do
    if not is_train_key[key] then
      fail.run("the recipe's train has no '%s'; it may have %s", tostring(key),
        table.concat(train_keys, ", "))
    end
  end
end

local function check_values(train)
  if not is_whole(train.batch, 1) then
    fail.run("the recipe's batch has to be a whole number from 1, got %s", err.got(train.batch))
  end
  if not is_whole(train.epochs, 1) then
    fail.run("the recipe's epochs have to be a whole number from 1, got %s", err.got(train.epochs))
  end
  if type(train.lr) ~= "number" or not (train.lr > 0 and train.lr < math.huge) then
    fail.run("the recipe's lr has to be a number above 0, got %s", err.got(train.lr))
  end
end

-- The function of x and y that `augment` says, by itself or by its name.
local function augment_of(what)
  if what == nil or type(what) == "function" then return what end
  local named = require "cnn.augment"
  if type(what) == "string" and named[what] then return named[what] end
  local names = {}
  for name in pairs(named) do names[#names + 1] = name end
  table.sort(names)
  fail.run("the recipe's augment has to be a function of x and y or one of %s, got %s",
    table.concat(names, ", "), err.got(what))
end

-- Channels, height and width: --resize comes first, and what the data say must be the same; in a
-- recipe that was checked before, with a --resize then, it is settled.
local function input_of(value, own, options)
  local c, h, w = unpack(value.input)
  if options.resize then
    h, w = unpack(options.resize)
  elseif own.height and not value.script and (own.height ~= h or own.width ~= w) then
    fail.run("the recipe's input is %dx%d and its data are resized to %dx%d; the same size is "
      .. "wanted, or data without resize", h, w, own.height, own.width)
  end
  return { c, h, w }
end

--- recipe = { name = "net", input, net, data = "fashion-mnist",
---   train = { batch = 128, lr = 0.1, epochs = 10, optimizer = "sgd" } }
-- The table that a model script returns, and that cnn.train takes.
-- Shapes: input { C, H, W }: images are resized to HxW; net: NxCxHxW -> N x classes
-- Options: name: of the run's directory; input: what the net is given; net: a module; data: a name,
--   what cnn.data gives, or the tables that cnn.data.from takes; train: batch, lr, epochs;
--   optimizer: "sgd", "adam", "adamw" or a function of parameters and options; momentum,
--   weight_decay, nesterov, betas, eps as in cnn.optim; schedule: "constant", "cosine", "step", a
--   list such as { "warmup", 1, "cosine" } or a function of the time in epochs; augment: "flip",
--   "crop" or a function of x and y
-- Errors: a key that train has not; one of train's beside it; an input that is no { C, H, W }
-- Example: recipe.input[2] --> 16
-- See: cnn.train, cnn.optim.SGD, cnn.optim.schedule.cosine, cnn.augment.flip, cnn.options

-- A copy of the recipe with all fields set; options are the command line's or {}. batch_asked: by
-- the recipe, where it is no default; what is checked again keeps that.
function recipe.check(value, options)
  options = options or {}
  if type(value) ~= "table" then fail.run("a recipe is a table, got %s", err.got(value)) end
  if value.net == nil then
    fail.run "the recipe has no net: return { name = ..., input = ..., net = net, train = ... }"
  end
  if not require "cnn.module".is_module(value.net) then
    fail.run("the recipe's net has to be a module such as nn.Sequential(...), got a %s",
      type(value.net))
  end
  check_input(value.input)
  check_top(value)
  check_train(value.train or {})
  local own = require "cnn.data".settings(value.data)
  local train = { batch = own.batch }
  for key, given in pairs(value.train or {}) do train[key] = given end
  local batch_asked = train.batch ~= nil
    and (value.batch_asked ~= false or train.batch ~= defaults.batch)
  for key, default in pairs(defaults) do
    if train[key] == nil then train[key] = default end
  end
  for _, key in ipairs { "batch", "lr", "epochs" } do train[key] = options[key] or train[key] end
  check_values(train)
  train.augment = augment_of(train.augment)
  return {
    name = tostring(value.name or "net"), net = value.net, input = input_of(value, own, options),
    train = train, batch_asked = batch_asked, data = value.data or "fashion-mnist", script = value,
  }
end

-- ------------------------------------------------------------------------------------ the options

local option_names = {
  "epochs", "batch", "lr", "resize", "seed", "device", "threads", "precision", "limit", "data",
  "out", "resume", "quiet", "json", "deterministic", "autotune",
}

local function check_text(who, name, value)
  if value ~= nil and argument.string(who, name, value) == "" then
    err.raise(("%s: %s: expected a name, got nothing"):format(who, name))
  end
end

local function check_device(who, device)
  check_text(who, "device", device)
  if device and device ~= "auto" and device ~= "cpu" and not device:find "^cuda:?%d*$" then
    err.raise(("%s: device: expected auto, cpu, cuda or cuda:n, got %s"):format(who,
      err.got(device)))
  end
end

local precisions = { fp32 = true, tf32 = true, bf16 = true }

-- A copy of the options that a Lua caller gave, of the types that the command line's have.
function recipe.options(who, options)
  options = argument.options(who, options, option_names)
  local checked = {}
  for key, given in pairs(options) do checked[key] = given end
  for _, key in ipairs { "epochs", "batch", "threads", "limit" } do
    argument.optional_whole(who, key, options[key])
  end
  if options.seed ~= nil then argument.whole(who, "seed", options.seed, 0) end
  if options.lr ~= nil and argument.number(who, "lr", options.lr, 0) == 0 then
    err.raise(who .. ": lr: expected a number above 0, got 0")
  end
  if options.resize ~= nil then
    checked.resize = { argument.pair(who, "resize", options.resize, 1) }
  end
  check_device(who, options.device)
  if options.precision ~= nil and not precisions[options.precision] then
    err.raise(("%s: precision: expected fp32, tf32 or bf16, got %s"):format(who,
      err.got(options.precision)))
  end
  for _, key in ipairs { "data", "out" } do check_text(who, key, options[key]) end
  if options.resume ~= false then check_text(who, "resume", options.resume) end
  for _, key in ipairs { "quiet", "json", "deterministic", "autotune" } do
    argument.boolean(who, key, options[key])
  end
  return checked
end

-- What a prompt was started with (cnnlua -i FILE --limit 100) holds for its recipe's runs, too.
local lasting = { "limit", "data", "device", "precision", "deterministic", "autotune" }
local at_start = setmetatable({}, { __mode = "k" }) -- recipe -> the options of its prompt

function recipe.set_prompt_options(value, options) at_start[value] = options end

-- Fills in what a call left open. A run that is resumed has a limit of its own.
function recipe.add_prompt_options(value, options)
  for _, key in ipairs(at_start[value] and lasting or {}) do
    if options[key] == nil and not (key == "limit" and options.resume) then
      options[key] = at_start[value][key]
    end
  end
end

-- --------------------------------------------------------------------------------------- the net

-- What measure returns, from one image of zeros: for a net whose forward asks for values (item,
-- copy), which shapes alone do not have.
local function compute_once(checked)
  local C = require "cnn.ffi".C
  C.cnn_macs()
  return {
    shape = require "cnn.made_up".output(checked.net, checked.input),
    parameters = require "cnn.module".count(checked.net), macs = tonumber(C.cnn_macs()),
  }
end

-- Runs the net on shapes alone, which finds the sizes that were left open. Returns the shape of
-- what it gives, its parameters and macs.
function recipe.measure(checked)
  local sizes = { 1, unpack(checked.input) }
  local ok, rows = pcall(checked.net.shapes, checked.net, sizes, { quiet = true })
  if not ok and not tostring(rows):find("but no value", 1, true) then error(rows, 0) end
  return ok and rows.total or compute_once(checked)
end

-- The same, and checks that the net gives one value a class.
function recipe.dry_run(checked)
  local summary = recipe.measure(checked)
  local classes, name = require "cnn.data".classes_of(checked.data)
  if tonumber(tostring(summary.shape):match "^1x(%d+)$") ~= #classes then
    fail.run("the net gives %s for one image; %s has %d classes, so 1x%d is wanted",
      tostring(summary.shape), name, #classes, #classes)
  end
  return summary
end

-- ------------------------------------------------------------------------------------- the device

-- What only a card knows, and why a CPU needs none of it.
local of_card = {
  autotune = "chooses its kernels by shape", deterministic = "gives the same bits every time",
}

local function card(options, index, precision)
  local C = require "cnn.ffi".C
  if C.cnn_cuda_open(index) ~= 0 then
    fail.run("--device %s: %s; --device cpu works (see cnnlua doctor)", options.device or "auto",
      (ffi.string(C.cnn_error()):gsub("; use device cpu$", "")))
  end
  local ready = C.cnn_cuda_set_precision(precision or "auto") == 0
    and C.cnn_cuda_set_deterministic(options.deterministic and 1 or 0) == 0
    and C.cnn_cuda_set_autotune(options.autotune and 1 or 0) == 0
  if not ready then fail.run("--device cuda: %s", ffi.string(C.cnn_error())) end
  return "cuda:" .. index, precision or "tf32 in convolutions, else fp32"
end

-- Whether there is a card to train on: its host double is for who asks for it.
local function real_card(C)
  return C.cnn_cuda_count() > 0
    and require "cnn.device_line".card().capability ~= "0.0"
end

-- The device and precision that the options ask for; nothing is fallen back from in silence.
function recipe.device(options)
  local C = require "cnn.ffi".C
  local wanted, precision = options.device or "auto", options.precision
  if wanted == "auto" then wanted = real_card(C) and "cuda:0" or "cpu" end
  if wanted ~= "cpu" then return card(options, tonumber(wanted:match ":(%d+)$" or 0), precision) end
  for name, need in pairs(of_card) do
    if options[name] then
      fail.usage("--%s is for --device cuda; the CPU %s", name:gsub("_", "-"), need)
    end
  end
  if precision == "tf32" then
    fail.usage "--precision tf32 is for CUDA only; the CPU has fp32 and bf16"
  end
  C.cnn_set_precision(precision or "fp32")
  return "cpu", precision or "fp32"
end

return recipe
