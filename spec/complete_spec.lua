-- What Tab offers. In the rows | is the cursor.

local ffi = require "ffi"
local cnn = require "cnn"
local complete = require "cnn.prompt.complete"
local program = require "spec.support.program"

local nn = cnn.nn

ffi.cdef "int setenv(const char *name, const char *value, int overwrite);"

-- ------------------------------------------------------------------------------- what there is

local Block = nn.module "Block"

function Block:init(channels)
  self.conv1 = nn.Conv2d(channels, channels, 3, { padding = 1 })
  self.bn1 = nn.BatchNorm2d(channels)
  self.scale = nn.Parameter(cnn.ones(1))
  self:buffer("mask", cnn.ones(1))
  self.parts = { first = nn.ReLU(), nn.Flatten() }
end

local net = nn.Sequential()
net:add("stem", nn.Conv2d(1, 4, 3))
net:add("body", nn.Sequential(Block(4), Block(4)))
net:add("both", nn.Sequential():add("one", nn.ReLU()):add(nn.Flatten()))
net:add(nn.Linear(8, 10))

local called = 0 -- functions that Tab has no business with

local function never()
  called = called + 1
  error "called"
end

local environment = setmetatable({
  cnn = cnn, nn = nn, net = net, x = cnn.rand(2, 3), Block = Block,
  opt = cnn.optim.SGD(net:parameters(), { lr = 0.1 }),
  deep = { list = { 1, 2, { here = { there = 1 } } }, text = "t", ["two words"] = 1, ["end"] = 2 },
  shy = setmetatable({ own = 1 }, { __index = never, __call = never, __len = never }),
  heir = setmetatable({ mine = 1 }, { __metatable = "locked", __index = { theirs = never } }),
  write_it = function(_, file) return file end,
}, { __index = never, late = { tomorrow = never } })

-- The line with what Tab puts in, or what it lists.
local function tab(typed, scope)
  local point = typed:find("|", 1, true) - 1
  local line = typed:sub(1, point) .. typed:sub(point + 2)
  local list, start = complete(line, point, scope or environment)
  if #list ~= 1 then return list end
  return line:sub(1, start - 1) .. list[1] .. line:sub(point + 1)
end

local function has(list, ...)
  local there = {}
  for _, text in ipairs(type(list) == "table" and list or { list }) do there[text] = true end
  for _, text in ipairs { ... } do assert.is_true(there[text] or false, text) end
end

local function lacks(list, ...)
  local there = {}
  for _, text in ipairs(type(list) == "table" and list or { list }) do there[text] = true end
  for _, text in ipairs { ... } do assert.is_nil(there[text], text) end
end

-- ---------------------------------------------------------------------------------------- names

