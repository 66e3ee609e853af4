-- What train.augment does by name: pictures moved as a whole, by the seed alone, labels untouched.

local augment = require "cnn.augment"
local cnn = require "cnn"
local luassert = require "luassert.util"
local program = require "spec.support.program"

local nn, quote, file = cnn.nn, program.quote, program.file

describe("augmentation", function()
  teardown(program.sweep)

  local function augmented(name, seed, batch, labels)
    cnn.manual_seed(seed)
    local new_labels
    local y = cnn.step(function()
      local pictures
      pictures, new_labels = augment[name](batch, labels)
      return pictures
    end)
    assert.equal(labels, new_labels)
    assert.equal(tostring(batch:shape()), tostring(y:shape()))
    return y:totable()
  end

  it("'flip' mirrors some pictures and leaves the others", function()
    local batch, labels = cnn.rand(32, 2, 3, 5), cnn.ones(32)
    local before, mirrored = batch:totable(), 0
    local after = augmented("flip", 7, batch, labels)
    for i, picture in ipairs(before) do
      local mirror = {}
      for c, rows in ipairs(picture) do
        mirror[c] = {}
        for h, row in ipairs(rows) do
          mirror[c][h] = { row[5], row[4], row[3], row[2], row[1] }
        end
      end
      if after[i][1][1][1] ~= picture[1][1][1] then
        mirrored, picture = mirrored + 1, mirror
      end
      assert.same(picture, after[i])
    end
    assert.is_true(mirrored > 5 and mirrored < 27)
    assert.same(after, augmented("flip", 7, batch, labels))
    assert.are_not.same(after, augmented("flip", 8, batch, labels))
  end)

  -- The picture, moved down and right, with zeros coming in.
  local function moved(picture, down, right)
    local result = {}
    for c, rows in ipairs(picture) do
      result[c] = {}
      for h = 1, #rows do
        result[c][h] = {}
        for w = 1, #rows[h] do
          result[c][h][w] = rows[h - down] and rows[h - down][w - right] or 0
        end
      end
    end
    return result
  end

  -- By how much, down and right, within these bounds; nil if it is not the picture moved.
  local function way_of(picture, result, most_down, most_right)
    local compare = luassert.deepcompare
    for down = -most_down, most_down do
      for right = -most_right, most_right do
        if compare(moved(picture, down, right), result) then return down, right end
      end
    end
  end

  it("'crop' moves each picture, zeros coming in", function()
    local batch, labels = (cnn.rand(24, 2, 8, 16) + 1):channels_last(), cnn.ones(24)
    local after, ways = augmented("crop", 7, batch, labels), {}
    for i, picture in ipairs(batch:totable()) do
      local down, right = way_of(picture, after[i], 1, 2)
      assert.truthy(down)
      ways["down " .. down], ways["right " .. right] = true, true
    end
    for _, way in ipairs { "down -1", "down 0", "down 1", "right -2", "right -1", "right 0",
      "right 1", "right 2" } do
      assert.is_true(ways[way], way)
    end
    assert.same(after, augmented("crop", 7, batch, labels))
    assert.are_not.same(after, augmented("crop", 8, batch, labels))
  end)

  it("draws the same with any number of threads", function()
    local batch, labels, threads = cnn.rand(16, 1, 32, 32), cnn.ones(16), cnn.threads()
    for _, name in ipairs { "flip", "crop" } do
      cnn.set_threads(1)
      local one = augmented(name, 3, batch, labels)
      cnn.set_threads(3)
      local three = augmented(name, 3, batch, labels)
      cnn.set_threads(threads)
      assert.same(one, three)
    end
  end)

  -- The weights of a run with these words, as numbers.
  local function trained(augmented_by, words, out)
    local script = file("augmented.lua", ([[
      local nn = require "cnn".nn
      return {
        name = "augmented", input = { 1, 28, 28 },
        net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)),
        train = { batch = 32, augment = %s },
      }]]):format(augmented_by))
    program.ok(("%s --limit 96 %s --out %s"):format(quote(script), words, quote(file(out))))
    local net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    net:load(file(out) .. "/last.safetensors")
    return net[2].weight:totable()
  end

  it("trains by name to the same bits, on other threads and after --resume", function()
    local none = trained("nil", "--epochs 2", "none")
    for _, name in ipairs { "flip", "crop" } do
      local whole = trained(("%q"):format(name), "--epochs 2 --threads 2", name)
      assert.are_not.same(none, whole)
      trained(("%q"):format(name), "--epochs 1 --threads 1", name .. "1")
      local resumed = ("--epochs 2 --threads 1 --resume %s"):format(quote(file(name .. "1")))
      assert.same(whole, trained(("%q"):format(name), resumed, name .. "2"))
    end
  end)
end)
