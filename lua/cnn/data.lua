-- data.lua - data sets in memory and batches from them.
--
--   local data = cnn.data.fashion_mnist { batch = 128, resize = 224, limit =, seed =, dir = }
--   for x, y in data.train:batches() do ... end      x: f32 B x 1 x 224 x 224   y: i32, from 1
--   data.classes[y[1]:item()]
--   cnn.data.from { train = { images = u8, labels = i32 }, test = ..., classes = { ... } }
--
-- Bytes are kept as the files have them; a thread of the engine resizes a batch ahead.
--
-- Surprising: the order of epoch e depends on the seed and e alone, not on what ran before, so a
-- resumed run can ask for the rest of any epoch (split:batches { epoch = 3, skip = 17 }).

local ffi = require "ffi"
local C = require "cnn.ffi".C
local err = require "cnn.error"
local handle = require "cnn.handle"
local argument = require "cnn.argument"

local data = {}

-- Streams of random numbers below this one are the steps' and the weights'.
local SHUFFLE_STREAM = 0x4000000000000000ULL

-- ------------------------------------------------------------------------------------------ split

local Split = {}
Split.__index = Split

-- dataset: an engine's handle; settings: batch, height, width, limit, seed, shuffle
local function new_split(dataset, settings)
  local count = tonumber(C.cnn_dataset_count(dataset))
  return setmetatable({
    dataset = dataset,
    channels = tonumber(C.cnn_dataset_size(dataset, 1)),
    height = settings.height or tonumber(C.cnn_dataset_size(dataset, 2)),
    width = settings.width or tonumber(C.cnn_dataset_size(dataset, 3)),
    stored = { tonumber(C.cnn_dataset_size(dataset, 2)), tonumber(C.cnn_dataset_size(dataset, 3)) },
    images = settings.limit and math.min(count, settings.limit) or count,
    batch = settings.batch, seed = settings.seed, shuffle = settings.shuffle,
    epoch = 0,
  }, Split)
end

-- How many images there are, with the limit.
function Split:count()
  return self.images
end

function Split:batch_count(batch)
  return math.ceil(self.images / (batch or self.batch))
end

function Split:__tostring()
  return ("%d images of %dx%dx%d, %d a batch"):format(self.images, self.channels, self.height,
    self.width, self.batch)
end

-- Positions from 0 in the order of an epoch, or as they are stored.
local function order_of(split, epoch, shuffle)
  local order = ffi.new("int32_t[?]", split.images)
  if shuffle then
    local stream = SHUFFLE_STREAM + ffi.cast("uint64_t", epoch)
    if C.cnn_permutation(split.images, split.seed or C.cnn_seed(), stream, order) ~= 0 then
      handle.fail()
    end
  else
    for i = 0, split.images - 1 do order[i] = i end
  end
  return order
end

-- The next batch of a running iterator; it keeps the split, whose bytes the loader's thread reads.
local function next_batch(running)
  if not running.loader then return nil end
  local status = C.cnn_loader_next(running.loader, running.x, running.y)
  running.waited = C.cnn_loader_waited(running.loader)
  if status == 1 then return handle.wrap(running.x[0]), handle.wrap(running.y[0]) end
  C.cnn_loader_release(ffi.gc(running.loader, nil))
  running.loader = nil
  if status ~= 0 then handle.fail() end
  return nil
end

-- An iterator over (images, labels). Options: batch, shuffle, epoch (a call without it takes the
-- next one) and skip, a number of batches. The second value is the iterator's state; its `waited`
-- are the seconds that the loader was waited for.
function Split:batches(options)
  options = argument.options("batches", options, { "batch", "shuffle", "epoch", "skip" })
  local batch = argument.whole("batches", "batch", options.batch or self.batch, 1)
  local skip = argument.whole("batches", "skip", options.skip or 0, 0)
  argument.optional_whole("batches", "epoch", options.epoch)
  local shuffle = self.shuffle
  if options.shuffle ~= nil then shuffle = options.shuffle end
  if not options.epoch then self.epoch = self.epoch + 1 end
  local order = order_of(self, options.epoch or self.epoch, shuffle)
  local first = math.min(skip * batch, self.images)
  local loader = C.cnn_loader_new(self.dataset, order + first, self.images - first, batch,
    self.height, self.width)
  if loader == nil then handle.fail() end
  return next_batch, {
    split = self, loader = ffi.gc(loader, C.cnn_loader_release), waited = 0,
    x = ffi.new "cnn_tensor *[1]", y = ffi.new "cnn_tensor *[1]",
  }
end

-- ---------------------------------------------------------------------------------- from memory

