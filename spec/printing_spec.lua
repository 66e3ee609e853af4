-- What the prompt shows of a value.

local ffi = require "ffi"
local cnn = require "cnn"
local printing = require "cnn.prompt.printing"

local nn = cnn.nn

local function shown(value, options) return printing.text(value, options) end

local function lines_of(text)
  local lines = {}
  for line in (text .. "\n"):gmatch "(.-)\n" do lines[#lines + 1] = line end
  return lines
end

-- Characters, each of one column.
local function columns(line) return #line:gsub("[\128-\191]", "") end

local function failing(tell) return setmetatable({ a = 1 }, { __tostring = tell }) end

local around = { name = "n", list = { 1, {} } }
around.self, around.list[2].up, around.list[2].root = around, around.list, around

local twice = { 1 }

-- what it is, the value, and what is shown
local rows = {
  { "nil", nil, "nil" },
  { "false", false, "false" },
  { "a whole number", 42, "42" },
  { "a number with digits", 1 / 3, "0.33333333333333" },
  { "a large number", 2 ^ 40, "1099511627776" },
  { "no number", 0 / 0, "nan" },
  { "a number of C's", 10LL, "10LL" },
  { "a string", "ab", '"ab"' },
  { "an empty string", "", '""' },
  { "quotes and lines", 'a "b"\\\n\t\'', [["a \"b\"\\\n\t'"]] },
  { "what would garble a terminal", "\27[31m\0\127\r", [["\027[31m\000\127\r"]] },
  { "UTF-8", "né 日本 😀", '"né 日本 😀"' },
  { "what is no UTF-8", "a\255\195(\226\130", [["a\255\195(\226\130"]] },
  { "what ends as UTF-8 control", "\194\155m", [["\194\155m"]] },
  { "an empty table", {}, "{}" },
  { "a list", { 1, "two", true }, '{ 1, "two", true }' },
  { "keys in order", { b = 1, a = 2, [10] = 3, [-1] = 4, 5, 6, [true] = 7 },
    "{ 5, 6, [-1] = 4, [10] = 3, a = 2, b = 1, [true] = 7 }" },
  { "keys that are no names", { ["end"] = 1, ["two words"] = 2, ["\n"] = 3, [""] = 4 },
    [[{ [""] = 4, ["\n"] = 3, ["end"] = 1, ["two words"] = 2 }]] },
  { "keys that are tables", { [{}] = 1 }, "{ [a table] = 1 }" },
  { "nested tables", { a = { b = { c = {} } } }, "{ a = { b = { c = {} } } }" },
  { "a table in itself", around,
    '{ list = { 1, { root = <_>, up = <_.list> } }, name = "n", self = <_> }' },
  { "a table that is there twice", { twice, twice }, "{ { 1 }, { 1 } }" },
  { "a builtin function", string.rep, "function string.rep (built in)" },
  { "a builtin function without a library", print, "function print (built in)" },
  { "an op", cnn.relu, "function(x) of the engine" },
  { "a thread", coroutine.create(print), "thread (suspended)" },
  { "a class", nn.Conv2d, "nn.module Conv2d" },
  { "a layer", nn.ReLU(), "ReLU()" },
  { "a tensor", cnn.ones(2, 2), "f32[2x2] cpu\n  1 1\n  1 1" },
  { "a shape", cnn.ones(2, 2):shape(), "2x2" },
  { "a net", nn.Sequential(nn.Linear(2, 3), nn.ReLU()),
    "Sequential  9\n  1: Linear(2, 3)  9\n  2: ReLU()" },
  { "tensors and nets inside",
    { x = cnn.ones(4, 3), net = nn.Sequential(), w = nn.Linear(3, 2).weight },
    "{ net = Sequential, w = f32[2x3] cpu, x = f32[4x3] cpu }" },
  { "a text of several lines inside", { failing(function() return "a\nb" end) }, "{ a ... }" },
  { "an __index that throws",
    setmetatable({ a = 1 }, { __index = error, __len = error, __pairs = error }), "{ a = 1 }" },
  { "a locked metatable", setmetatable({ a = 1 }, { __metatable = false }), "{ a = 1 }" },
  { "a __tostring that throws", failing(function() error("boom", 0) end),
    "{ a = 1 }\n(its __tostring fails: boom)" },
  { "a __tostring that throws a table", failing(function() error {} end),
    "%(its __tostring fails: .+%)$" },
  { "a __tostring that throws nothing", failing(function() error() end),
    "{ a = 1 }\n(its __tostring fails: an error without a message)" },
  { "a __tostring without a string", failing(function() return 7 end),
    "{ a = 1 }\n(its __tostring returns 7)" },
  { "a __tostring that is no function", failing(true), "%(its __tostring fails: .+%)$" },
  { "the same inside", { failing(function() error("boom\27", 0) end) },
    [[{ a table (its __tostring fails: boom\027) }]] },
  { "a text with control characters", failing(function() return "a\27[1m\r\n\tb" end),
    "a\\027[1m\n\tb" },
}

describe("the prompt shows", function()
  for _, row in ipairs(rows) do
    it(row[1], function()
      local text = shown(row[2])
      if text ~= row[3] then assert.truthy(row[3]:sub(1, 1) == "%" and text:find(row[3]), text) end
    end)
  end

  it("a function by its parameters and place", function()
    local function f(a, b, ...) return a, b, ... end
    assert.truthy(shown(f):find "^function%(a, b, %.%.%.%) [%w_./]*printing_spec%.lua:%d+$")
    assert.truthy(shown { f }:find "^{ function%(a, b, %.%.%.%) [%w_./]*printing_spec%.lua:%d+ }$")
  end)

  it("what userdata and C say of themselves", function()
    assert.truthy(shown(io.stdout):find "^file %(0x%x+%)$")
    assert.truthy(shown(ffi.new "struct { int a; }"):find "^cdata<struct %d+>")
  end)

  it("strings that Lua reads back", function()
    math.randomseed(3)
    for _ = 1, 300 do
      local bytes = {}
      for i = 1, math.random(0, 20) do bytes[i] = string.char(math.random(0, 255)) end
      local text = table.concat(bytes)
      local said = shown(text)
      assert.equal(text, loadstring("return " .. said)())
      assert.is_nil(said:find "[%z\1-\31\127]")
    end
  end)

  it("tables that Lua reads back", function()
    local value = { 1, { x = { "y", false } }, ["a b"] = { [3] = "\n" }, [0.5] = {} }
    assert.same(value, loadstring("return " .. shown(value))())
    assert.same(value, loadstring("return " .. shown(value, { width = 20 }))())
  end)

  it("a table that a step gave back", function()
    local kept
    cnn.step(function()
      kept = cnn.ones(2) * 2
      return cnn.ones(1)
    end)
    assert.equal("{ a tensor that was given back }", shown { kept })
  end)
end)

describe("what is too long", function()
  it("has the fields of a table on lines of their own", function()
    local value = {
      input = { 1, 96, 96 }, name = "a net with quite a long name", "first",
      train = {
        batch = 256, epochs = 10, lr = 0.05, optimizer = "adamw", schedule = "cosine", eps = 1,
      },
    }
    assert.equal([[
{
  "first",
  input = { 1, 96, 96 },
  name = "a net with quite a long name",
  train = {
    batch = 256, epochs = 10, eps = 1, lr = 0.05, optimizer = "adamw",
    schedule = "cosine",
  },
}]], shown(value))
  end)

  it("fills lines with the items of a list, and counts what is left", function()
    local list = {}
    for i = 1, 10000 do list[i] = i end
    local text = shown(list)
    assert.truthy(text:find("99, 100,\n  ... 9,900 more\n}", 1, true))
    assert.truthy(text:find("^{\n  1, 2, 3, ", 1))
    assert.is_true(#lines_of(text) < 12)
  end)

  it("counts keys that are left, after the first in order", function()
    local map = {}
    for i = 10000, 1, -1 do map[("key%05d"):format(i)] = i end
    local lines = lines_of(shown(map))
    assert.equal("  key00001 = 1,", lines[2])
    assert.equal("  key00040 = 40,", lines[41])
    local count = lines[#lines - 1]:match "^  %.%.%. ([%d,]+) more$":gsub(",", "")
    assert.equal(10000, tonumber(count) + #lines - 3)
    assert.is_true(#lines <= 60)
  end)

  it("leaves room for what comes behind it", function()
    local records = {}
    for i = 1, 1000 do
      records[i] = { path = "net.b" .. i, mean = i / 7, std = i / 9, min = -i / 3 }
    end
    local text = shown { first = records, second = records, third = { name = "last" } }
    assert.truthy(text:find('third = { name = "last" },', 1, true))
    local _, cuts = text:gsub("%.%.%. %d+ more", "")
    assert.equal(2, cuts)
    assert.is_true(#lines_of(text) <= 60)
  end)

  it("is a string cut with the count of its bytes", function()
    local text = shown(("x"):rep(1e6))
    assert.truthy(text:find '^"x+"%.%.%. %(1,000,000 bytes%)$')
    assert.is_true(#text <= 800)
    local inside = shown { a = ("\n"):rep(1e6) }
    assert.truthy(inside:find '^{\n  a = "[\\n]+"%.%.%. %(1,000,000 bytes%),\n}$')
  end)

  it("is a tree of modules without its deepest lines", function()
    local net = nn.Sequential()
    for i = 1, 30 do net:add("block" .. i, nn.Sequential(nn.ReLU(), nn.Flatten(), nn.ReLU())) end
    local lines = lines_of(shown(net))
    assert.equal(32, #lines)
    assert.equal("  block30: Sequential", lines[31])
    assert.equal("... 90 more lines: print(_) shows all", lines[32])
    assert.equal(121, #lines_of(shown(net, { lines = 200 })))
    assert.equal(20, #lines_of(shown(net, { lines = 20 })))
  end)

  it("is a text cut after some lines", function()
    local many = failing(function() return ("line\n"):rep(5000) .. "last" end)
    local lines = lines_of(shown(many))
    assert.equal(100, #lines)
    assert.equal("... 4,902 more lines: print(_) shows all", lines[100])
    assert.is_true(#shown(failing(function() return ("x"):rep(1e6) end)) < 1000)
  end)

  it("ends somewhere, however deep and shared", function()
    local deep = {}
    local at = deep
    for _ = 1, 10000 do
      at.x = {}
      at = at.x
    end
    assert.equal("{ x = { x = { x = { x = { x = { x = { x = { ... } } } } } } } }", shown(deep))
    local shared = {}
    for _ = 1, 60 do shared = { shared, shared } end
    assert.is_true(#lines_of(shown(shared)) <= 60)
  end)
end)

describe("everything shown", function()
  local function values()
    local records, wide = {}, { ["a key that is longer than the whole line, and more"] = { 1, 2 } }
    for i = 1, 50 do
      records[i] = { i, name = ("n"):rep(i), sub = { deeper = { i, i, i, { i } } } }
    end
    return { records, wide, around, { ("日本"):rep(50) }, _G, package.loaded, cnn, nn }
  end

  for _, width in ipairs { 20, 40, 80, 200 } do
    it(("fits into %d columns"):format(width), function()
      for _, value in ipairs { values()[1], around, { ("日本"):rep(50), { a = 1 / 3 } } } do
        for _, line in ipairs(lines_of(shown(value, { width = width }))) do
          assert.is_true(columns(line) <= math.max(width, 36), line)
        end
      end
    end)
  end

  it("is short, and made at once", function()
    local large, list = {}, {}
    for i = 1, 300000 do large["k" .. i], list[i] = i, { i } end
    for i, value in ipairs { large, list, { large, large, list }, unpack(values()) } do
      local least = math.huge
      for _ = 1, 3 do
        local before = os.clock()
        assert.is_true(#lines_of(shown(value)) <= 64)
        least = math.min(least, os.clock() - before)
      end
      assert.is_true(least < 0.25, ("value %d: %.0f ms"):format(i, least * 1e3))
    end
  end)
end)
