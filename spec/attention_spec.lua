-- Where a net looks: Grad-CAM, occlusion, and what each channel of a layer responds to most.
-- Numbers are compared with plain Lua, with differences and with PyTorch, pixels with those of the
-- PNG file.

local cnn = require "cnn"
local colors = require "cnn.pictures.colors"
local engine = require "spec.support.engine"
local errors = require "spec.support.errors"
local golden = require "spec.support.golden"
local made_up = require "spec.support.made_up"
local pixels = require "spec.support.pixels"
local program = require "spec.support.program"
local scripts = require "spec.support.scripts"

local nn, expect, near = cnn.nn, errors.expect, made_up.near
local HEIGHT, WIDTH, names = made_up.HEIGHT, made_up.WIDTH, made_up.names
local CLASSES, COUNT = #names, 50

local FRAME = 0xff8c00 -- around the place of a maximum

teardown(program.sweep)

-- -------------------------------------------------------------------------------------- Grad-CAM

-- A tensor as a plain list.
local list = engine.list

describe("net:gradcam", function()
  -- Convolution, ReLU, global average pooling, linear: the map is known.
  local function cam_net(channels)
    return nn.Sequential(nn.Conv2d(channels, 3, 3, { padding = 1 }), nn.ReLU(),
      nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES))
  end

  for channels = 1, 4 do
    it(("is the class activation map of such a net, %d channels"):format(channels), function()
      local net, x = cam_net(channels), cnn.rand(2, channels, HEIGHT, WIDTH)
      local g = net:gradcam(x, { class = 2 })
      assert.equal("[2]", g.layer)
      local a = cnn.no_grad(function() return net[2](net[1](x)) end)
      local w = list(net[5].weight)
      for n = 1, 2 do
        local maps, raw = a[n]:totable(), g[n].raw:totable()
        for row = 1, HEIGHT do
          for column = 1, WIDTH do
            local sum = 0
            for c = 1, 3 do sum = sum + w[3 + c] / (HEIGHT * WIDTH) * maps[c][row][column] end
            near(math.max(0, sum), raw[row][column], 1e-6)
          end
        end
        assert.same(list(g[n].raw), list(g[n].map))
      end
    end)
  end

  local Block = nn.module "Block" -- wired by hand, with a branch around the tail
  function Block:init()
    self.front = nn.Conv2d(1, 2, 3)
    self.tail = nn.Conv2d(2, 2, 3, { padding = 1 })
    self.head = nn.Linear(2 * (HEIGHT - 2) * (WIDTH - 2), CLASSES)
  end
  function Block:rest(y)
    return self.head(((self.tail(y)):tanh() + y * y):flatten(2))
  end
  function Block:forward(x) return self:rest(self.front(x)) end

  it("agrees with differences, of a layer in the middle of a module of one's own", function()
    local net, x = Block(), cnn.rand(1, 1, HEIGHT, WIDTH)
    local g = net:gradcam(x, { layer = "front", class = 3 })
    local a = cnn.no_grad(function() return net.front(x) end)
    local values, h, w = list(a), HEIGHT - 2, WIDTH - 2
    local function score(i, by)
      local moved = { unpack(values) }
      moved[i] = moved[i] + by
      return cnn.no_grad(function()
        return net:rest(cnn.tensor(moved, { 1, 2, h, w }))[1][3]:item()
      end)
    end
    local weight = { 0, 0 }
    for i = 1, #values do
      local c = math.floor((i - 1) / (h * w)) + 1
      weight[c] = weight[c] + (score(i, 1e-2) - score(i, -1e-2)) / 2e-2 / (h * w)
    end
    local raw = list(g[1].raw)
    assert.equal(h * w, #raw)
    for i = 1, h * w do
      local sum = weight[1] * values[i] + weight[2] * values[h * w + i]
      near(math.max(0, sum), raw[i], 1e-3)
    end
    assert.equal("6x5", tostring(g[1].map:shape()))
  end)

  it("takes the predicted class, and says how probable it is", function()
    local net, x = cam_net(1), cnn.rand(3, 1, HEIGHT, WIDTH)
    local p = cnn.no_grad(function() return net(x):softmax(2) end):totable()
    local g = net:gradcam(x, { classes = names })
    for n, row in ipairs(g) do
      assert.equal(math.max(unpack(p[n])), p[n][row.class])
      near(p[n][row.class], row.probability, 1e-6)
      assert.equal(names[row.class], row.name)
      assert.truthy(tostring(g):find(("%d: %s %.3f"):format(n, row.name, row.probability), 1, true))
    end
  end)

  it("leaves the picture as it is where there is nothing, and one channel or u8 will do", function()
    local net = cam_net(1)
    pixels.set_weight(net[1], { 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
      0, 0, 0, 0, 0, 0, 0, 0, 0 })
    pixels.set_weight(net[5], { 9, 0, 0, 0, 0, 0, 0, 0, 0 })
    cnn.no_grad(net[1].bias.fill, net[1].bias, 0)
    local bytes = {}
    for i = 1, HEIGHT * WIDTH do bytes[i] = i % 2 == 0 and 0 or 200 + i end
    local x = cnn.tensor(bytes, { 1, HEIGHT, WIDTH }, { dtype = "u8" })
    local g = net:gradcam(x, { class = 1 }) -- the map is the picture
    local tile = pixels.of(g):tile(g.places[1], g.places.scale, HEIGHT, WIDTH)
    local heat = colors.apply(x[1]:to "f32", { lo = 0, hi = 229, map = "plasma" }):totable()
    for i, color in ipairs(tile) do
      local share = bytes[i] / 229 * 0.75 -- of the colour; of black pixels nothing is seen
      for c, shift in ipairs { 65536, 256, 1 } do
        local row, column = math.floor((i - 1) / WIDTH) + 1, (i - 1) % WIDTH + 1
        local expected = bytes[i] * (1 - share) + heat[c][row][column] * share
        near(expected, math.floor(color / shift) % 256, 0.51)
      end
    end
    near(9 / (HEIGHT * WIDTH) * 229 / 255, g[1].raw:max():item(), 1e-6)
  end)

  it("marks what is not finite", function()
    local net, x = cam_net(1), cnn.rand(1, HEIGHT, WIDTH)
    x[1][3][3] = 0 / 0
    local g = net:gradcam(x)
    local p = pixels.of(g)
    assert.truthy(tostring(g):find "1 of 1 outputs are not finite")
    assert.truthy(tostring(g):find "values of the maps are not finite %(magenta%)")
    local tile = p:tile(g.places[1], g.places.scale, HEIGHT, WIDTH)
    assert.equal(pixels.MAGENTA, tile[2 * WIDTH + 3])
  end)

  it("hides the picture where the map alone is not finite", function()
    local Broken = nn.module "Broken"
    function Broken:forward(x) -- luacheck: ignore 212
      local hole = cnn.zeros(1, 1, HEIGHT, WIDTH)
      hole[1][1][2][4] = 1 / 0
      return x + hole
    end
    local Head = nn.module "Head" -- does not look at that pixel
    function Head:forward(x) -- luacheck: ignore 212
      return x:narrow(3, 3, 2):flatten(2):narrow(2, 1, 3)
    end
    local g = nn.Sequential(Broken(), Head()):gradcam(cnn.rand(1, HEIGHT, WIDTH), { layer = 1 })
    local tile = pixels.of(g):tile(g.places[1], g.places.scale, HEIGHT, WIDTH)
    assert.equal(pixels.MAGENTA, tile[WIDTH + 4])
    assert.truthy(tostring(g):find "1 value of the maps is not finite")
  end)

  it("can be made in a step and drawn after it", function()
    local net, x = cam_net(1), cnn.rand(2, 1, HEIGHT, WIDTH)
    local g, o
    cnn.step(function()
      g, o = net:gradcam(x * 1), net:occlusion(x * 1)
      return x + 1
    end)
    assert.same(list(net:gradcam(x)[2].raw), list(g[2].raw))
    g:pixels()
    assert.same(list(net:occlusion(x):pixels()), list(o:pixels()))
  end)

  it("refuses a layer or a class that cannot be", function()
    local net, x = cam_net(1), cnn.rand(1, 1, HEIGHT, WIDTH)
    local function refuses(pattern, options)
      expect(pattern, function()
        local g = net:gradcam(x, options)
        return g
      end)
    end
    refuses("no layer 'conv9' in the net.*layers", { layer = "conv9" })
    refuses("got net%[4%] Flatten%(%), which gives 1x3 %(net%[2%] ReLU%(%) would do%)",
      { layer = 4 })
    refuses("class: expected 1 to 3, got 4", { class = 4 })
    refuses("class: expected a whole number >= 1, got 1.5", { class = 1.5 })
    refuses("unknown option 'klass'", { klass = 1 })
    refuses("classes: expected a list of names", { classes = "star" })
    expect("no layer of the net gives N x C x H x W", function()
      local g = made_up.linear(1):gradcam(x)
      return g
    end)
    expect("x: expected images N x C x H x W or C x H x W with values, got 3", function()
      local g = net:gradcam(3)
      return g
    end)
    local Aside = nn.module "Aside" -- calls a layer and forgets what it gave
    function Aside:init() self.lost, self.head = nn.Conv2d(1, 1, 3), nn.Linear(30, 3) end
    function Aside:forward(y)
      self.lost(y)
      return self.head(y:flatten(2))
    end
    expect("the scores do not depend on what net.lost Conv2d%(1, 1, 3%) gives", function()
      local g = Aside():gradcam(x)
      return g
    end)
  end)
end)