local function dataset_of(name, part, classes)
  if type(part) ~= "table" or not handle.is_tensor(part.images) or part.labels == nil then
    err.raise(("data: %s has to be { images = u8 tensor N x C x H x W, labels = N whole numbers "
      .. "from 1 }"):format(name))
  end
  local labels = part.labels
  if type(labels) == "table" then labels = require "cnn".tensor(labels) end
  if not handle.is_tensor(labels) then
    err.raise(("data: %s: labels: expected whole numbers, got %s"):format(name, err.got(labels)))
  end
  if labels.dtype ~= "i32" then
    local whole = labels:to "i32"
    if whole:ne(labels):sum():item() ~= 0 then
      err.raise(("data: %s: labels have to be whole numbers from 1"):format(name))
    end
    labels = whole
  end
  local dataset = C.cnn_dataset_from(part.images, labels, classes)
  if dataset == nil then handle.fail() end
  return ffi.gc(dataset, C.cnn_dataset_release)
end

local MOST_CLASSES = 256 -- labels are bytes, as in the engine

local function count_classes(classes)
  if type(classes) == "number" then
    if argument.whole("data", "classes", classes, 1) > MOST_CLASSES then
      err.raise(("data: classes: expected 1 to %d, got %.0f"):format(MOST_CLASSES, classes))
    end
    local names = {}
    for i = 1, classes do names[i] = tostring(i) end
    return names
  end
  if type(classes) ~= "table" or #classes < 1 then
    err.raise "data: classes has to be a list of names"
  end
  return classes
end

local function settings_of(options, part)
  local h, w = options.height, options.width
  if options.resize then h, w = argument.pair("data", "resize", options.resize, 1) end
  return {
    batch = argument.whole("data", "batch", options.batch or 128, 1), height = h, width = w,
    limit = part == "train" and argument.optional_whole("data", "limit", options.limit) or nil,
    seed = options.seed and argument.whole("data", "seed", options.seed, 0),
    shuffle = part == "train",
  }
end

-- A script's own data: u8 images, labels from 1. options: batch, resize, limit, seed.
function data.from(given, options)
  if type(given) ~= "table" then
    err.raise("data: expected a table { train, test, classes }, got " .. err.got(given))
  end
  options = options or given
  local classes = count_classes(given.classes)
  return {
    name = given.name or "data", classes = classes,
    train = new_split(dataset_of("train", given.train, #classes), settings_of(options, "train")),
    test = new_split(dataset_of("test", given.test, #classes), settings_of(options, "test")),
  }
end

-- ---------------------------------------------------------------------------------- Fashion-MNIST

local classes = {
  "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
  "ankle boot",
}

local function open_idx(images, labels)
  local dataset = C.cnn_dataset_idx(images, labels, #classes)
  if dataset == nil then error(ffi.string(C.cnn_error()), 0) end
  return ffi.gc(dataset, C.cnn_dataset_release)
end

local known = { "batch", "resize", "height", "width", "limit", "seed", "dir" }

function data.fashion_mnist(options)
  options = argument.options("fashion_mnist", options, known)
  local files, dir = require "cnn.fashion_mnist".find(options.dir)
  return {
    name = "fashion-mnist", dir = dir, classes = classes,
    train = new_split(open_idx(files[1], files[2]), settings_of(options, "train")),
    test = new_split(open_idx(files[3], files[4]), settings_of(options, "test")),
  }
end

-- The test images alone: what eval needs.
function data.fashion_mnist_test(options)
  options = argument.options("fashion_mnist", options, known)
  local files, dir = require "cnn.fashion_mnist".find(options.dir)
  return {
    name = "fashion-mnist", dir = dir, classes = classes,
    test = new_split(open_idx(files[3], files[4]), settings_of(options, "test")),
  }
end

-- The names of the classes, without reading any image.
function data.classes_of(what)
  return type(what) == "table" and count_classes(what.classes) or classes
end

-- What a recipe's `data` says: a name, a table of images, or what one of the above returned.
function data.open(what, options)
  if type(what) == "string" then
    if what:gsub("_", "-") ~= "fashion-mnist" then
      err.raise(("data: there is no data set '%s'; there is 'fashion-mnist', or a table of a "
        .. "script's own"):format(what))
    end
    return (options.only == "test" and data.fashion_mnist_test or data.fashion_mnist) {
      batch = options.batch, height = options.height, width = options.width,
      limit = options.limit, seed = options.seed, dir = options.dir,
    }
  end
  if type(what) == "table" and type(what.train) == "table"
    and getmetatable(what.train) == Split then
    local opened = { name = what.name, dir = what.dir, classes = what.classes }
    for _, part in ipairs { "train", "test" } do
      opened[part] = new_split(what[part].dataset, settings_of(options, part))
    end
    return opened
  end
  if type(what) == "table" then return data.from(what, options) end
  err.raise("data: expected a name or a table, got " .. err.got(what))
end

return data