-- what is typed, and the line or the list that Tab makes of it
local rows = {
  names = {
    { "Bloc|", "Block" },
    { "y = (Bloc|", "y = (Block" },
    { "Bloc|(4)", "Block(4)" },
    { "collectg|", "collectgarbage" },
    { "whi|", "while" },
    { "tomor|", "tomorrow" },
    { "do\n  local inner = 1\n  print(inn|", "do\n  local inner = 1\n  print(inner" },
    { "for inner = 1, 3 do inn|", "for inner = 1, 3 do inner" },
    { "function area(width)\n  return wid|", "function area(width)\n  return width" },
    { "nosuchname|", {} },
    { "|", {} },
    { "for i = 1, 3 do\n  |", {} },
    { "x = 12|", {} },
    { "x = 0x|", {} },
    { "Block()|", {} },
    { "-- Bloc|", {} },
    { "--[[ Bloc|", {} },
    { "--[[ a ]] Bloc|", "--[[ a ]] Block" },
    { "y = 'Bloc|", {} },
    { "y = [[Bloc|", {} },
  },

  ["fields and methods"] = {
    { "nn.Conv2|", "nn.Conv2d" },
    { "nn . Conv2|", "nn . Conv2d" },
    { "cnn.optim.Adam|", { "Adam", "AdamW" } },
    { "deep.|", { "list", "text" } },
    { "deep.list[3].|", "deep.list[3].here" },
    { "deep['list'][3].here.|", "deep['list'][3].here.there" },
    { "deep.list[|", { "1]", "2]", "3]" } },
    { "deep.list[3|", "deep.list[3]" },
    { "deep.list[|]", { "1", "2", "3" } },
    { "deep['te|", "deep['text'" },
    { "deep.list[4].|", {} },
    { "deep.text:rev|", "deep.text:reverse" },
    { "('x'):rev|", "('x'):reverse" },
    { "io.stdout:see|", "io.stdout:seek" },
    { "x:narr|", "x:narrow" },
    { "x.narr|", "x:narrow" },
    { "x.|", { "device", "dtype", "grad", "requires_grad" } },
    { "x[1]:narr|", "x[1]:narrow" },
    { "x.grad:narr|", "x.grad:narrow" },
    { "x.device:rev|", "x.device:reverse" },
    { "x:relu():narr|", "x:relu():narrow" },
    { "(x:relu()):narr|", "(x:relu()):narrow" },
    { "cnn.rand(3, { dtype = 'f32' }):narr|", "cnn.rand(3, { dtype = 'f32' }):narrow" },
    { "net(x):narr|", "net(x):narrow" },
    { "nn.Linear(3, 4):zero|", "nn.Linear(3, 4):zero_grad" },
    { "nn.Linear(3, 4)(x):narr|", "nn.Linear(3, 4)(x):narrow" },
    { "opt:zero|", "opt:zero_grad" },
    { "opt.momen|", "opt.momentum" },
    { "heir.|", { "mine", "theirs" } },
    { "heir:|", "heir:theirs" },
    { "shy.|", "shy.own" },
    { "shy:|", {} },
    { "nosuch.|", {} },
    { "nosuch[1].x:|", {} },
    { "print(net.sta|", {} },
    { "a = 1 .. nn.Conv2|", "a = 1 .. nn.Conv2d" },
    { "local x = 1\nx:narr|", {} },
    { "map(t, function(x) return x:narr|", {} },
  },

  ["children of a net"] = {
    { "net.st|", "net.stem" },
    { "net.body[1].conv|", "net.body[1].conv1" },
    { "net.body[2].conv1.wei|", "net.body[2].conv1.weight" },
    { "net['body'][2].mas|", "net['body'][2].mask" },
    { "net[2][1].sca|", "net[2][1].scale" },
    { "net.body[1].parts.|", { ".first", "[1]" } },
    { "net.body[1].parts.fir|", "net.body[1].parts.first" },
    { "net.body[|", { "1]", "2]" } },
    { "net[|", "net[4]" },
    { "net:named_mod|", "net:named_modules" },
    { "net.named_mod|", "net:named_modules" },
    { "net.body[1]:zero|", "net.body[1]:zero_grad" },
  },

  ["names of options"] = {
    { "nn.Conv2d(1, 96, 11, { str|", "nn.Conv2d(1, 96, 11, { stride = " },
    { "nn.Conv2d(1, 2, 3, { padding = 1, str|", "nn.Conv2d(1, 2, 3, { padding = 1, stride = " },
    { "nn.Conv2d(1, 2, 3, { stride = 2, str|", "nn.Conv2d(1, 2, 3, { stride = 2, string" },
    { "nn.Conv2d(1, 2, 3, { str|, stride = 2 })", "nn.Conv2d(1, 2, 3, { string, stride = 2 })" },
    { "cnn.train(recipe, { ep|", "cnn.train(recipe, { epochs = " },
    { 'net:maps(x, "stem", { sca|', 'net:maps(x, "stem", { scale = ' },
    { "cnn.train { net = net, train = { epo|", "cnn.train { net = net, train = { epochs = " },
    { "cnn.train { train = { lr = 1, |", { "batch = ", "epochs = ", "optimizer = " } },
    { "cnn.train { inp|", "cnn.train { input = " },
    { "cnn.rand(2, 3, { dev|", "cnn.rand(2, 3, { device = " },
    { "nn.AvgPool2d(2, {\n  padding = 1,\n  str|",
      "nn.AvgPool2d(2, {\n  padding = 1,\n  stride = " },
    { "x = { str|", "x = { string" },
    { "nn.Conv2d(1, 2, 3, { stride = str|", "nn.Conv2d(1, 2, 3, { stride = string" },
  },

  ["layers in a string"] = {
    { 'net:maps(x, "st|', 'net:maps(x, "stem"' },
    { 'net:maps(x, "bod|', 'net:maps(x, "body' },
    { 'net:maps(x, "body.|', { "1", "2" } },
    { 'net:maps(x, "body.2.bn|', 'net:maps(x, "body.2.bn1"' },
    { "net:maps(x, 'body[2].bn|", "net:maps(x, 'body[2].bn1'" },
    { 'net:get "net.body[|', { "1]", "2]" } },
    { 'net:get "both.|', { "2", "one" } },
    { 'net:filters "ste|', 'net:filters "stem"' },
    { 'net:tap("body.1.con|", print)', 'net:tap("body.1.conv1", print)' },
    { 'net.body:get "1.con|', 'net.body:get "1.conv1"' },
    { 'net:find "bo|', { "body", "both" } },
    { 'net:gradcam(x, { layer = "st|', 'net:gradcam(x, { layer = "stem"' },
    { 'net:to "st|', {} },
  },

  ["help topics"] = {
    { "?nn.Conv2|", "?nn.Conv2d" },
    { "? nn.Conv2|", "? nn.Conv2d" },
    { "?Conv2|", "?Conv2d" },
    { "?x.narr|", "?x.narrow" },
    { "?x:narr|", "?x:narrow" },
    { "?net.zero|", "?net.zero_grad" },
    { "?net.body[1].zero|", "?net.body[1].zero_grad" },
    { "?deep.te|", "?deep.text" },
    { "?nosuch.na|", {} },
  },
}