-- ------------------------------------------------------------------------------------- occlusion

describe("net:occlusion", function()
  local data, images = made_up.data(2, 3)
  local net, scores = made_up.linear(2)

  -- The probability of class k of image n with a square of `value` at row, column.
  local function covered(n, k, row, column, size, value)
    local image = { unpack(images[n]) }
    for c = 0, 1 do
      for y = row, row + size[1] - 1 do
        for x = column, column + size[2] - 1 do
          image[c * HEIGHT * WIDTH + (y - 1) * WIDTH + x] = value
        end
      end
    end
    local y, sum = scores(image), 0
    for _, v in ipairs(y) do sum = sum + math.exp(v - y[k]) end
    return 1 / sum
  end

  it("gives the probability at each place", function()
    local x = made_up.all(data.test)
    local o = net:occlusion(x, { class = 2, size = { 3, 2 }, stride = 2, value = 0.25 })
    assert.equal(3, #o)
    local rows, columns = { 1, 3, 4 }, { 1, 3, 4 } -- the last ones touch the edge
    for n, found in ipairs(o) do
      local lowest = math.huge
      assert.equal(#rows, #found.values)
      for i, row in ipairs(rows) do
        for j, column in ipairs(columns) do
          local p = covered(n, 2, row, column, { 3, 2 }, 0.25)
          near(p, found.values[i][j], 1e-5)
          lowest = math.min(lowest, p)
        end
      end
      near(lowest, found.lowest.probability, 1e-5)
      near(lowest, covered(n, 2, found.lowest.row, found.lowest.column, { 3, 2 }, 0.25), 1e-5)
      -- pixel 4, 4 lies under the squares that begin at rows 3, 4 and columns 3, 4
      local v = found.values
      near((v[2][2] + v[2][3] + v[3][2] + v[3][3]) / 4, found.map[4][4]:item(), 1e-6)
      near(v[1][1], found.map[1][1]:item(), 1e-7)
    end
  end)

  it("covers with one square a quarter of the picture's size unless it is told", function()
    local o = net:occlusion((made_up.all(data.test)))
    assert.equal(5, #o[1].values)
    assert.equal(4, #o[1].values[1])
    assert.truthy(tostring(o):find("covered by 2x2 at 20 places", 1, true))
    o:pixels()
  end)

  it("leaves the picture as it is where covering changes nothing", function()
    local x = cnn.ones(1, 2, HEIGHT, WIDTH)
    local o = net:occlusion(x, { value = 1 })
    local p = pixels.of(o)
    for _, color in ipairs(p:tile(o.places[1], o.places.scale, HEIGHT, WIDTH)) do
      assert.equal(0xffffff, color)
    end
  end)

  it("refuses a square that is larger than the picture", function()
    expect("size: expected at most the picture's 6x5, got 6x6", function()
      local o = net:occlusion((made_up.all(data.test)), { size = 6 })
      return o
    end)
    expect("class: expected 1 to 3, got 7", function()
      local o = net:occlusion((made_up.all(data.test)), { class = 7 })
      return o
    end)
    local One = nn.module "One" -- takes a batch for a picture
    function One:forward(x) -- luacheck: ignore 212
      return x:narrow(1, 1, 1):flatten(2)
    end
    expect("scores an image from the net, got .*1x30.* for 20 images", function()
      local o = One():occlusion(cnn.rand(1, HEIGHT, WIDTH))
      return o
    end)
    expect("value: expected a finite number", function()
      local o = net:occlusion((made_up.all(data.test)), { value = 1 / 0 })
      return o
    end)
  end)
end)

-- --------------------------------------------------------------------------------- beside PyTorch

describe("PyTorch", function()
  local g = golden.read "pictures"
  local Residual = scripts.recipe("resnet").Residual
  local net = golden.prepare(nn.Sequential(
    Residual(1, 6, { use_1x1conv = true, strides = 2 }),
    Residual(6, 8, { use_1x1conv = true, strides = 2 }),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)), g)
  local x = cnn.data.fashion_mnist_test({ batch = 2 }).test:take(1, 2)

  local function flat(rows)
    local all = {}
    for _, row in ipairs(rows) do for _, v in ipairs(row) do all[#all + 1] = v end end
    return all
  end

  for _, case in ipairs(g.gradcam) do
    it("has the same Grad-CAM at " .. case.layer, function()
      local found = net:gradcam(x, { layer = case.layer, class = case.class })
      for i, rows in ipairs(case.maps) do
        local expected, got = flat(rows), list(found[i].raw)
        assert.equal(#expected, #got)
        local most = math.max(unpack(expected))
        for k, v in ipairs(expected) do near(v, got[k], 1e-5 * most) end
      end
    end)
  end

  it("has the same probabilities of covered pictures", function()
    local o = g.occlusion
    local found = net:occlusion(x, {
      class = o.class, size = o.size, stride = o.stride, value = o.value,
    })
    for i, rows in ipairs(o.values) do
      local expected, got = flat(rows), flat(found[i].values)
      assert.equal(#expected, #got)
      for k, v in ipairs(expected) do near(v, got[k], 1e-7) end
    end
  end)
end)

-- ---------------------------------------------------------------------------------- top pictures

describe("net:top_pictures", function()
  local data, images, labels = made_up.data(1, COUNT)
  local net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 6),
    nn.ReLU(), nn.Linear(6, CLASSES))

  -- The largest value of channel c of each image, and where it is, best first.
  local function expected(y, c)
    local found = {}
    for n, image in ipairs(y:totable()) do
      local best = { index = n, value = -math.huge }
      if type(image[c]) == "number" then
        best.value = image[c]
      else
        for row, values in ipairs(image[c]) do
          for column, v in ipairs(values) do
            if v > best.value then best.value, best.row, best.column = v, row, column end
          end
        end
      end
      found[n] = best
    end
    table.sort(found, function(a, b)
      if a.value ~= b.value then return a.value > b.value end
      return a.index < b.index
    end)
    return found
  end

  local function check(t, y, channels, count)
    assert.equal(#channels, #t)
    for i, c in ipairs(channels) do
      assert.equal(c, t[i].channel)
      assert.equal(count, #t[i])
      local best = expected(y, c)
      for k, found in ipairs(t[i]) do
        for _, key in ipairs { "index", "row", "column" } do
          assert.equal(best[k][key], found[key])
        end
        near(best[k].value, found.value, 1e-6)
        assert.equal(labels[found.index], found.label)
      end
    end
  end

  it("finds the largest activations of each channel, and their places", function()
    local x = made_up.all(data.test)
    local y = cnn.no_grad(function() return net[1](x) end)
    check(net:top_pictures(data.test, 1), y, { 1, 2, 3, 4 }, 9)
    local options = { channels = { 4, 2 }, count = 5, batch = 7 }
    check(net:top_pictures(data.test, "net[1]", options), y, { 4, 2 }, 5)
    check(net:top_pictures(data.test, "1", { channels = 2, limit = 3 }), y:narrow(1, 1, 3),
      { 1, 2 }, 3)
  end)

  it("does the same for vectors, which have no places", function()
    local x = made_up.all(data.test)
    local y = cnn.no_grad(function() return net[4](net[3](net[2](net[1](x)))) end)
    check(net:top_pictures(data.test, "4", { channels = { 6 }, count = 3 }), y, { 6 }, 3)
  end)

  it("takes the first of equals", function()
    local Same = nn.module "Same"
    function Same:forward(x) return x * 0 + 1 end -- luacheck: ignore 212
    local t = nn.Sequential(Same()):top_pictures(data.test, 1, { count = 4, batch = 3 })
    for k, found in ipairs(t[1]) do
      assert.same({ k, 1, 1 }, { found.index, found.row, found.column })
    end
  end)

  it("does not compute what comes after the layer", function()
    local calls = 0
    local After = nn.module "After"
    function After:forward(x) -- luacheck: ignore 212
      calls = calls + 1
      return x
    end
    nn.Sequential(nn.Conv2d(1, 2, 3), After()):top_pictures(data.test, "1")
    assert.equal(0, calls)
  end)

  it("draws the images, framed where the maximum is", function()
    local t = net:top_pictures(data.test, 1, { channels = 1, count = 2 })
    local p = pixels.of(t)
    local place, scale, found = t.places[1], t.places.scale, t[1][1]
    local top = math.floor((found.row - 1) * HEIGHT / 4) * scale
    local left = math.floor((found.column - 1) * WIDTH / 3) * scale
    assert.equal(FRAME, p:at(place[1] + left - 1, place[2] + top))
    assert.equal(FRAME, p:at(place[1] + left, place[2] + top - 1))
    local inside = images[found.index][(top / scale) * WIDTH + left / scale + 1]
    assert.equal(pixels.gray({ inside }, 0, 1)[1], p:at(place[1] + left, place[2] + top))
  end)

  it("leaves out what is not finite, and says so", function()
    local Broken = nn.module "Broken"
    function Broken:forward(x) -- luacheck: ignore 212
      local y = x:clone()
      y[1][1][2][2] = 0 / 0
      return y
    end
    local t = nn.Sequential(Broken()):top_pictures(data.test, 1, { batch = 5, limit = 10 })
    assert.equal(2, t.not_finite)
    assert.equal(8, #t[1])
    assert.truthy(tostring(t):find "2 activations are not finite")
    t:pixels()
  end)

  it("refuses what is no layer, no channel, no picture", function()
    local function refuses(pattern, path, options)
      expect(pattern, function()
        local t = net:top_pictures(data.test, path, options)
        return t
      end)
    end
    refuses("no layer 'conv1' in the net", "conv1")
    refuses("path: expected a string, got nil")
    refuses("channels: expected 1 to 4, got 5", 1, { channels = { 1, 5 } })
    refuses("count: expected a whole number >= 1, got 0", 1, { count = 0 })
    local other = made_up.data(3, 4)
    expect("net%[1%] Conv2d%(1, 4, 3%): expected 1 channels, got 3", function()
      local t = net:top_pictures(other.test, 1)
      return t
    end)
  end)
end)
