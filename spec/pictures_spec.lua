-- Pictures: their PNG files are decoded and compared with the tensors, pixel for pixel.

local cnn = require "cnn"
local canvas = require "cnn.pictures.canvas"
local engine = require "spec.support.engine"
local errors = require "spec.support.errors"
local pixels = require "spec.support.pixels"
local program = require "spec.support.program"

local nn = cnn.nn
local expect, values, gray = errors.expect, engine.list, pixels.gray
local NAN = 0 / 0

describe("net:filters", function()
  teardown(program.sweep)

  it("are gray for one input channel, and magnified", function()
    local net = nn.Sequential(nn.Conv2d(1, 7, { 3, 5 }))
    local picture = net:filters "1"
    local png = pixels.of(picture)
    assert.is_true(picture.places.scale >= 8)
    for i = 1, 7 do png:shows(picture, i, net[1].weight:detach()[i][1]) end
  end)

  it("are in colour for three", function()
    local net = nn.Conv2d(3, 4, 5)
    local picture = net:filters()
    local png = pixels.of(picture)
    for i = 1, 4 do
      local w = net.weight:detach()[i]
      local lo, hi = pixels.range(values(w))
      local red, green, blue = gray(values(w[1]), lo, hi), gray(values(w[2]), lo, hi),
        gray(values(w[3]), lo, hi)
      local expected = {}
      for k = 1, 25 do
        expected[k] = bit.band(red[k], 0xff0000) + bit.band(green[k], 0xff00)
          + bit.band(blue[k], 0xff)
      end
      assert.same(expected, png:tile(picture.places[i], picture.places.scale, 5, 5))
    end
  end)

  it("have a row an output and a column an input channel otherwise", function()
    local net = nn.Conv2d(4, 3, 3)
    local picture = net:filters({ scale = "all" })
    local png, w = pixels.of(picture), net.weight:detach()
    local lo, hi = pixels.range(values(w))
    for o = 1, 3 do
      for i = 1, 4 do
        local at = (o - 1) * 4 + i
        png:shows(picture, at, w[o][i], lo, hi)
        assert.equal(picture.places[i][1], picture.places[at][1])
        assert.equal(picture.places[(o - 1) * 4 + 1][2], picture.places[at][2])
      end
    end
    picture = net:filters({ input = 2, channels = { 3, 1 } })
    png = pixels.of(picture)
    assert.equal(2, #picture.places)
    png:shows(picture, 1, w[3][2])
    png:shows(picture, 2, w[1][2])
  end)

  it("are cut where there are many, and say so", function()
    local picture = nn.Conv2d(40, 20, 3):filters()
    assert.equal(16 * 24, #picture.places)
    assert.truthy(picture.notes[1]:find "first 16 of 20 channels")
    assert.truthy(picture.notes[2]:find "first 24 of 40 input channels; input = ")
    assert.equal(20 * 40, #nn.Conv2d(40, 20, 3):filters({ channels = 20, columns = 40 }).places)
  end)

  it("of Linear and of 1x1 kernels are one picture", function()
    for _, layer in ipairs { nn.Linear(6, 4), nn.Conv2d(6, 4, 1) } do
      local picture = layer:filters()
      assert.equal(1, #picture.places)
      pixels.of(picture):shows(picture, 1, layer.weight:detach():contiguous():view(4, 6))
    end
  end)

  it("of other layers are what parameters they have", function()
    assert.equal(5, #nn.BatchNorm2d(5):filters().places)
    local Own = nn.module "Own"
    function Own:init()
      self.gain, self.kernel = nn.Parameter(cnn.ones(3)), nn.Parameter(cnn.rand(2, 1, 4, 4))
    end
    local net = Own()
    local picture = net:filters()
    pixels.of(picture):shows(picture, 2, net.kernel:detach()[2][1])
  end)

  it("mark what is not finite", function()
    local net = nn.Conv2d(1, 2, 2)
    pixels.set_weight(net, { 0, 1, NAN, 2, 3, 4, 5, 7 })
    local picture = net:filters()
    assert.same({ "1 value is not finite (magenta)" }, picture.notes)
    assert.same({ 0, 0x808080, pixels.MAGENTA, 0xffffff },
      pixels.of(picture):tile(picture.places[1], picture.places.scale, 2, 2))
  end)

  it("are refused of a layer without weights", function()
    local net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Sequential(nn.Conv2d(nil, 2, 3)))
    expect("net%[2%] ReLU%(%) has no weights of its own; filters are in %[1%]$", function()
      net:filters(2)
    end)
    expect("net Sequential has no weights of its own", function() net:filters() end)
    expect("net%[3%]%[1%] .*no weights yet", function() net:filters "3.1" end)
    expect("no layer 'conv1'", function() net:filters "conv1" end)
    expect("no layer '5' in the net %(it has no layers inside%)", function()
      nn.Conv2d(1, 2, 3):filters(5)
    end)
    expect("input: expected 1 to 1, got 2", function() net:filters(1, { input = 2 }) end)
  end)
end)

describe("cnn.image.grid", function()
  teardown(program.sweep)

  it("shows values of 0 to 1, and bytes, as they are", function()
    local x = cnn.rand(3, 1, 4, 5)
    local picture = cnn.image.grid(x)
    local png = pixels.of(picture)
    for i = 1, 3 do png:shows(picture, i, x[i][1], 0, 1) end
    local bytes = (x * 255):to "u8"
    picture = cnn.image.grid(bytes[2])
    pixels.of(picture):shows(picture, 1, bytes[2][1], 0, 255)
    picture = cnn.image.grid(x[1][1] * 3 - 1)
    pixels.of(picture):shows(picture, 1, x[1][1] * 3 - 1, 0, 1)
  end)

  it("scales each image by itself, or all together", function()
    local x = cnn.randn(2, 1, 4, 4)
    x[2] = x[2] * 5
    local picture = cnn.image.grid(x, { scale = "each" })
    pixels.of(picture):shows(picture, 2, x[2][1])
    picture = cnn.image.grid(x, { scale = "all" })
    local lo, hi = pixels.range(values(x))
    pixels.of(picture):shows(picture, 1, x[1][1], lo, hi)
  end)

  it("shows colours, and channels that are none in rows", function()
    local picture = cnn.image.grid(cnn.tensor({ 1, 0, 0, 0.2, 0, 1 }, { 1, 3, 1, 2 }))
    assert.same({ 0xff0000, 0x0033ff }, pixels.of(picture):tile(picture.places[1],
      picture.places.scale, 1, 2))
    local x = cnn.rand(2, 4, 3, 3)
    picture = cnn.image.grid(x)
    local png = pixels.of(picture)
    for i = 1, 2 do
      for c = 1, 4 do png:shows(picture, (i - 1) * 4 + c, x[i][c], 0, 1) end
    end
    assert.equal(picture.places[1][2], picture.places[4][2])
  end)

  it("takes labels", function()
    local x = cnn.rand(3, 1, 4, 4)
    local plain = cnn.image.grid(x)
    local labelled = cnn.image.grid(x, { labels = { "a", "b", "\255\0" } })
    assert.is_true(plain:size() < labelled:size())
    pixels.of(labelled):shows(labelled, 3, x[3][1], 0, 1)
    assert.equal(labelled:size(), cnn.image.grid(x, { labels = cnn.tensor { 1, 2, 3 } }):size())
    expect("labels: expected 3 .*, got 1", function() cnn.image.grid(x, { labels = { 1 } }) end)
  end)

  it("refuses what is no batch", function()
    expect("expected images", function() cnn.image.grid(7) end)
    expect("expected images", function() cnn.image.grid(cnn.ones(3)) end)
    expect("expected images", function() cnn.image.grid(cnn.zeros(0, 1, 2, 2)) end)
    expect("unknown option 'label'", function() cnn.image.grid(cnn.ones(2, 2), { label = {} }) end)
  end)
end)

describe("a picture", function()
  teardown(program.sweep)

  local picture = require "cnn.pictures.picture"

  it("says how large it is, and what is to note", function()
    local p = picture.new(cnn.zeros(1, 2, 3, { dtype = "u8" }), { text = "t", notes = { "n" } })
    assert.same({ 2, 3 }, { p:size() })
    assert.equal("t: picture 3x2 (:show(), :png(file))\nn", tostring(p))
    assert.equal("1x2x3", tostring(p:pixels():shape()))
  end)

  it("lends its methods to other classes, which draw when they are first asked", function()
    local Result, count = picture.extend {}, 0
    Result.__index = Result
    function Result:draw()
      count = count + 1
      return cnn.full({ 3, 1, 2 }, self[1]):to "u8"
    end
    local r = setmetatable({ 9 }, Result)
    assert.equal(0, count)
    assert.same({ 1, 2 }, { r:size() })
    assert.equal(0x090909, pixels.of(r):at(1, 0))
    assert.equal(1, count)
    assert.same({ 9 }, r)
  end)

  it("is packed to the bytes that its file has", function()
    local p = cnn.image.grid(cnn.rand(2, 1, 5, 5))
    local packed = require "cnn.handle".wrap(engine.C.cnn_png_pack(p:pixels()))
    p:png(program.file "p.png")
    local bytes = {}
    for i, v in ipairs(values(packed)) do bytes[i] = string.char(v) end
    assert.equal(program.read(program.file "p.png"), table.concat(bytes))
    assert.is_true(engine.C.cnn_png_pack(cnn.ones(2, 2)) == nil)
  end)

  it("has one channel where all is gray", function()
    local c = canvas.new(3, 2, { background = { 7, 7, 7 } })
    c:fill(1, 0, 1, 1, { 200, 200, 200 })
    assert.same({ 7, 200, 7, 7, 7, 7 }, values(c:pixels()))
    c:fill(2, 1, 1, 1, { 0, 0, 1 })
    assert.same({ 7, 200, 7, 7, 7, 0, 7, 200, 7, 7, 7, 0, 7, 200, 7, 7, 7, 1 },
      values(c:finish()))
    local grid = cnn.image.grid(cnn.rand(2, 1, 4, 4), { labels = { "a", "b" } })
    assert.equal(1, grid:pixels():size(1))
  end)

  it("outlives the module that drew it: cairo is not closed before its last surface", function()
    local script = program.file("forget.lua", [[
      local sheet = require "cnn.pictures.canvas".new(10, 10)
      for name in pairs(package.loaded) do
        if name:find "^cnn%.pictures" then package.loaded[name] = nil end
      end
      sheet = nil
      for _ = 1, 5 do collectgarbage() end
      print "alive"]])
    assert.equal("alive\n", program.ok(script).out)
  end)

  it("stays within its canvas", function()
    local c = canvas.new(4, 3, { background = { 10, 20, 30 } })
    local red = cnn.tensor({ 255, 0, 0 }, { 3, 1, 1 }):to "u8"
    c:blit(red, -1, -1, 2)
    c:blit(red, 3, 2, 100)
    c:blit(red, 50, 50, 3)
    c:fill(2, 0, 1, 1, { 0, 255, 0 })
    local p = pixels.of(picture.new(c:finish()))
    local expected = {
      { 0xff0000, 0x0a141e, 0x00ff00, 0x0a141e }, { 0x0a141e, 0x0a141e, 0x0a141e, 0x0a141e },
      { 0x0a141e, 0x0a141e, 0x0a141e, 0xff0000 },
    }
    for y = 0, 2 do
      for x = 0, 3 do assert.equal(expected[y + 1][x + 1], p:at(x, y)) end
    end
    expect("40000x2 pixels is too large .*: draw fewer tiles", function() canvas.new(40000, 2) end)
  end)
end)