for what, list in pairs(rows) do
  describe("Tab knows " .. what .. ":", function()
    for _, row in ipairs(list) do
      it(row[1]:gsub("\n", "\\n"), function() assert.same(row[2], tab(row[1])) end)
    end
  end)
end

describe("Tab knows", function()
  it("what is there and what is not to be shown", function()
    has(tab "net.|", ".stem", ".body", ".training", "[4]")
    lacks(tab "net.|", "[1]", "[2]", ".forward", ".library")
    has(tab "net.body.|", "[1]", "[2]")
    has(tab "x:|", "relu", "backward", "totable")
    lacks(tab "x:|", "dtype", "grad")
    has(tab "net:|", "parameters", "forward", "shapes")
    lacks(tab "net:|", "training", "__call", "stem")
    has(tab "nn.Conv2d(1, 96, 11, { |", "stride = ", "padding = ")
    lacks(tab "net:shapes { |", "depth = ")
    has(tab "cnn.|", "rand", "train", "data", "image")
    lacks(tab "_|", "Block")
  end)

  it("values that an option has in its help", function()
    has(tab 'net:maps(x, "stem", { scale = "|', "map", "all")
  end)

  it("modules for require", function()
    assert.equal('require "models.densenet"', tab 'require "models.dense|')
    assert.equal('require "cnn.optimizer"', tab 'require "cnn.optimize|')
  end)

  it("the globals where no environment is given", function()
    assert.equal("collectgarbage", complete("collectg", 8)[1])
  end)
end)

-- ---------------------------------------------------------------------------------------- files

