-- Data sets: IDX and gzip, order, batches, labels from 1, and every kind of broken file.

local cnn = require "cnn"
local engine = require "spec.support.engine"
local errors = require "spec.support.errors"
local idx = require "spec.support.idx"
local program = require "spec.support.program"

local expect = errors.expect

local function collect(split, options)
  local images, labels, sizes = {}, {}, {}
  for x, y in split:batches(options) do
    sizes[#sizes + 1] = x:size(1)
    for _, v in ipairs(engine.list(y)) do labels[#labels + 1] = v end
    for i = 1, x:size(1) do images[#images + 1] = x[i]:sum():item() end
  end
  return labels, sizes, images
end

local function first_batch(split)
  local next_batch, state = split:batches()
  return next_batch(state)
end

describe("a data set", function()
  teardown(program.sweep)

  it("gives batches of floats in 0 .. 1 and labels from 1, the last one smaller", function()
    local data = cnn.data.fashion_mnist { dir = idx.directory "plain", batch = 8 }
    local labels, sizes = collect(data.test)
    assert.same({ 8, 2 }, sizes)
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, labels)
    local bytes = idx.images(10, 28, 28, 2)
    local x, y = first_batch(data.test)
    assert.equal("f32", x.dtype)
    assert.equal("i32", y.dtype)
    assert.equal(data.classes[y[1]:item()], data.classes[labels[1]])
    for i, v in ipairs(engine.list(x[2])) do
      assert.is_true(math.abs(v - bytes:byte(16 + 784 + i) / 255) < 1e-7)
    end
  end)

  it("gives images by their positions, and the order of epochs does not notice", function()
    local data = cnn.data.fashion_mnist { dir = idx.directory "plain", batch = 8, limit = 12 }
    local all, labels = first_batch(data.test)
    local x, y = data.test:take(3, 2)
    assert.equal("2x1x28x28", tostring(x:shape()))
    assert.equal(0, (x - all:narrow(1, 3, 2)):abs():max():item())
    assert.same({ labels[3]:item(), labels[4]:item() }, engine.list(y))
    assert.equal("1x1x28x28", tostring((data.test:take(10)):shape()))
    local _, _, before = collect(data.train, { epoch = 1 })
    data.train:take(1, 12)
    local _, _, first = collect(data.train)
    assert.same(before, first)
    expect("expected positions up to 12, got 13", data.train.take, data.train, 12, 2)
    expect("first: expected a whole number >= 1", data.test.take, data.test, 0)
    expect("count", data.test.take, data.test, 1, 0)
    expect("batch: expected a whole number >= 1", data.test.batch_count, data.test, 0)
  end)

  it("shuffles the training images each epoch, by the seed alone", function()
    local dir = idx.directory "plain"
    local function orders(seed)
      local train = cnn.data.fashion_mnist({ dir = dir, batch = 7, seed = seed }).train
      local _, sizes, first = collect(train)
      local _, _, second = collect(train)
      local _, _, again = collect(train, { epoch = 1 })
      assert.same({ 7, 7, 6 }, sizes)
      assert.same(first, again)
      assert.are_not.same(first, second)
      table.sort(second)
      table.sort(again)
      assert.same(second, again)
      return first
    end
    assert.same(orders(1), orders(1))
    assert.are_not.same(orders(1), orders(2))
  end)

  it("goes on in the middle of an epoch", function()
    local train = cnn.data.fashion_mnist({ dir = idx.directory "plain", batch = 6 }).train
    local _, _, all = collect(train, { epoch = 3 })
    local _, _, rest = collect(train, { epoch = 3, skip = 2 })
    assert.same({ unpack(all, 13) }, rest)
  end)

  it("keeps picture and label together while it shuffles", function()
    local bytes = {}
    for i = 0, 19 do bytes[#bytes + 1] = string.char(i % 10):rep(784) end
    local images = idx.images(20, 28, 28):sub(1, 16) .. table.concat(bytes)
    local dir = idx.directory("together", { [1] = images })
    local train = cnn.data.fashion_mnist({ dir = dir, batch = 20 }).train
    for x, y in train:batches() do
      for i, label in ipairs(engine.list(y)) do
        assert.equal(label - 1, math.floor(x[i]:max():item() * 255 + 0.5))
      end
    end
  end)

  it("uses the first N with limit, and resizes", function()
    local dir = idx.directory "plain"
    local data = cnn.data.fashion_mnist { dir = dir, batch = 4, limit = 5, resize = { 9, 14 } }
    local labels = collect(data.train)
    table.sort(labels)
    assert.same({ 1, 2, 3, 4, 5 }, labels)
    assert.equal("4x1x9x14", tostring(first_batch(data.train):shape()))
  end)

  it("reads gzip as it reads plain files, in one or several members", function()
    local text = idx.images(10, 28, 28, 2)
    local plain = cnn.data.fashion_mnist { dir = idx.directory "plain", batch = 10 }
    local _, _, expected = collect(plain.test)
    local members = idx.gzip(text:sub(1, 999)) .. idx.gzip(text:sub(1000))
    for i, packed in ipairs { idx.gzip(text), members } do
      local dir = idx.directory("gzip" .. i, { [3] = false })
      program.write(dir .. "/" .. idx.names[3] .. ".gz", packed)
      local _, _, got = collect(cnn.data.fashion_mnist({ dir = dir, batch = 10 }).test)
      assert.same(expected, got)
    end
  end)

  it("is Fashion-MNIST where the distribution put it", function()
    local data = cnn.data.fashion_mnist { batch = 4, resize = 224 }
    assert.equal(60000, data.train:count())
    assert.equal(10000, data.test:count())
    assert.equal(15000, data.train:batch_count())
    local x, y = first_batch(data.test)
    assert.equal("4x1x224x224", tostring(x:shape()))
    assert.same({ 10, 3, 2, 2 }, engine.list(y))
    assert.equal("ankle boot", data.classes[y[1]:item()])
  end)

  it("can be a table of a script's own", function()
    local images = cnn.tensor({ 0, 51, 102, 255, 5, 5, 5, 5 }, { 2, 1, 2, 2 }, { dtype = "u8" })
    local part = { images = images, labels = { 1, 2 } }
    local data = cnn.data.from { classes = { "a", "b" }, train = part, test = part, batch = 2 }
    for x, y in data.test:batches() do
      local values = engine.list(x)
      for i, expected in ipairs { 0, 0.2, 0.4, 1 } do
        assert.is_true(math.abs(values[i] - expected) < 1e-6)
      end
      assert.same({ 1, 2 }, engine.list(y))
    end
    for _, labels in ipairs { { 1, 3 }, { 0, 1 }, { 1 }, { 1, 1.5 } } do
      local ok = pcall(cnn.data.from,
        { classes = 2, train = { images = images, labels = labels }, test = part })
      assert.is_false(ok, "taken: the labels " .. table.concat(labels, " "))
    end
  end)

  it("keeps its settings when a recipe names it, unless others are given", function()
    local dir = idx.directory "plain"
    local own = cnn.data.fashion_mnist { dir = dir, limit = 7, seed = 3, resize = { 9, 14 } }
    local opened = cnn.data.open(own, { batch = 4 })
    assert.equal(7, opened.train:count())
    assert.equal(10, opened.test:count())
    assert.equal("4x1x9x14", tostring(first_batch(opened.train):shape()))
    assert.same(collect(own.train, { epoch = 1 }), collect(opened.train, { epoch = 1 }))
    local other = cnn.data.open(own, { batch = 4, limit = 20, seed = 4, height = 5, width = 6 })
    assert.equal("4x1x5x6", tostring(first_batch(other.test):shape()))
    local plain = cnn.data.fashion_mnist { dir = dir, seed = 4 }
    assert.same(collect(plain.train, { epoch = 1 }), collect(other.train, { epoch = 1 }))
    assert.equal(20, cnn.data.open(own, { limit = 20, dir = dir }).train:count())
  end)

  it("says which keys a table of a script's own may have", function()
    local images = cnn.zeros({ 2, 1, 2, 2 }, { dtype = "u8" })
    local part = { images = images, labels = { 1, 2 } }
    local refused = {
      [{ classes = 2, train = part, test = part, limt = 1 }] = "'limt'.*known: name.*'limit'",
      [{ classes = 2, test = part, train = { images = images, labels = { 1, 2 }, lables = 1 } }]
        = "train: unknown option 'lables'.*known: images, labels",
    }
    for given, pattern in pairs(refused) do
      local ok, why = pcall(cnn.data.from, given)
      assert.is_false(ok)
      assert.truthy(why:find("data_spec.lua:%d+: data.*" .. pattern), why)
    end
  end)

  it("never reads the four files of a directory that lacks one", function()
    assert.has_error(function()
      cnn.data.fashion_mnist { dir = idx.directory("lacking", { [4] = false }) }
    end)
    assert.has_error(function() cnn.data.fashion_mnist { dri = "x" } end)
    assert.has_error(function() cnn.data.fashion_mnist { batch = 0 } end)
  end)
end)

-- What is wrong with which of the four files, and what the one line has to say.
local images, labels = idx.images(20, 28, 28), idx.labels(20)
local packed = idx.gzip(images)
local broken = {
  { "an empty file of images", 1, "", "train%-images.*bytes" },
  { "images cut off", 1, images:sub(1, 5000), "train%-images.*20x28x28.*5000" },
  { "images cut off within the header", 1, images:sub(1, 9), "train%-images" },
  { "bytes after the images", 1, images .. "x", "train%-images.*1 more" },
  { "labels in the place of images", 1, labels, "train%-images.*00000803.*00000801" },
  { "images in the place of labels", 2, images, "train%-labels.*00000801.*00000803" },
  { "IDX of 4-byte numbers", 1, "\0\0\12\3" .. images:sub(5), "train%-images.*00000803" },
  { "a text file", 1, "<html>no such page</html>" .. (" "):rep(99), "train%-images" },
  { "a header that promises too much", 1, images:sub(1, 4) .. "\255\255\255\255" .. images:sub(9),
    "train%-images" },
  { "a header of no pictures", 1,
    images:sub(1, 4) .. "\0\0\0\0" .. images:sub(9), "train%-images" },
  { "one label less than images", 2, idx.labels(19), "20 labels.*19" },
  { "a label out of range", 2, labels:sub(1, -2) .. "\10", "labels from 0 to 9, got 10" },
  { "gzip cut off", 1, packed:sub(1, 8000), "cut off", ".gz" },
  { "gzip with a flipped byte", 1, packed:sub(1, 8000) .. "\0\0\0\0" .. packed:sub(8005),
    "damaged", ".gz" },
  { "gzip with a wrong checksum", 1, packed:sub(1, -9) .. "\0\0\0\0" .. packed:sub(-4), "damaged",
    ".gz" },
  { "gzip with something behind it", 1, packed .. "something", "not gzip", ".gz" },
  { "a missing file", 3, false, "t10k%-images" },
}

describe("a broken data set ends a run with one line:", function()
  teardown(program.sweep)

  for i, case in ipairs(broken) do
    local what, which, text, pattern, suffix = unpack(case)
    it(what, function()
      local dir = idx.directory("broken" .. i, { [which] = not suffix and text or false })
      if suffix then program.write(dir .. "/" .. idx.names[which] .. suffix, text) end
      local out = program.file("run" .. i)
      program.refuses(("models/bn_lenet.lua --epochs 1 --data %s --out %s"):format(
        program.quote(dir), program.quote(out)), 1, pattern)
      assert.is_false(program.exists(out .. "/metrics.csv"))
    end)
  end

  it("a directory that is not there, by --data and by $CNNLUA_DATA", function()
    program.refuses("models/bn_lenet.lua --data /nowhere", 1, "/nowhere.*dataset%-fashion%-mnist")
    program.refuses("models/bn_lenet.lua", 1, "CNNLUA_DATA.*/nowhere",
      { env = "CNNLUA_DATA=/nowhere" })
  end)
end)
