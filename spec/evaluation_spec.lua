-- What a net makes of a data set: confusion, mistakes, batches with labels and predictions. Numbers
-- are compared with plain Lua, pixels with those of the PNG file, and whatever looks at a net has
-- to leave it as it was.

local cnn = require "cnn"
local engine = require "spec.support.engine"
local errors = require "spec.support.errors"
local guard = require "cnn.guard"
local interrupt = require "spec.support.interrupt"
local made_up = require "spec.support.made_up"
local pixels = require "spec.support.pixels"
local program = require "spec.support.program"

local nn, C, expect, near = cnn.nn, engine.C, errors.expect, made_up.near
local HEIGHT, WIDTH, names = made_up.HEIGHT, made_up.WIDTH, made_up.names
local CLASSES, COUNT = #names, 50

local WRONG, RIGHT_CELL, WRONG_CELL = 0xbe1e14, 0x08519c, 0xbe1e14

teardown(program.sweep)

-- --------------------------------------------------------------------------------- the net's state

-- A net with everything that looking could change: batch norm, dropout, gradients, frozen and
-- training parts.
local function busy_net(channels)
  local net = nn.Sequential()
  net:add("stem", nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
  net:add("rest", nn.Sequential(nn.Dropout(0.5), nn.Flatten(),
    nn.Linear(4 * (HEIGHT - 2) * (WIDTH - 2), CLASSES)))
  net(cnn.rand(4, channels, HEIGHT, WIDTH)):sum():backward()
  net.stem[1].bias.requires_grad = false
  net.stem[2]:eval()
  return net
end

local function state_of(net)
  local state = { stream = tostring(C.cnn_rng_stream()), recording = cnn.is_grad_enabled() }
  for name, p in net:named_parameters() do
    state[name] = { engine.list(p), p.grad and engine.list(p.grad) or "none", p.requires_grad }
  end
  for name, buffer in net:named_buffers() do state["buffer " .. name] = engine.list(buffer) end
  for name, node in net:named_modules() do
    state["mode of " .. name] = { node.training, rawget(node, "training"), rawget(node, "forward") }
  end
  return state
end

-- What is done to a net, by name: fn(net, data, options).
local looks = {
  confusion = function(net, data) return net:confusion(data.test) end,
  mistakes = function(net, data) return net:mistakes(data.test) end,
  top_pictures = function(net, data) return net:top_pictures(data.test, "stem") end,
  gradcam = function(net, data) return net:gradcam((made_up.all(data.test))) end,
  occlusion = function(net, data)
    return net:occlusion((made_up.all(data.test)):narrow(1, 1, 2))
  end,
}

describe("looking at a net", function()
  local data = made_up.data(2, 12)

  for name, look in pairs(looks) do
    it("leaves it as it was: " .. name, function()
      local net = busy_net(2)
      local before = state_of(net)
      local result = look(net, data)
      result:pixels()
      assert.same(before, state_of(net))
      assert.truthy(tostring(result):find "%a")
      cnn.no_grad(look, net, data)
      assert.same(before, state_of(net))
    end)

    it("leaves it as it was after an error and after Ctrl-C: " .. name, function()
      local net = busy_net(2)
      local Bad, calls = nn.module "Bad", 0
      function Bad:forward(x) -- luacheck: ignore 212
        calls = calls + 1
        if self.strikes then interrupt() else error("no more", 0) end
        return x:relu()
      end
      local bad = Bad()
      net.stem:add(bad)
      local before = state_of(net)
      local ok, why = pcall(look, net, data)
      assert.is_false(ok)
      assert.equal("no more", why)
      assert.same(before, state_of(net))
      bad.strikes = true
      ok, why = pcall(look, net, data)
      guard.clear()
      assert.is_false(ok)
      assert.truthy(tostring(why):find "interrupted", why)
      assert.equal(2, calls)
      assert.same(before, state_of(net))
    end)
  end

  for name, look in pairs(looks) do
    it("asks it in prediction mode: " .. name, function()
      local net, modes = busy_net(2), {}
      local Watch = nn.module "Watch"
      function Watch:forward(x)
        modes[#modes + 1] = self.training
        return x
      end
      net.stem:add(Watch())
      look(net, data)
      assert.is_true(#modes > 0)
      for _, training in ipairs(modes) do assert.is_false(training) end
    end)
  end

  it("builds the layers whose input size was left open", function()
    local net = nn.Sequential(nn.Conv2d(nil, 3, 3), nn.Flatten(), nn.Linear(nil, CLASSES))
    assert.equal(12, net:confusion(data.test).images)
    assert.equal("3x2x3x3", tostring(net[1].weight:shape()))
    assert.is_nil(net[1].weight.grad)
  end)

  it("takes images in their order, and leaves the order of the next epoch alone", function()
    local net, epoch = made_up.linear(2), data.train.epoch
    local m = net:mistakes(data.train, { count = 12 })
    assert.equal(epoch, data.train.epoch)
    local again = net:mistakes(data.test, { count = 12 })
    for i, row in ipairs(again) do assert.equal(row.index, m[i].index) end
  end)
end)

-- ------------------------------------------------------------------------------------- confusion

describe("net:confusion", function()
  local data, images, labels = made_up.data(1, COUNT)
  local net, scores = made_up.linear(1)

  local function expected(limit)
    local m, right = { { 0, 0, 0 }, { 0, 0, 0 }, { 0, 0, 0 } }, 0
    for n = 1, limit do
      local k = made_up.judge(scores(images[n]))
      m[labels[n]][k] = m[labels[n]][k] + 1
      if k == labels[n] then right = right + 1 end
    end
    return m, right / limit
  end

  for _, options in ipairs { {}, { batch = 1 }, { batch = 1000 }, { limit = 17 },
    { limit = 17, batch = 5 }, { limit = 1000 } } do
    it(("counts, with limit %s and batch %s"):format(options.limit, options.batch), function()
      local limit = math.min(options.limit or COUNT, COUNT)
      local m = net:confusion(data.test, options)
      local counts, accuracy = expected(limit)
      for label = 1, CLASSES do assert.same(counts[label], m[label]) end
      assert.equal(CLASSES, #m)
      assert.equal(limit, m.images)
      near(accuracy, m.accuracy, 1e-12)
      near(counts[2][2] / (counts[2][1] + counts[2][2] + counts[2][3]), m.recall[2], 1e-12)
      near(counts[2][2] / (counts[1][2] + counts[2][2] + counts[3][2]), m.precision[2], 1e-12)
    end)
  end

  it("prints a table with the classes' names", function()
    local m = net:confusion(data.test)
    local text = tostring(m)
    assert.truthy(text:find(("accuracy %.4f: %d of 50 "):format(m.accuracy, m.right), 1, true))
    local counts = {}
    for k, count in ipairs(m[2]) do counts[k] = count == 0 and "%." or count end
    local line = ("2 square *| +%s +%s +%s | +%.3f | +%.3f"):format(counts[1], counts[2], counts[3],
      m.recall[2], m.precision[2])
    assert.truthy(text:find(line), text)
  end)

  it("draws what is right blue and what is wrong red", function()
    local Says = nn.module "Says" -- always the second class
    function Says:forward(x) -- luacheck: ignore 212
      return cnn.tensor { { 0, 1, 0 } }:expand(x:size(1), 3)
    end
    local m = Says():confusion(data.test)
    assert.equal(1, m.recall[2])
    assert.is_true(m.precision[1] ~= m.precision[1])
    local p, found = pixels.of(m), {}
    for y = 0, p.height - 1 do
      for x = 0, p.width - 1 do
        local color = p:at(x, y)
        found[color] = found[color] or { left = x, top = y, count = 0 }
        found[color].count = found[color].count + 1
      end
    end
    local blue, red = found[RIGHT_CELL], found[WRONG_CELL]
    assert.is_true(blue.count > 500 and red.count > 2 * blue.count - 600)
    assert.equal(blue.left, red.left) -- one column, the middle row
    assert.is_true(red.top < blue.top)
  end)

  it("says how many outputs are not finite, and counts them as wrong", function()
    local Broken = nn.module "Broken"
    function Broken:forward(x) -- luacheck: ignore 212
      local y = cnn.zeros(x:size(1), 3)
      y[1][1] = 5
      if x:size(1) > 1 then y[2][3] = 0 / 0 end
      return y
    end
    local m = Broken():confusion(data.test, { batch = 10, limit = 20 })
    assert.equal(2, m.not_finite)
    assert.equal(20, m.images)
    local sum = 0
    for label = 1, 3 do for k = 1, 3 do sum = sum + m[label][k] end end
    assert.equal(18, sum)
    assert.equal((m[1][1] + m[2][2] + m[3][3]) / 20, m.accuracy)
    assert.truthy(tostring(m):find "2 outputs are not finite")
    local list = Broken():mistakes(data.test, { batch = 10, limit = 20 })
    assert.equal(2, list.not_finite)
    assert.truthy(tostring(list):find "2 outputs are not finite")
    list = Broken():mistakes(data.test, { limit = 2, batch = 2 })
    local wrong = labels[1] == 1 and 1 or 2
    assert.truthy(tostring(list):find(wrong .. " of 2 images wrong; 1 output is not"))
  end)

  it("has more columns than the data have classes when the net has", function()
    local Four = nn.module "Four"
    function Four:forward(x) -- luacheck: ignore 212
      return cnn.tensor { { 0, 0, 0, 1 } }:expand(x:size(1), 4)
    end
    local m = Four():confusion(data.test)
    assert.equal(4, #m)
    assert.equal(COUNT, m[1][4] + m[2][4] + m[3][4])
    assert.equal(0, m.accuracy)
    m:pixels()
  end)

  it("lists the worst of a hundred classes, and draws all", function()
    local many = {}
    for k = 1, 100 do many[k] = ("kind %d with a name that is too long for a cell"):format(k) end
    local wide = made_up.data(1, 30, many)
    local Says = nn.module "Says"
    function Says:forward(x) -- luacheck: ignore 212
      local y = cnn.zeros(x:size(1), 100)
      y:narrow(2, 99, 1):fill(1)
      return y
    end
    local m = Says():confusion(wide.test)
    assert.truthy(tostring(m):find "| 99 kind 99")
    assert.is_true(#tostring(m) < 2000)
    local height, width = m:size()
    assert.is_true(height > 1000 and width > 1000)
  end)

  it("refuses what does not fit in one line", function()
    local other = made_up.data(3, 4)
    expect({ "net%[2%] Linear%(30, 3%)", "expected 30 features, got 90" }, function()
      local m = net:confusion(other.test)
      return m
    end)
    expect({ "net:confusion: expected images such as data.test, got a table", "part .test" },
      function()
        local m = net:confusion(data)
        return m
      end)
    expect("got nil", function()
      local m = net:mistakes()
      return m
    end)
    expect("unknown option 'limt'.*did you mean 'limit'", function()
      local m = net:confusion(data.test, { limt = 3 })
      return m
    end)
    expect("limit: expected a whole number >= 1, got 0", function()
      local m = net:mistakes(data.test, { limit = 0 })
      return m
    end)
    local few = nn.Sequential(nn.Flatten(), nn.Linear(30, 2))
    expect("3 or more scores an image from the net, got the tensor f32%[8x2%]", function()
      local m = few:confusion(data.test)
      return m
    end)
  end)
end)

-- -------------------------------------------------------------------------------------- mistakes

describe("net:mistakes", function()
  local data, images, labels = made_up.data(1, COUNT)
  local net, scores = made_up.linear(1)

  local function expected(limit)
    local list = {}
    for n = 1, limit do
      local k, probability = made_up.judge(scores(images[n]))
      if k ~= labels[n] then
        list[#list + 1] = {
          index = n, label = labels[n], prediction = k, probability = probability,
        }
      end
    end
    table.sort(list, function(a, b) return a.probability > b.probability end)
    return list
  end

  it("lists the wrong ones, the surest first", function()
    local list = expected(COUNT)
    local m = net:mistakes(data.test, { count = 5, batch = 7 })
    assert.equal(5, #m)
    assert.equal(#list, m.wrong)
    for i, row in ipairs(m) do
      for _, key in ipairs { "index", "label", "prediction" } do
        assert.equal(list[i][key], row[key])
      end
      near(list[i].probability, row.probability, 1e-5)
      assert.equal(names[row.label], row.label_name)
      assert.equal(names[row.prediction], row.prediction_name)
    end
    local line = ("%s *| %s *| *%.4f | *%d"):format(m[1].label_name, m[1].prediction_name,
      m[1].probability, m[1].index)
    assert.truthy(tostring(m):find(line), tostring(m))
  end)

  it("has all of them when there are fewer, within the limit", function()
    local list = expected(9)
    local m = net:mistakes(data.test, { limit = 9 })
    assert.equal(#list, #m)
    assert.equal(list[#list].index, m[#list].index)
  end)

  it("draws the very images", function()
    local m = net:mistakes(data.test, { count = 4 })
    local p = pixels.of(m)
    for i, row in ipairs(m) do
      local tile = p:tile(m.places[i], m.places.scale, HEIGHT, WIDTH)
      assert.same(pixels.gray(images[row.index], 0, 1), tile)
    end
  end)

  it("says so when there are none, in the picture too", function()
    local seen = 0
    local Knows = nn.module "Knows"
    function Knows:forward(x) -- luacheck: ignore 212
      local y = cnn.zeros(x:size(1), 3)
      for i = 1, x:size(1) do y[i][labels[seen + i]] = 9 end
      seen = seen + x:size(1)
      return y
    end
    local m = Knows():mistakes(data.test, { limit = 20 })
    assert.equal(0, #m)
    assert.equal("no mistakes in 20 images", tostring(m))
    local p = pixels.of(m)
    assert.is_true(p:count_dark(0, 0, p.width, p.height, 128) > 50)
  end)
end)

-- -------------------------------------------------------------------------------- labelled batches

describe("cnn.image.batch", function()
  local _, images = made_up.data(1, 4)
  local flat = {}
  for n = 1, 4 do for i = 1, HEIGHT * WIDTH do flat[#flat + 1] = images[n][i] end end
  local x = cnn.tensor(flat, { 4, 1, HEIGHT, WIDTH })

  it("draws the very images, floats or bytes", function()
    local b = cnn.image.batch(x, { 1, 2, 3, 1 }, { classes = names })
    local p = pixels.of(b)
    for n = 1, 4 do p:shows(b, n, x[n][1], 0, 1) end
    local bytes = (x * 255 + 0.5):to "u8"
    local same = cnn.image.batch(bytes, cnn.tensor { 1, 2, 3, 1 }, { classes = names })
    assert.same(engine.list(b:pixels()), engine.list(same:pixels()))
  end)

  -- The colour of what stands right above a tile's corner.
  local function frames(b)
    local p, colors = pixels.of(b), {}
    for n, place in ipairs(b.places) do colors[n] = p:at(place[1] - 1, place[2] - 1) end
    return colors, p
  end

  it("frames what is wrong, and nothing else", function()
    local scores = cnn.tensor { { 9, 0, 0 }, { 9, 0, 0 }, { 0, 0, 1 }, { 0, 1, 0 } }
    local labels = cnn.tensor({ 1, 2, 3, 1 }, { dtype = "i32" })
    local b = cnn.image.batch(x, labels, { predictions = scores, classes = names })
    local colors, p = frames(b)
    for n, wrong in ipairs { false, true, false, true } do
      assert.equal(wrong, colors[n] == WRONG)
      p:shows(b, n, x[n][1], 0, 1)
    end
    local from_list = cnn.image.batch(x, labels, { predictions = { 1, 1, 3, 2 }, classes = names })
    assert.same(engine.list(b:pixels()), engine.list(from_list:pixels()))
    local column = cnn.image.batch(x, labels, { predictions = scores:argmax(2), classes = names })
    assert.same(engine.list(b:pixels()), engine.list(column:pixels()))
  end)

  it("does without labels, with predictions or without", function()
    for _, b in ipairs { cnn.image.batch(x), cnn.image.batch(x[1]),
      cnn.image.batch(x, nil, { predictions = { 1, 2, 3, 1 }, columns = 2 }) } do
      for _, color in ipairs(frames(b)) do assert.is_true(color ~= WRONG) end
    end
  end)

  it("marks scores and values that are not finite", function()
    local scores = cnn.zeros(4, 3)
    scores[2][1] = 0 / 0
    local y = x:clone()
    y[3][1][1][2] = 1 / 0
    local b = cnn.image.batch(y, { 1, 1, 1, 1 }, { predictions = scores })
    local colors, p = frames(b)
    assert.equal(WRONG, colors[2])
    assert.truthy(tostring(b):find "1 of 4 outputs are not finite")
    assert.truthy(tostring(b):find "1 value is not finite %(magenta%)")
    local tile = p:tile(b.places[3], b.places.scale, HEIGHT, WIDTH)
    assert.equal(pixels.MAGENTA, tile[2])
  end)

  for channels = 1, 4 do
    it(("takes %d channels"):format(channels), function()
      local y = cnn.rand(2, channels, HEIGHT, WIDTH)
      local b = cnn.image.batch(y, { 1, 2 })
      local tile = pixels.of(b):tile(b.places[2], b.places.scale, HEIGHT, WIDTH)
      if channels == 3 then
        local byte = pixels.gray(engine.list(y[2]:select(2, 1):select(2, 1)), 0, 1)
        local rgb = 0
        for c = 1, 3 do rgb = rgb * 256 + byte[c] % 256 end
        assert.equal(rgb, tile[1])
      else
        assert.same(pixels.gray(engine.list(y[2]:mean { 1 }), 0, 1), tile)
      end
      assert.equal(channels == 2 or channels == 4,
        tostring(b):find(("the mean of %d channels"):format(channels), 1, true) ~= nil)
    end)
  end

  it("stretches values beyond 0 and 1 to black and white, and says so", function()
    local y = x * 4 - 2
    local b = cnn.image.batch(y)
    local lo, hi = pixels.range(engine.list(y))
    pixels.of(b):shows(b, 1, y[1][1], lo, hi)
    assert.truthy(tostring(b):find("black is %-1%.9"))
  end)

  it("refuses what does not fit", function()
    local function refuses(pattern, ...)
      local arguments = { ... }
      expect("cnn.image.batch: " .. pattern, function()
        local b = cnn.image.batch(x, unpack(arguments, 1, 2))
        return b
      end)
    end
    refuses("labels: expected 4, one for each image, got 2", { 1, 2 })
    refuses("labels: expected whole numbers from 1 to 3, got 4 for image 2", { 1, 4, 1, 1 },
      { classes = names })
    refuses("labels: expected whole numbers from 1, got 1.5", { 1, 1.5, 1, 1 })
    refuses("labels: expected a tensor or a table, got the string 'x'", "x")
    refuses("predictions: expected 4", { 1, 1, 1, 1 }, { predictions = cnn.zeros(3, 3) })
    refuses("classes: expected a list", nil, { classes = 3 })
    refuses("columns: expected a whole number", nil, { columns = 0 })
    refuses("unknown option 'prediction'.*'predictions'", nil, { prediction = {} })
    expect("x: expected images", function()
      local b = cnn.image.batch(cnn.zeros(0, 1, 2, 2))
      return b
    end)
  end)
end)
