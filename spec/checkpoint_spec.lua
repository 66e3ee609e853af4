-- Safetensors: what is written is read by others' rules, what is broken changes nothing.

local cjson = require "cjson"
local cnn = require "cnn"
local nn = cnn.nn
local checkpoint = require "cnn.checkpoint"
local errors = require "spec.support.errors"
local program = require "spec.support.program"

local expect = errors.expect

-- A number in 8 bytes, the lowest first.
local function little_endian(n)
  local bytes = {}
  for i = 1, 8 do
    bytes[i] = string.char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(bytes)
end

local function build(header, data)
  local text = type(header) == "string" and header or cjson.encode(header)
  return little_endian(#text) .. text .. data
end

local function entry(dtype, shape, first, last)
  return { dtype = dtype, shape = shape, data_offsets = { first, last } }
end

local function new_net()
  return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
end

local function weights_of(net)
  local list = {}
  for name, p in net:named_parameters() do list[name] = p:detach():totable() end
  return list
end

local names = { "1.weight", "1.bias", "2.weight", "2.bias" }
local bytes = { 24, 12, 12, 4 }
local shapes = { { 3, 2 }, { 3 }, { 1, 3 }, { 1 } }

-- The header of a right file for new_net.
local function right_header()
  local header, at = {}, 0
  for i, name in ipairs(names) do
    header[name] = entry("F32", shapes[i], at, at + bytes[i])
    at = at + bytes[i]
  end
  return header
end

local values = ("\0\0\128\63"):rep(13) -- 13 times 1.0

describe("a safetensors file", function()
  teardown(program.sweep)

  it("is eight bytes of length, a JSON header and the values", function()
    local file = program.file "net.safetensors"
    local net = new_net()
    net:save(file)
    local text = program.read(file)
    local length = 0
    for i = 8, 1, -1 do length = length * 256 + text:byte(i) end
    assert.equal(0, length % 8)
    local header = cjson.decode(text:sub(9, 8 + length))
    header.__metadata__ = nil
    assert.same(right_header(), header)
    assert.equal(8 + length + 52, #text)
    local first = require("ffi").cast("const float *", text:sub(9 + length))
    assert.equal(net[1].weight:totable()[1][1], first[0])
  end)

  it("has convolutions in PyTorch's order, whatever the memory's", function()
    local conv = nn.Conv2d(2, 3, 2, { bias = false })
    local file = program.file "conv.safetensors"
    conv:save(file)
    local text = program.read(file)
    local numbers = require("ffi").cast("const float *", text:sub(-4 * 24))
    local i = 0
    for o = 1, 3 do
      for c = 1, 2 do
        for y = 1, 2 do
          for x = 1, 2 do
            assert.equal(conv.weight:totable()[o][c][y][x], numbers[i])
            i = i + 1
          end
        end
      end
    end
  end)

  it("made by others is read, also in other dtypes", function()
    local net = new_net()
    net:load(program.file("right", build(right_header(), values)))
    assert.same({ { 1, 1 }, { 1, 1 }, { 1, 1 } }, net[1].weight:totable())
    local header = right_header()
    header["1.weight"] = entry("BF16", { 3, 2 }, 28, 40)
    for i, range in ipairs { { 0, 12 }, { 12, 24 }, { 24, 28 } } do
      header[names[i + 1]] = entry("F32", shapes[i + 1], range[1], range[2])
    end
    header.__metadata__ = { format = "pt" }
    net:load(program.file("bf16", build(header, values:sub(1, 28) .. ("\0\64"):rep(6))))
    assert.same({ { 2, 2 }, { 2, 2 }, { 2, 2 } }, net[1].weight:totable())
  end)

  it("gives an account of what matched, was missing, unexpected or of another shape", function()
    local header = right_header()
    header["2.bias"] = nil
    header["1.bias"] = entry("F32", { 1, 3 }, 24, 36)
    header["3.weight"] = entry("F32", { 1 }, 48, 52)
    local file = program.file("account", build(header, values))
    local net = new_net()
    local before = weights_of(net)
    expect({ "2 of 4 tensors matched", "missing: 2.bias", "unexpected: 3.weight",
      "other shape: 1.bias %(file .*1x3, net .*3%)" }, net.load, net, file)
    assert.same(before, weights_of(net))
    local account = net:load(file, { strict = false })
    assert.equal(2, account.matched)
    assert.same({ { 1, 1 }, { 1, 1 }, { 1, 1 } }, net[1].weight:totable())
    assert.same(before["2.bias"], weights_of(net)["2.bias"])
  end)

  it("of another dtype is told so", function()
    local header = right_header()
    header["2.bias"] = entry("I32", { 1 }, 48, 52)
    local file = program.file("dtype", build(header, values))
    local net = new_net()
    local message = expect({ "3 of 4 tensors matched",
      "other dtype: 2.bias %(file I32, net F32%)" }, net.load, net, file)
    assert.is_nil(message:find "other shape")
    assert.same({ "2.bias (file I32, net F32)" }, net:load(file, { strict = false }).other_dtype)
  end)

  it("of PyTorch's may count batches", function()
    local header = right_header()
    header["1.num_batches_tracked"] = entry("I64", {}, 52, 60)
    local net = new_net()
    local file = program.file("tracked", build(header, values .. ("\0"):rep(8)))
    assert.equal("4 of 4 tensors matched", tostring(net:load(file)))
    header["1.num_batches"] = entry("I64", {}, 60, 68)
    file = program.file("tracked", build(header, values .. ("\0"):rep(16)))
    expect("unexpected: 1.num_batches$", net.load, net, file)
  end)

  it("has strings as metadata, or is not written", function()
    local file = program.file "metadata"
    local net = new_net()
    for _, case in ipairs {
      { { epoch = 3 }, "metadata: epoch: expected a string, got 3" }, { { "x" }, "got 1" },
      { "x", "got the string 'x'" }, { { a = {} }, "got a table" },
    } do
      expect(case[2], net.save, net, file, case[1])
      assert.is_false(program.exists(file))
    end
    net:save(file, { epoch = "3" })
    assert.same({ epoch = "3" }, checkpoint.open(file).metadata)
    net:load(file)
  end)

  it("has each name once", function()
    local net = nn.Linear(1, 1)
    net["1"], net[1] = nn.Parameter(cnn.ones(1)), nn.Parameter(cnn.ones(1))
    expect("two tensors would have the name '1'", net.save, net, program.file "twice")
  end)

  it("is read into a new tensor where none is given", function()
    local saved = checkpoint.open(program.file("new", build(right_header(), values)))
    local x = checkpoint.read(saved, "2.weight")
    assert.same({ { 1, 1, 1 } }, x:totable())
  end)

  it("is replaced as a whole or not at all", function()
    local file = program.file "kept.safetensors"
    new_net():save(file)
    local before = program.read(file)
    local status = program.shell(("ls %s.* %s/*tmp* %s/.*tmp*"):format(program.quote(file),
      program.quote(program.directory()), program.quote(program.directory())))
    assert.is_true(status ~= 0, "a temporary file was left")
    local net = nn.Linear(2, 2)
    expect("cannot", net.save, net, program.directory() .. "/no/such/dir.st")
    assert.equal(before, program.read(file))
  end)
end)

-- What is wrong with the file, its text, and what the line has to say.
local function changed(change)
  local header = right_header()
  change(header)
  return build(header, values)
end

local broken = {
  { "an empty file", "", "fewer than 8 bytes" },
  { "a file of seven bytes", "1234567", "fewer than 8 bytes" },
  { "a header longer than the file", little_endian(1000) .. "{}", "1000 bytes.*shorter" },
  { "a huge header", little_endian(2 ^ 40) .. "{}", "100 MB" },
  { "the largest header length", ("\255"):rep(8) .. "{}", "header" },
  { "a header that is not JSON", build("{'a':1}", values), "not JSON" },
  { "a header that is a list", build("[1,2]", values), "object" },
  { "a header that is a number", build("17", values), "object" },
  { "values cut off", build(right_header(), values:sub(1, 50)), "truncated" },
  { "bytes behind the values", build(right_header(), values .. "x"), "1 bytes" },
  { "overlapping values",
    changed(function(h) h["1.bias"] = entry("F32", { 3 }, 20, 32) end), "overlap" },
  { "a hole", changed(function(h) h["1.bias"] = nil end), "hole" },
  { "offsets out of range",
    changed(function(h) h["2.bias"] = entry("F32", { 1 }, 400, 404) end), "404" },
  { "offsets in the wrong order",
    changed(function(h) h["2.bias"] = entry("F32", { 1 }, 52, 48) end), "2.bias" },
  { "negative offsets",
    changed(function(h) h["2.bias"] = entry("F32", { 1 }, -4, 0) end), "offsets" },
  { "offsets that are texts",
    changed(function(h) h["2.bias"] = entry("F32", { 1 }, "48", "52") end), "offsets" },
  { "no offsets",
    changed(function(h) h["2.bias"] = { dtype = "F32", shape = { 1 } } end), "offsets" },
  { "a shape that does not fit the bytes",
    changed(function(h) h["2.bias"] = entry("F32", { 2 }, 48, 52) end), "4 bytes.*8" },
  { "a shape of fractions",
    changed(function(h) h["2.bias"] = entry("F32", { 0.5 }, 48, 52) end), "shape" },
  { "a shape that overflows",
    changed(function(h) h["2.bias"] = entry("F32", { 2 ^ 52, 2 ^ 52 }, 48, 52) end), "2.bias" },
  { "an unknown dtype",
    changed(function(h) h["2.bias"] = entry("Q4", { 1 }, 48, 52) end), "dtype Q4" },
  { "an entry that is a number", changed(function(h) h["2.bias"] = 7 end), "2.bias" },
  { "a name that comes twice", (function()
    local text = cjson.encode(right_header())
    return build('{"2.b\\u0069as" : 1,' .. text:sub(2), values)
  end)(), "2.bias' twice" },
  { "an offset that comes twice", (function()
    local text = cjson.encode(right_header()):gsub('"dtype"', '"shape":[1],"dtype"', 1)
    return build(text, values)
  end)(), "shape' twice" },
  { "metadata that is not texts",
    changed(function(h) h.__metadata__ = { a = 1 } end), "__metadata__" },
}

describe("a broken safetensors file is refused, and changes nothing:", function()
  teardown(program.sweep)

  for i, case in ipairs(broken) do
    local what, text, pattern = unpack(case)
    it(what, function()
      local net = new_net()
      local before = weights_of(net)
      local file = program.file("broken" .. i, text)
      expect({ "broken" .. i, pattern }, net.load, net, file)
      assert.same(before, weights_of(net))
    end)
  end

  it("a file that is not there", function()
    expect("cannot open", checkpoint.open, program.directory() .. "/nowhere.safetensors")
  end)

  it("a directory", function()
    expect("", checkpoint.open, program.directory())
  end)

  it("of a dtype that tensors do not have, when it is wanted", function()
    local header = { weight = entry("F64", { 1, 1 }, 0, 8), bias = entry("F32", { 1 }, 8, 12) }
    local net = nn.Linear(1, 1)
    local file = program.file("f64", build(header, ("\0"):rep(12)))
    expect("F64", net.load, net, file)
  end)
end)