describe("Tab knows file names:", function()
  local home = os.getenv "HOME"
  local folder

  setup(function()
    folder = program.directory()
    program.shell(("mkdir '%s/sub' '%s/many'"):format(folder, folder))
    for _, name in ipairs {
      "net.lua", "it's.txt", 'a "b".png', "two words.png", ".hidden", "sub/deep.lua",
    } do
      program.file(name, "")
    end
    program.shell(("ln -s sub '%s/link'"):format(folder))
    for i = 1, 600 do program.file("many/f" .. i, "") end
    ffi.C.setenv("HOME", folder, 1)
  end)

  teardown(function()
    if home then ffi.C.setenv("HOME", home, 1) end
    program.sweep()
  end)

  -- "@" stands for the directory
  local files = {
    { 'net:load "@/ne|', 'net:load "@/net.lua"' },
    { 'net:load("@/ne|")', 'net:load("@/net.lua")' },
    { "net:save '@/ne|", "net:save '@/net.lua'" },
    { "net:load [[@/ne|", "net:load [[@/net.lua]]" },
    { 'cnn.image.read "@/two|', 'cnn.image.read "@/two words.png"' },
    { "dofile '@/it|", "dofile '@/it\\'s.txt'" },
    { 'io.open("@/it|', [[io.open("@/it's.txt"]] },
    { 'dofile "@/a|', [[dofile "@/a \"b\".png"]] },
    { 'dofile "@/a \\"|', [[dofile "@/a \"b\".png"]] },
    { 'dofile "@/su|', 'dofile "@/sub/' },
    { 'dofile "@/lin|', 'dofile "@/link/' },
    { 'dofile "@/sub/|', 'dofile "@/sub/deep.lua"' },
    { 'dofile "@/|',
      { 'a \\"b\\".png', "it's.txt", "link/", "many/", "net.lua", "sub/", "two words.png" } },
    { 'dofile "@/.h|', 'dofile "@/.hidden"' },
    { 'dofile "@/nosuch/|', {} },
    { 'os.rename("@/net.lua", "@/tw|', 'os.rename("@/net.lua", "@/two words.png"' },
    { 'write_it(1, "@/ne|', 'write_it(1, "@/net.lua"' },
    { 'anything("@/ne|', 'anything("@/net.lua"' },
    { 'cnn.plot("@/su|', 'cnn.plot("@/sub/' },
    { 'name = "@/ne|', 'name = "@/net.lua"' },
    { 'dofile "~/ne|', 'dofile "@/net.lua"' },
    { 'dofile "@/net.lua|', 'dofile "@/net.lua"' },
    { 'dofile "@/two\\|', {} },
    { 'cnn.data.fashion_mnist { dir = "@/su|', 'cnn.data.fashion_mnist { dir = "@/sub/' },
  }

  for _, row in ipairs(files) do
    it(row[1], function()
      local function here(text) return (text:gsub("@", (folder:gsub("%%", "%%%%")))) end
      local expected = row[2]
      if type(expected) == "string" then expected = here(expected) end
      assert.same(expected, tab(here(row[1])))
    end)
  end

  it("those beside the program, in arguments that are files", function()
    assert.equal('dofile "models/densenet.lua"', tab 'dofile "models/dense|')
    assert.equal('cnn.reload(net, "models/densenet.lua"', tab 'cnn.reload(net, "models/dense|')
    assert.equal('net:load "README.md"', tab 'net:load "READ|')
    assert.same({}, tab 'print "READ|')
  end)

  it("some of very many, none of them wrong", function()
    local list = tab(('dofile "%s/many/f|'):format(folder))
    assert.is_true(#list >= 400 and #list <= 600)
    has(list, "f1", "f99")
  end)
end)

-- ------------------------------------------------------------------------------------- odd things

describe("Tab never", function()
  it("calls anything", function()
    called = 0
    for _, line in ipairs {
      "shy.a.|", "shy:|", "shy[1].|", "tomorrow.|", "tomorrow:x|", "missing.|", "heir.theirs.|",
      "heir.theirs().|", "heir:theirs():|", "shy().|", "#shy.|", "?shy.|", "?tomorrow.|", "tom|",
      "shy['|", "shy[|", 'shy "|', "shy { |", "net:tap('stem', shy).|",
    } do
      tab(line)
    end
    assert.equal(0, called)
  end)

  it("fails on tables that go around, or are large", function()
    local around = { one = 1 }
    setmetatable(around, { __index = around })
    local first, second = { a = 1 }, { b = 2 }
    setmetatable(first, { __index = second })
    setmetatable(second, { __index = first })
    local large, list = {}, {}
    for i = 1, 100000 do large["key" .. i], list[i] = i, i end
    large.other = 1
    local odd = { [1.5] = 1, [true] = 2, [{}] = 3, ["0x"] = 4, ["a\0b"] = 5, ["for"] = 6, fine = 7 }
    local scope = { around = around, first = first, large = large, list = list, odd = odd }
    assert.equal("around.one", tab("around.|", scope))
    assert.same({ "a", "b" }, tab("first.|", scope))
    assert.equal("odd.fine", tab("odd.|", scope))
    assert.equal("large.other", tab("large.o|", scope))
    assert.equal("large.key77777", tab("large.key77777|", scope))
    local some = tab("large.k|", scope)
    assert.is_true(#some <= 502)
    assert.equal("key1", some[1])
    assert.equal("key99999", some[#some])
    assert.same({}, tab("list.|", scope))
  end)

  it("fails on any text", function()
    local words = {
      "net", "x", ".", " ", ":", "[", "]", "(", ")", "{", "}", "'", '"', "1", "--", "[[", "]]",
      "function", "local", "end", "=", ",", "\n", "?", "\\", "/", "nn.Conv2d", "\0", "\255",
    }
    math.randomseed(4)
    for _ = 1, 2000 do
      local parts = {}
      for i = 1, math.random(12) do parts[i] = words[math.random(#words)] end
      local line = table.concat(parts)
      local point = math.random(0, #line)
      local list, start = complete(line, point, environment)
      for i, text in ipairs(list) do
        assert.equal("string", type(text))
        assert.is_true(start >= 1 and start <= point + 1, line)
        if i > 1 then assert.is_true(text ~= list[i - 1], line) end
      end
    end
  end)

  it("takes long, however much was typed", function()
    local pasted = ("local function f() return { 1, 2, 'x' } end -- c\n"):rep(20000)
    local lines = {
      "ne|", "net.body[1].|", "net:|", "nn.Conv2d(1, 2, 3, { str|", "?na|", 'net:maps(x, "|',
      pasted .. "ne|", "x = " .. ("("):rep(20000) .. "ne|", "net" .. (".net"):rep(5000) .. ".|",
      "net" .. ("()"):rep(5000) .. ":|",
    }
    for _, line in ipairs(lines) do
      local least = math.huge
      for _ = 1, 5 do
        local before = os.clock()
        tab(line)
        least = math.min(least, os.clock() - before)
      end
      assert.is_true(least < 0.02, ("%.0f ms: %s"):format(least * 1e3, line:sub(-60)))
    end
  end)
end)
