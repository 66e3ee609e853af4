-- net:maps and cnnlua maps: PNG files are decoded and compared with the tensors, pixel for pixel.

local cnn = require "cnn"
local engine = require "spec.support.engine"
local errors = require "spec.support.errors"
local idx = require "spec.support.idx"
local pixels = require "spec.support.pixels"
local program = require "spec.support.program"

local nn = cnn.nn
local expect, values, gray = errors.expect, engine.list, pixels.gray
local NAN = 0 / 0

local function evaluated(net, x)
  return cnn.no_grad(function() return net(x) end)
end

describe("net:maps", function()
  teardown(program.sweep)

  for _, channels in ipairs { 1, 2, 3, 4 } do
    it(("draws each map of a net with %d input channels in its own range"):format(channels),
      function()
        local net = nn.Sequential(nn.Conv2d(channels, 5, 3), nn.ReLU())
        local x = cnn.rand(2, channels, 9, 8)
        local y = evaluated(net, x)
        for image = 1, 2 do
          local picture = net:maps(x, "1", { image = image })
          local png = pixels.of(picture)
          local conv = evaluated(net[1], x)[image]
          for c = 1, 5 do png:shows(picture, c, conv[c]) end
          assert.same({}, picture.notes)
        end
        local picture = net:maps(x[2], "net[2]", { scale = "all" })
        local png, lo, hi = pixels.of(picture), pixels.range(values(y[2]))
        for c = 1, 5 do png:shows(picture, c, y[2][c], lo, hi) end
      end)
  end

  it("stands in rows from left to right, with a number above each", function()
    local net = nn.Conv2d(1, 6, 3)
    local x = cnn.rand(1, 1, 12, 12)
    local picture = net:maps(x, "net", { columns = 4 })
    local places, scale = picture.places, picture.places.scale
    for i = 2, 6 do
      local same_row = i ~= 5
      assert.equal(same_row, places[i][2] == places[i - 1][2])
      assert.equal(same_row, places[i][1] >= places[i - 1][1] + 10 * scale)
    end
    assert.is_true(places[5][2] >= places[1][2] + 10 * scale)
    assert.equal(places[1][1], places[5][1])
    local png, bare = pixels.of(picture), net:maps(x, "net", { columns = 4, numbers = false })
    for i = 1, 6 do
      local left, top = places[i][1], places[i][2] - 12
      assert.is_true(png:count_dark(left, top, 10 * scale, 10, 100) > 3)
    end
    assert.is_true(bare:size() < picture:size())
    pixels.of(bare):shows(bare, 6, evaluated(net, x)[1][6])
  end)

  it("takes a range, some channels, the first channels and other colours", function()
    local net = nn.Conv2d(1, 6, 3)
    local x = cnn.rand(1, 1, 6, 6)
    local y = evaluated(net, x)[1]
    local picture = net:maps(x, "net", { scale = { -0.25, 0.5 }, channels = { 5, 2 } })
    local png = pixels.of(picture)
    assert.equal(2, #picture.places)
    png:shows(picture, 1, y[5], -0.25, 0.5)
    png:shows(picture, 2, y[2], -0.25, 0.5)
    picture = net:maps(x, "net", { channels = 3 })
    assert.equal(3, #picture.places)
    pixels.of(picture):shows(picture, 3, y[3])
    picture = net:maps(x, "net", { colors = "viridis", channels = { 1 } })
    local tile = pixels.of(picture):tile(picture.places[1], picture.places.scale, 4, 4)
    local lo, hi = pixels.range(values(y[1]))
    for i, v in ipairs(values(y[1])) do
      if v == lo then assert.equal(0x440154, tile[i]) end
      if v == hi then assert.equal(0xfde725, tile[i]) end
    end
  end)

  it("marks what is not finite in magenta, and says how many", function()
    local net = nn.Conv2d(1, 3, 1, { bias = false })
    pixels.set_weight(net, { 1, -1, 2 })
    local list = { 1, 2, NAN, 4, math.huge, 6, 7, 8, -math.huge }
    local picture = net:maps(cnn.tensor(list, { 1, 3, 3 }))
    assert.same({ "9 values are not finite (magenta)" }, picture.notes)
    assert.truthy(tostring(picture):find "\n9 values are not finite")
    local expected = gray({ 1, 2, 0, 4, 0, 6, 7, 8, 0 }, 1, 8)
    expected[3], expected[5], expected[9] = pixels.MAGENTA, pixels.MAGENTA, pixels.MAGENTA
    local png = pixels.of(picture)
    for _, i in ipairs { 1, 3 } do
      assert.same(expected, png:tile(picture.places[i], picture.places.scale, 3, 3))
    end
    picture = net:maps(cnn.full({ 1, 2, 2 }, NAN), "net", { scale = "all" })
    assert.same({ "12 values are not finite (magenta)" }, picture.notes)
    assert.same({ pixels.MAGENTA, pixels.MAGENTA, pixels.MAGENTA, pixels.MAGENTA },
      pixels.of(picture):tile(picture.places[2], picture.places.scale, 2, 2))
  end)

  it("draws a map of one value black, and says so", function()
    local net = nn.ReLU()
    local picture = net:maps(cnn.full({ 2, 3, 3 }, 5))
    assert.same({ "2 tiles have one value everywhere" }, picture.notes)
    local png = pixels.of(picture)
    for i = 1, 2 do
      local tile = png:tile(picture.places[i], picture.places.scale, 3, 3)
      for _, color in ipairs(tile) do assert.equal(0, color) end
    end
  end)

  it("finds what a layer gives when it is called twice", function()
    local Twice = nn.module "Twice"
    function Twice:init() self.conv = nn.Conv2d(1, 1, 3, { padding = 1 }) end
    function Twice:forward(x) return self.conv(self.conv(x)) end
    local net, x = nn.Sequential(Twice()), cnn.rand(1, 1, 7, 7)
    local first = evaluated(net[1].conv, x)
    local second = evaluated(net, x)
    for call, y in ipairs { first, second } do
      local picture = net:maps(x, "1.conv", { call = call })
      pixels.of(picture):shows(picture, 1, y[1][1])
      assert.same({ ("net[1].conv is called 2 times; this is call %d (call = n)"):format(call) },
        picture.notes)
    end
    local last = net:maps(x, net[1].conv)
    assert.truthy(last.notes[1]:find "call 2 ")
    expect("call: expected 1 to 2, got 3", function() net:maps(x, "1.conv", { call = 3 }) end)
  end)

  it("takes the first convolution when no layer is named", function()
    local net = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Conv2d(1, 2, 3)), nn.Flatten())
    local x = cnn.rand(1, 1, 5, 5)
    local picture = net:maps(x)
    assert.equal("net[2][1] Conv2d", picture.text)
    pixels.of(picture):shows(picture, 2, evaluated(net[2], x)[1][2])
    assert.equal(1, #net:maps(x, { channels = 1 }).places)
  end)

  it("works on a net whose input sizes are found at the first input", function()
    local net = nn.Sequential(nn.Conv2d(nil, 4, 3), nn.BatchNorm2d(), nn.Flatten(),
      nn.Linear(nil, 3))
    local x = cnn.rand(2, 3, 6, 6)
    local picture = net:maps(x, 2)
    net:eval()
    pixels.of(picture):shows(picture, 4, evaluated(net[2], evaluated(net[1], x))[1][4])
  end)

  it("divides bytes by 255, as the data do", function()
    local net = nn.Conv2d(1, 2, 3)
    local x = (cnn.rand(1, 6, 6) * 255):to "u8"
    local picture = net:maps(x, { scale = { -1, 1 } })
    local y = evaluated(net, x:to("f32"):unsqueeze(1) / 255)[1]
    pixels.of(picture):shows(picture, 2, y[2], -1, 1)
  end)

  it("leaves out what would be too many, and says so", function()
    local picture = nn.ReLU():maps(cnn.rand(1100, 2, 2))
    assert.equal(1024, #picture.places)
    assert.same({ "the first 1024 of 1,100 channels; channels = { ... } says which" },
      picture.notes)
    assert.is_true(select(2, picture:size()) < 1500)
  end)
end)

describe("net:maps of a vector", function()
  teardown(program.sweep)

  -- From the top of bar i's space: how many pixels of its middle column have the colour.
  local function height_of(png, place, color)
    local count, x = 0, place[1] + math.floor(place[3] / 2)
    for y = place[2], place[2] + place[4] - 1 do
      if png:at(x, y) == color then count = count + 1 end
    end
    return count
  end

  local UP, DOWN = 0x1f77b4, 0xcb4335

  it("draws bars whose heights are the values", function()
    local list = { 4, -2, 0, 1, 3, -1 }
    local picture = nn.Flatten():maps(cnn.tensor(list, { 1, 6, 1, 1 }))
    local png = pixels.of(picture)
    assert.equal(6, #picture.places)
    for i, v in ipairs(list) do
      local place = picture.places[i]
      local expected = math.abs(v) / 6 * place[4]
      local drawn = height_of(png, place, v > 0 and UP or DOWN)
      assert.is_true(math.abs(drawn - expected) <= 1.5, ("%d: %d"):format(i, drawn))
      assert.equal(0, height_of(png, place, v > 0 and DOWN or UP))
    end
  end)

  it("does so for maps of one pixel, and for one value", function()
    local picture = nn.AdaptiveAvgPool2d(1):maps(cnn.rand(2, 3, 4, 4), "net", { image = 2 })
    assert.equal(3, #picture.places)
    assert.truthy(picture.text:find "AdaptiveAvgPool2d")
    assert.equal(1, #nn.Linear(4, 1):maps(cnn.rand(1, 4)).places)
  end)

  it("marks what is not finite", function()
    local picture = nn.ReLU():maps(cnn.tensor({ 1, NAN, math.huge, 2 }, { 1, 4 }))
    local png = pixels.of(picture)
    assert.same({ "2 values are not finite (magenta)" }, picture.notes)
    for i = 1, 4 do
      local place = picture.places[i]
      local expected = (i == 2 or i == 3) and place[4] or 0
      assert.equal(expected, height_of(png, place, pixels.MAGENTA))
    end
  end)

  it("goes on in further strips", function()
    local picture = nn.ReLU():maps(cnn.rand(1, 4096))
    local height, width = picture:size()
    local last = picture.places[4096]
    assert.equal(4096, #picture.places)
    assert.is_true(width < 1100)
    assert.is_true(last[1] + last[3] <= width and last[2] + last[4] <= height)
  end)
end)

describe("looking at a net", function()
  teardown(program.sweep)

  local function make()
    local net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Flatten(),
      nn.Linear(32, 3))
    net:train()
    net[2]:eval()
    local x = cnn.rand(4, 1, 6, 6)
    net(x):sum():backward()
    return net, x
  end

  local function state(net)
    local list = { tostring(engine.C.cnn_rng_stream()), cnn.is_grad_enabled() }
    for name, node in net:named_modules() do list[#list + 1] = name .. tostring(node.training) end
    for name, buffer in net:named_buffers() do list[#list + 1] = { name, values(buffer) } end
    for name, p in net:named_parameters() do
      list[#list + 1] = { name, values(p), p.grad and values(p.grad) or false }
    end
    return list
  end

  it("changes nothing", function()
    local net, x = make()
    local before = state(net)
    net:maps(x, 3)
    net:maps(x)
    net:filters(1)
    assert.same(before, state(net))
  end)

  it("changes nothing when it fails", function()
    local net, x = make()
    local Bad = nn.module "Bad"
    function Bad.forward() error "boo" end
    local broken, other = nn.Sequential(net, Bad()), cnn.rand(1, 2, 6, 6)
    local before = state(broken)
    expect("boo", function() broken:maps(x, "1.2") end)
    expect("expected 1 channels, got 2", function() broken:maps(other, "1.2") end)
    assert.same(before, state(broken))
  end)

  it("takes no memory that it keeps", function()
    local net, x = make()
    local function look(n)
      for _ = 1, n do net:maps(x, 2):pixels() end
      collectgarbage()
      collectgarbage()
      return tonumber(engine.C.cnn_bytes_alive())
    end
    local before = look(3)
    assert.is_true(look(60) <= before)
  end)

  it("refuses what it cannot draw", function()
    local net, x = make()
    expect({ "no layer '7'", "%[5%]" }, function() net:maps(x, "7") end)
    expect("image: expected 1 to 4, got 5 %(x is 4x1x6x6%)", function()
      net:maps(x, 1, { image = 5 })
    end)
    expect("scale: expected 'map', 'all' or", function() net:maps(x, 1, { scale = "each" }) end)
    expect("scale: expected", function() net:maps(x, 1, { scale = { 1, 1 } }) end)
    expect("colors: expected one of .*viridis", function() net:maps(x, 1, { colors = "jet" }) end)
    expect("channels: expected 1 to 2, got 3", function() net:maps(x, 1, { channels = { 3 } }) end)
    expect("channels: .* an empty table", function() net:maps(x, 1, { channels = {} }) end)
    expect("'imag'.*did you mean 'image'", function() net:maps(x, 1, { imag = 2 }) end)
    expect("x: expected a tensor", function() net:maps({ 1, 1, 6, 6 }, 1) end)
    expect("with values", function() net:maps(x:to "meta", 1) end)
    expect("with values, got .*0x1x6x6", function() net:maps(cnn.zeros(0, 1, 6, 6), 1) end)
    expect("cannot write", function() net:maps(x, 1):png "/no/where.png" end)
    expect("expected a file's name, got none", function() net:maps(x, 1):png "" end)
    expect("expected a string", function() net:maps(x, 1):png(7) end)
    local Unused = nn.module "Unused"
    function Unused:init() self.a, self.b = nn.Conv2d(1, 1, 1), nn.ReLU() end
    function Unused:forward(y) return self.b(y) end
    expect("net.a is not called", function() Unused():maps(x, "a") end)
  end)
end)

describe("cnnlua maps", function()
  local dir, weights, words, net

  setup(function()
    dir = idx.directory "data"
    cnn.manual_seed(3)
    net = dofile "models/bn_lenet.lua".net
    weights = program.file "weights.safetensors"
    net:save(weights)
    words = ("maps models/bn_lenet.lua --data %s --weights %s "):format(program.quote(dir),
      program.quote(weights))
  end)
  teardown(program.sweep)

  local function assert_same_picture(expected, file)
    local a, b = pixels.of(expected), pixels.read(file)
    assert.same({ a.height, a.width }, { b.height, b.width })
    for y = 0, a.height - 1 do
      for x = 0, a.width - 1 do
        if a:at(x, y) ~= b:at(x, y) then error(("differs at %d, %d"):format(x, y)) end
      end
    end
  end

  it("writes what net:maps draws of a test image", function()
    local out, x = program.file "maps.png", nil
    local split = cnn.data.fashion_mnist_test({ dir = dir, batch = 10 }).test
    for images in split:batches() do x = images end
    local r = program.ok(words .. "--layer 5 --image 7 -o " .. program.quote(out))
    assert.equal("", r.err)
    assert.truthy(r.out:find "maps.png: net%[5%] Conv2d of test image 7 %(shirt%), %d+x%d+\n$")
    assert_same_picture(net:maps(x, 5, { image = 7 }), out)
    program.ok(words .. "--scale all --output " .. program.quote(out))
    assert_same_picture(net:maps(x, 1, { scale = "all" }), out)
  end)

  it("takes a PNG file", function()
    local out, file = program.file "maps.png", program.file "in.png"
    cnn.image.write(file, cnn.rand(3, 40, 30))
    program.ok(words .. ("--image %s --layer 16 -o %s"):format(program.quote(file),
      program.quote(out)))
    local x = cnn.image.fit(cnn.image.read(file), { 1, 28, 28 })
    assert_same_picture(net:maps(x, 16), out)
  end)

  it("refuses in one line, and writes nothing", function()
    local out = program.file "nothing.png"
    local to = " -o " .. program.quote(out)
    for _, row in ipairs {
      { "--layer conv1" .. to, 2, "no layer 'conv1'.*%[16%]" },
      { "--image 11" .. to, 2, "1 to 10, .*got 11" },
      { "--image 0" .. to, 2, "%-%-image takes" },
      { "--image 1.5" .. to, 2, "%-%-image takes" },
      { "--image /nowhere.png" .. to, 1, "/nowhere.png: cannot read" },
      { "--scale each" .. to, 2, "map, all" },
      { "--layer 1", 2, "%-o FILE" },
      { "-o maps.jpg", 2, "PNG file" },
      { "-o /no/where/maps.png", 1, "/no/where/maps.png: cannot write: No such file" },
      { "-o " .. program.quote(dir), 1, "cannot write: Is a directory" },
      { "--data /nowhere" .. to, 1, "/nowhere" },
    } do
      program.refuses(words .. row[1], row[2], row[3])
    end
    program.refuses("maps models/bn_lenet.lua --weights /no.safetensors" .. to, 1, "no.safetensors")
    program.refuses("maps models/bn_lenet.lua" .. to, 2,
      "missing option '%-%-weights': what training wrote, such as")
    assert.is_false(program.exists(out))
  end)
end)
