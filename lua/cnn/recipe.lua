-- recipe.lua - what a model script returns: running the script, checking the table.
--
-- recipe.load(file, options) gives a checked recipe with the command line's values put in;
-- recipe.check does the same for a table made by hand (cnn.train). Surprising: a recipe is known by
-- its keys, so that one whose net was forgotten is an error and not a plain Lua run.

local fail = require "cnn.fail"

local recipe = {}

-- ------------------------------------------------------------------------------------- the script

-- Threads, seed and the script's options, before the script makes its net.
function recipe.prepare(options)
  require "cnn.options".set(options.set)
  if options.threads then require "cnn".set_threads(options.threads) end
  if options.seed then require "cnn".manual_seed(options.seed) end
end

-- Runs a file as luajit would and returns its first value.
function recipe.run_script(file, ...)
  local f, why = io.open(file, "rb")
  if not f then
    if not file:find "[/.]" then
      fail.usage("%s; and there is no command '%s' (cnnlua --help lists them)", why, file)
    end
    fail.run("cannot open %s", why)
  end
  local directory = f:read(0) == nil and f:seek "end" ~= 0
  f:close()
  if directory then fail.run("%s is a directory; a Lua file is wanted", file) end
  require "cnn.path".add_script(file)
  local chunk, message = loadfile(file)
  if not chunk then fail.run("%s", message) end
  return (chunk(...))
end

local recipe_keys = { "net", "train", "input", "name" }

function recipe.looks_like(value)
  if type(value) ~= "table" or getmetatable(value) then return false end
  for _, key in ipairs(recipe_keys) do
    if rawget(value, key) ~= nil then return true end
  end
  return false
end

-- The table that a script returns, as it is.
function recipe.value(file, options)
  recipe.prepare(options)
  local value = recipe.run_script(file)
  if not recipe.looks_like(value) then
    fail.run("%s returns %s; a recipe is wanted: return { name = ..., input = { C, H, W }, "
      .. "net = ..., train = { ... } }", file, value == nil and "nothing" or "a " .. type(value))
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
  batch = true, lr = true, epochs = true, optimizer = true, schedule = true, augment = true,
  momentum = true, weight_decay = true, nesterov = true, betas = true, eps = true,
}

local function is_whole(value, least)
  return type(value) == "number" and value >= least and value % 1 == 0
end

local function check_input(input)
  local ok = type(input) == "table" and #input == 3
  for i = 1, 3 do ok = ok and is_whole(input[i], 1) end
  if not ok then fail.run "the recipe's input has to be { channels, height, width }" end
end

local function check_train(train)
  if type(train) ~= "table" then fail.run("the recipe's train has to be a table") end
  for key in pairs(train) do
    if not train_keys[key] then
      local known = {}
      for name in pairs(train_keys) do known[#known + 1] = name end
      table.sort(known)
      fail.run("the recipe's train has no '%s'; it may have %s", tostring(key),
        table.concat(known, ", "))
    end
  end
end

local function check_values(train)
  if not is_whole(train.batch, 1) then
    fail.run("the recipe's batch has to be a whole number from 1, got %s", tostring(train.batch))
  end
  if not is_whole(train.epochs, 1) then
    fail.run("the recipe's epochs have to be a whole number from 1, got %s", tostring(train.epochs))
  end
  if type(train.lr) ~= "number" or not (train.lr > 0 and train.lr < math.huge) then
    fail.run("the recipe's lr has to be a number above 0, got %s", tostring(train.lr))
  end
end

-- A copy of the recipe with all fields set; options are the command line's or {}.
function recipe.check(value, options)
  options = options or {}
  if type(value) ~= "table" then fail.run("a recipe is a table, got a %s", type(value)) end
  if value.net == nil then
    fail.run "the recipe has no net: return { name = ..., input = ..., net = net, train = ... }"
  end
  if not require "cnn.module".is_module(value.net) then
    fail.run("the recipe's net has to be a module such as nn.Sequential(...), got a %s",
      type(value.net))
  end
  check_input(value.input)
  check_train(value.train or {})
  local train = {}
  for key, default in pairs(defaults) do train[key] = default end
  for key, given in pairs(value.train or {}) do train[key] = given end
  for _, key in ipairs { "batch", "lr", "epochs" } do train[key] = options[key] or train[key] end
  check_values(train)
  local c, h, w = unpack(value.input)
  if options.resize then h, w = unpack(options.resize) end
  return {
    name = tostring(value.name or "net"), net = value.net, input = { c, h, w }, train = train,
    data = value.data or "fashion-mnist", script = value,
  }
end

-- ------------------------------------------------------------------------------------- the device

-- The device and precision that the options ask for; nothing is fallen back from in silence.
function recipe.device(options)
  local cnn = require "cnn"
  local wanted, precision = options.device or "auto", options.precision or "fp32"
  local cuda = cnn.cuda.is_available()
  if wanted == "auto" then wanted = cuda and "cuda:0" or "cpu" end
  if wanted == "cuda" then wanted = "cuda:0" end
  if wanted ~= "cpu" and not cuda then
    fail.run("--device %s: no CUDA device can be used here; --device cpu works (see cnnlua doctor)",
      options.device)
  end
  if precision == "tf32" and wanted == "cpu" then
    fail.usage "--precision tf32 is for CUDA only; the CPU has fp32"
  end
  if precision ~= "fp32" then
    fail.usage("--precision %s is not there yet on %s; fp32 is", precision, wanted)
  end
  return wanted, precision
end

return recipe
