-- data.lua - data sets in memory and batches from them.
--
--   local data = cnn.data.fashion_mnist { batch = 128, resize = 224, limit =, seed =, dir = }
--   for x, y in data.train:batches() do ... end      x: f32 B x 1 x 224 x 224   y: i32, from 1
--   data.classes[y[1]:item()]                        data.test.classes is the same list
--   cnn.data.from { train = { images = u8, labels = i32 }, test = ..., classes = { ... } }
--
-- Bytes are kept as the files have them; a thread of the engine resizes a batch ahead. What a
-- recipe's own data say of batch, resize, limit and seed holds unless the command line does
-- (data.open).
--
-- Surprising: the order of epoch e depends on the seed and e alone, not on what ran before, so a
-- resumed run can ask for the rest of any epoch (split:batches { epoch = 3, skip = 17 }).

local ffi = require "ffi"
local C = require "cnn.ffi".C
local err = require "cnn.error"
local handle = require "cnn.handle"
local argument = require "cnn.argument"
local fail = require "cnn.fail"

local data = {}

-- Streams of random numbers below this one are the steps' and the weights'.
local SHUFFLE_STREAM = 0x4000000000000000ULL

-- ------------------------------------------------------------------------------------------ split

local Split = {}
Split.__index = Split

local function is_split(value)
  return type(value) == "table" and getmetatable(value) == Split
end

data.is_split = is_split

-- dataset: an engine's handle; settings: batch, height, width, limit, seed; part: "train" is
-- shuffled, and it alone is what a limit is for; classes: their names, as split.classes has them
local function new_split(dataset, settings, part, classes)
  local count = tonumber(C.cnn_dataset_count(dataset))
  local training = part == "train"
  return setmetatable({
    dataset = dataset, settings = settings, classes = classes,
    channels = tonumber(C.cnn_dataset_size(dataset, 1)),
    height = settings.height or tonumber(C.cnn_dataset_size(dataset, 2)),
    width = settings.width or tonumber(C.cnn_dataset_size(dataset, 3)),
    stored = { tonumber(C.cnn_dataset_size(dataset, 2)), tonumber(C.cnn_dataset_size(dataset, 3)) },
    images = training and settings.limit and math.min(count, settings.limit) or count,
    batch = settings.batch or 128, seed = settings.seed, shuffle = training,
    epoch = 0,
  }, Split)
end

--- split:count()
-- How many images there are, with the limit; data.train and data.test are splits.
-- Example: data.test:count() > 0 --> true
-- See: split:batch_count
function Split:count()
  return self.images
end

--- split:batch_count(batch)
-- How many batches an epoch has, of the data set's batch or another one; the last may be smaller.
-- Errors: batch below 1
-- Example: data.train:batch_count(1) == data.train:count() --> true
-- See: split:batches, split:count
function Split:batch_count(batch)
  batch = argument.optional_whole("split:batch_count(batch)", "batch", batch) or self.batch
  return math.ceil(self.images / batch)
end

function Split:__tostring()
  return ("%d images of %dx%dx%d, %d a batch"):format(self.images, self.channels, self.height,
    self.width, self.batch)
end

-- The random numbers that shuffle an epoch.
local function seed_of(split) return split.seed or C.cnn_seed() end
local function stream_of(epoch) return SHUFFLE_STREAM + ffi.cast("uint64_t", epoch) end

-- Positions from 0 in the order of an epoch, or as they are stored.
local function order_of(split, epoch, shuffle)
  local order = ffi.new("int32_t[?]", split.images)
  if shuffle then
    if C.cnn_permutation(split.images, seed_of(split), stream_of(epoch), order) ~= 0 then
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

-- An iterator, and its state, over `count` images from place `first` (0) of an order on.
local function iterate(split, order, first, count, batch)
  local loader = C.cnn_loader_new(split.dataset, order + first, count, batch, split.height,
    split.width)
  if loader == nil then handle.fail() end
  return next_batch, {
    split = split, loader = ffi.gc(loader, C.cnn_loader_release), waited = 0,
    x = ffi.new "cnn_tensor *[1]", y = ffi.new "cnn_tensor *[1]",
  }
end

