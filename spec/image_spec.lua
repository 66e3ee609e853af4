-- PNG files in and out, and pictures brought to a net's input.

local cnn = require "cnn"
local engine = require "spec.support.engine"
local errors = require "spec.support.errors"
local program = require "spec.support.program"

local expect, values, file = errors.expect, engine.list, program.file

local function bytes(list, sizes) return cnn.tensor(list, sizes, { dtype = "u8" }) end

describe("a PNG file", function()
  teardown(program.sweep)

  for _, sizes in ipairs { { 1, 1, 1 }, { 1, 28, 28 }, { 3, 7, 5 }, { 3, 1, 300 } } do
    it(("keeps the bytes of %dx%dx%d"):format(unpack(sizes)), function()
      local random, list = engine.random(7), {}
      for i = 1, sizes[1] * sizes[2] * sizes[3] do list[i] = math.floor(random() * 256) end
      local name = file "picture.png"
      cnn.image.write(name, bytes(list, sizes))
      local back = cnn.image.read(name, { channels = sizes[1] })
      assert.equal("u8", back.dtype)
      assert.same(sizes, { unpack(back:shape()) })
      assert.same(list, values(back))
    end)
  end

  it("is written of floats in 0 .. 1 too, and of a picture without a channel", function()
    local name = file "floats.png"
    cnn.image.write(name, cnn.tensor({ 0, 0.5, 1, 2, -1, 0.2 }, { 2, 3 }))
    assert.same({ 0, 128, 255, 255, 0, 51 }, values(cnn.image.read(name)))
  end)

  it("of colours becomes grey, and grey becomes colours", function()
    local name = file "colours.png"
    cnn.image.write(name, bytes({ 255, 0, 10, 255, 0, 10, 255, 0, 10 }, { 3, 1, 3 }))
    assert.same({ 255, 0, 10 }, values(cnn.image.read(name, { channels = 1 })))
    cnn.image.write(name, bytes({ 7, 9 }, { 1, 1, 2 }))
    assert.same({ 7, 9, 7, 9, 7, 9 }, values(cnn.image.read(name, { channels = 3 })))
  end)

  it("takes a slice of a tensor as it lies in memory", function()
    local name = file "slice.png"
    local x = bytes({ 1, 2, 3, 4, 5, 6, 7, 8, 9 }, { 1, 3, 3 })
    cnn.image.write(name, x:narrow(3, 2, 2):transpose(2, 3))
    assert.same({ 2, 5, 8, 3, 6, 9 }, values(cnn.image.read(name)))
  end)

  it("is refused when it cannot be one", function()
    expect("/nowhere.png", cnn.image.read, "/nowhere.png")
    expect("/no/where.png", cnn.image.write, "/no/where.png", cnn.ones(1, 2, 2))
    expect("expected a tensor of u8, .* got 7", cnn.image.write, file "x.png", 7)
    expect("got the tensor i32", cnn.image.write, file "x.png",
      cnn.tensor({ 9 }, { dtype = "i32" }))
    expect("expected a file's name, got none", cnn.image.write, "", cnn.ones(1, 2, 2))
    expect("cannot pack 1x1x2000000", cnn.image.write, file "x.png",
      cnn.zeros({ 1, 1, 2000000 }, { dtype = "u8" }))
    expect("2x2x2", cnn.image.write, file "x.png", cnn.ones(2, 2, 2))
    expect("unknown option", cnn.image.read, file "x.png", { chanels = 1 })
    assert.is_false(program.exists(file "x.png"))
  end)
end)

describe("a picture for a net", function()
  it("has the net's size, in 0 .. 1", function()
    local picture = bytes({ 0, 255, 255, 0 }, { 1, 2, 2 })
    local x = cnn.image.fit(picture, { 1, 6, 4 })
    assert.equal("1x1x6x4", tostring(x:shape()))
    assert.equal("f32", x.dtype)
    assert.equal(0, x:min():item())
    assert.equal(1, x:max():item())
  end)

  it("is averaged where it gets smaller", function()
    local list = {}
    for i = 1, 64 do list[i] = i % 2 * 200 end
    local x = cnn.image.fit(bytes(list, { 1, 8, 8 }), { 1, 4, 4 })
    for _, v in ipairs(values(x)) do assert.is_true(math.abs(v - 100 / 255) < 1e-6) end
  end)
end)
