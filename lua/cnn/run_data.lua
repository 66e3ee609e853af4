-- run_data.lua - the images that a training run sees, and whether recipe and net fit them.
--
--   run_data.open(run, options)   the recipe's data, in its input's size
--   run_data.fit(run, options)    makes run.train.batch one that the images allow
--
-- Surprising: one image too many can end a run at its first epoch's last step, in a batch norm that
-- sees one value a channel. So the net is asked on shapes alone, before anything is trained.

local calls = require "cnn.calls"
local cnn = require "cnn"
local fail = require "cnn.fail"
local text = require "cnn.text"

local run_data = {}

local function check_images(input, data)
  if input[1] ~= data.train.channels then
    fail.run("the recipe's input has %d channels, the images of %s have %d", input[1], data.name,
      data.train.channels)
  end
end

function run_data.open(run, options)
  local input = run.recipe.input
  local opened = require "cnn.data".open(run.recipe.data, {
    batch = math.min(run.train.batch, 2 ^ 31), height = input[2], width = input[3],
    limit = options.limit, seed = run.shuffle_seed or options.seed, dir = options.data,
  })
  opened.train.seed = opened.train.seed or run.seed
  check_images(input, opened)
  return opened
end

-- A batch that was asked for is not made smaller in silence; only --limit makes the recipe's so.
local function fit_batch(run, options)
  local batch, count = run.train.batch, run.data.train:count()
  if batch <= count then return end
  if options.batch or run.recipe.batch_asked and not options.limit then
    fail.run("batch %d is larger than the data set of %d training images", batch, count)
  end
  run.train.batch = count
end

-- The first batch norm that would see one value a channel if a batch had one image, as text. What
-- else goes wrong on shapes alone need not go wrong in a step.
local function norm_of_one(net, input)
  local paths, found = text.paths("net", net), nil
  local function enter(module, _, x)
    local norm = module:is(cnn.nn.BatchNorm1d) or module:is(cnn.nn.BatchNorm2d)
    if norm and module.training and not found and cnn.is_tensor(x) and x:dim() > 1
      and x:numel() == x:size(2) then
      found = (paths[module] or "net") .. " " .. module:describe()
    end
  end
  net:train()
  pcall(calls.observe, { enter = enter }, net,
    cnn.zeros({ 1, unpack(input) }, { device = "meta" }))
  return found
end

local function check_last_batch(run)
  local count, batch = run.data.train:count(), run.train.batch
  if count % batch ~= 1 and batch ~= 1 then return end
  local norm = norm_of_one(run.net, run.recipe.input)
  if norm then
    fail.run("the last batch of an epoch would have 1 image (%d images, %d a batch), and %s needs "
      .. "more than 1 value per channel; another --batch or --limit helps", count, batch, norm)
  end
end

function run_data.fit(run, options)
  fit_batch(run, options)
  check_last_batch(run)
end

return run_data