--- split:batches({ batch = split.batch, shuffle = split.shuffle, epoch = nil, skip = 0,
---   limit = nil, device = "cpu" })
-- An iterator over batches of images and labels, which a thread prepares ahead. Training images are
-- shuffled, by the seed and the number of the epoch alone; test images come as they are stored. The
-- second value is the iterator's state; its `waited` are the seconds that were waited for images.
-- Shapes: x f32 NxCxHxW of 0 to 1; y i32 N, labels from 1
-- Options: batch: images at a time; shuffle: true or false; epoch: whose order, the next one by
--   default; skip: how many batches to leave out; limit: the first so many images of the order;
--   device: where the batches are made, on a card by the card, of bytes that lie there
-- Errors: numbers below 1 (skip: 0)
-- Example: for x, y in data.train:batches { limit = 8 } do print(net(x):shape()) end
-- See: cnn.data.fashion_mnist, cnn.step
function Split:batches(options)
  options = argument.options("batches", options, { "batch", "shuffle", "epoch", "skip", "limit",
    "device" })
  local batch = argument.whole("batches", "batch", options.batch or self.batch, 1)
  local skip = argument.whole("batches", "skip", options.skip or 0, 0)
  argument.optional_whole("batches", "epoch", options.epoch)
  local limit = argument.optional_whole("batches", "limit", options.limit)
  local shuffle = self.shuffle
  if options.shuffle ~= nil then shuffle = options.shuffle end
  if not options.epoch then self.epoch = self.epoch + 1 end
  local epoch = options.epoch or self.epoch
  local last = math.min(limit or self.images, self.images)
  local first = math.min(skip * batch, last)
  if options.device and options.device ~= "cpu" then
    return require "cnn.card_batches".over(self, {
      seed = seed_of(self), stream = stream_of(epoch), shuffle = shuffle, first = first,
      count = last - first, batch = batch,
    })
  end
  return iterate(self, order_of(self, epoch, shuffle), first, last - first, batch)
end

--- split:take(first, count)
-- One batch: `count` images (1) from position `first` on, as they are stored, and their labels.
-- Shapes: x f32 NxCxHxW of 0 to 1; y i32 N, labels from 1
-- Errors: positions that the images do not have
-- Example: x, y = data.test:take(1, 8)
-- See: split:batches, net:maps, cnn.image.batch
function Split:take(first, count)
  local who = "split:take(first, count)"
  argument.whole(who, "first", first, 1)
  count = argument.optional_whole(who, "count", count) or 1
  if first + count - 1 > self.images then
    err.raise(("%s: expected positions up to %d, got %.0f"):format(who, self.images,
      first + count - 1))
  end
  local following, state = iterate(self, order_of(self, 0, false), first - 1, count, count)
  local x, y = following(state)
  following(state) -- the end: the loader is given back
  return x, y
end

-- --------------------------------------------------------------------------------------- settings

local setting_names = { "batch", "height", "width", "limit", "seed" }

local function settings_of(options)
  local h, w
  if options.resize then h, w = argument.pair("data", "resize", options.resize, 1) end
  return {
    batch = argument.optional_whole("data", "batch", options.batch), height = h, width = w,
    limit = argument.optional_whole("data", "limit", options.limit),
    seed = options.seed and argument.whole("data", "seed", options.seed, 0),
  }
end

-- A setting is the first's that has it.
local function first_of(first, second)
  local settings = {}
  for _, name in ipairs(setting_names) do settings[name] = first[name] or second[name] end
  return settings
end

local table_keys = {
  "name", "classes", "train", "test", "dir", "batch", "resize", "limit", "seed",
}

-- What a recipe's `data` says itself: batch, height, width, limit, seed, each may be nil.
function data.settings(what)
  if type(what) ~= "table" then return {} end
  argument.options("data", what, table_keys)
  return first_of(settings_of(what), is_split(what.train) and what.train.settings or {})
end

-- ---------------------------------------------------------------------------------- from memory

local function labels_of(name, labels)
  if type(labels) == "table" then labels = require "cnn".tensor(labels) end
  if not handle.is_tensor(labels) then
    err.raise(("data: %s: labels: expected whole numbers, got %s"):format(name, err.got(labels)))
  end
  if labels.dtype == "i32" then return labels end
  local whole = labels:to "i32"
  if whole:ne(labels):sum():item() ~= 0 then
    err.raise(("data: %s: labels have to be whole numbers from 1"):format(name))
  end
  return whole
end

-- part: { images, labels }, or a split that has been made already
local function dataset_of(name, part, classes)
  if is_split(part) then return part.dataset end
  if type(part) ~= "table" or not handle.is_tensor(part.images) or part.labels == nil then
    err.raise(("data: %s has to be { images = u8 tensor N x C x H x W, labels = N whole numbers "
      .. "from 1 }"):format(name))
  end
  argument.options("data: " .. name, part, { "images", "labels" })
  local dataset = C.cnn_dataset_from(part.images, labels_of(name, part.labels), classes)
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

local BOTH = { "train", "test" }

local function from_memory(given, settings, parts)
  local classes = count_classes(given.classes)
  local made = { name = given.name or "data", dir = given.dir, classes = classes }
  for _, part in ipairs(parts) do
    made[part] = new_split(dataset_of(part, given[part], #classes), settings, part, classes)
  end
  return made
end

--- cnn.data.from(given, { batch = 128, resize = nil, limit = nil, seed = nil })
-- A data set of one's own: given = { train = { images, labels }, test = { images, labels }, classes
-- } with classes a list of names or their number. A recipe's `data` may be such a table as it is.
-- Shapes: images u8 NxCxHxW; labels N whole numbers from 1
-- Options: batch: images at a time; resize: their size, a number or { h, w }; limit: the first so
--   many training images; seed: of the order, otherwise that of cnn.manual_seed
-- Errors: images that are not u8; labels that are not 1 .. classes, or not one for each image
-- Example: made = { images = cnn.zeros({ 6, 1, 8, 8 }):to "u8", labels = { 1, 2, 1, 2, 1, 2 } }
--   cnn.data.from({ train = made, test = made, classes = 2 }).train:count() --> 6
-- See: split:batches, cnn.data.fashion_mnist, cnn.train
function data.from(given, options)
  if type(given) ~= "table" then
    err.raise("data: expected a table { train, test, classes }, got " .. err.got(given))
  end
  options = argument.options("data", options, { "batch", "resize", "limit", "seed" })
  return from_memory(given, first_of(settings_of(options), data.settings(given)), BOTH)
end

-- ---------------------------------------------------------------------------------- Fashion-MNIST

local FASHION = "fashion-mnist"

local fashion_classes = {
  "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
  "ankle boot",
}

-- Which of the four files hold images and labels of a part.
local fashion_files = { train = { 1, 2 }, test = { 3, 4 } }

local function open_idx(images, labels)
  local dataset = C.cnn_dataset_idx(images, labels, #fashion_classes)
  if dataset == nil then handle.fail() end
  return ffi.gc(dataset, C.cnn_dataset_release)
end

local function open_fashion(dir, settings, parts)
  local files, found = require "cnn.fashion_mnist".find(dir)
  local made = { name = FASHION, dir = found, classes = fashion_classes }
  for _, part in ipairs(parts) do
    local images, labels = unpack(fashion_files[part])
    local dataset = open_idx(files[images], files[labels])
    made[part] = new_split(dataset, settings, part, fashion_classes)
  end
  return made
end

local function fashion_mnist(who, options, parts)
  options = argument.options(who, options, { "batch", "resize", "limit", "seed", "dir" })
  if options.dir ~= nil then argument.string(who, "dir", options.dir) end
  return open_fashion(options.dir, settings_of(options), parts)
end

--- cnn.data.fashion_mnist({ batch = 128, resize = nil, limit = nil, seed = nil, dir = nil })
-- Fashion-MNIST: .train with 60,000 images, .test with 10,000, .classes the ten names. It is looked
-- for in dir, $CNNLUA_DATA, the user's cache and the distribution's directory, and downloaded into
-- the cache where it is in none.
-- Shapes: 28x28 gray images, or as resize says
-- Options: batch: images at a time; resize: their size, a number or { h, w }; limit: the first so
--   many training images; seed: of the order, otherwise that of cnn.manual_seed; dir: where the
--   files are
-- Errors: a directory without the four files; a download that fails: what to install
-- Example: data.classes[y[1]:item()]
-- Source: Xiao, Rasul, Vollgraf 2017
-- See: split:batches, cnn.data.from
function data.fashion_mnist(options)
  return fashion_mnist("fashion_mnist", options, BOTH)
end

--- cnn.data.fashion_mnist_test({ batch = 128, resize = nil, limit = nil, seed = nil, dir = nil })
-- The test images of Fashion-MNIST alone, as .test; the training images are not read.
-- Options: as cnn.data.fashion_mnist
-- Errors: a directory without the files; a download that fails: what to install
-- Example: cnn.data.fashion_mnist_test().test:count() --> 10000
-- See: cnn.data.fashion_mnist
function data.fashion_mnist_test(options)
  return fashion_mnist("fashion_mnist_test", options, { "test" })
end

-- ------------------------------------------------------------------------------- a recipe's `data`

local function check_what(what)
  if type(what) == "table" then return end
  if type(what) ~= "string" then
    err.raise("data: expected a name or a table, got " .. err.got(what))
  end
  if (what:gsub("_", "-")) ~= FASHION then
    err.raise(("data: there is no data set '%s'; there is '%s', or a table of a script's own")
      :format(what, FASHION))
  end
end

-- The names of the classes and of the data, without reading any image.
function data.classes_of(what)
  check_what(what)
  if type(what) == "string" then return fashion_classes, FASHION end
  return count_classes(what.classes), what.name or "data"
end

-- Opens what a recipe's `data` says: a name, a table of images, or what one of the above returned.
-- options: batch, height, width, limit, seed override what it says itself; dir, where the files of
-- Fashion-MNIST are; only = "test".
function data.open(what, options)
  check_what(what)
  local settings = first_of(options, data.settings(what))
  local parts = options.only and { options.only } or BOTH
  if type(what) == "string" then return open_fashion(options.dir, settings, parts) end
  if not options.dir then return from_memory(what, settings, parts) end
  if what.name == FASHION and is_split(what.train) then
    return open_fashion(options.dir, settings, parts)
  end
  fail.usage("--data %s: it names a directory of Fashion-MNIST, and the recipe has data of its own",
    options.dir)
end

return data
