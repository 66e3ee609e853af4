-- The prompt as a filter: input on stdin, values on stdout, errors on stderr, and it lives on.

local program = require "spec.support.program"

local function repl(input, words)
  return program.ok(words or "", { input = input })
end

-- what is typed, and what is printed
local sessions = {
  { "an expression", "1 + 2", "3\n" },
  { "a value, whatever has become of print", "_G.print = nil\n7", "7\n" },
  { "several values, on lines of their own", "1, 'a', nil", '1\n"a"\nnil\n' },
  { "a statement", "x = 7\nx", "7\n" },
  { "a local, in the next line", "local y = 4\ny * 2", "8\n" },
  { "a local function", "local function f(a)\n  return a + 1\nend\nf(1)", "2\n" },
  { "a local that shadows a global", "local print = 3\nprint\nlocal string = 1\n('x'):rep(2)",
    '3\n"xx"\n' },
  { "a block over several lines", "for i = 1, 2 do\n  print(i)\nend", "1\n2\n" },
  { "a table over several lines", "t = {\n  1,\n  2,\n}\n#t", "2\n" },
  { "an expression over several lines", "1 +\n2", "3\n" },
  { "a long string", "s = [[\na\nb]]\n#s", "3\n" },
  { "an equals sign, as in old Lua", "= 5", "5\n" },
  { "return, as in a file", "return 5, 6", "5\n6\n" },
  { "nil", "nil", "nil\n" },
  { "a call without values", "print 'x'", "x\n" },
  { "a tensor", "cnn.ones(2)", "f32[2] cpu\n  1 1\n" },
  { "a shape", "cnn.ones(2, 3):shape()", "2x3\n" },
  { "a layer", "nn.ReLU()", "ReLU()\n" },
  { "a comment", "-- nothing\n1", "1\n" },
  { "an empty line", "\n\n2", "2\n" },
  { "no newline at the end", "3", "3\n" },
  { "the last values by name", "10\n20\n30\n_ + _2\n_1\n_", "10\n20\n30\n40\n30\n40\n" },
  { "a look back, which is no new value", "10\n20\n30\n_, _1\n_2\n_",
    "10\n20\n30\n30\n20\n10\n30\n" },
  { "no nil among the last values", "10\nnil\n_", "10\nnil\n10\n" },
  { "nested tables, sorted", "{ b = { 1, { x = true } }, a = 'q', 5 }",
    '{ 5, a = "q", b = { 1, { x = true } } }\n' },
  { "a table inside of itself", "t = { 1 }\nt.me = t\nt", "{ 1, me = <_> }\n" },
  { "what prints itself once, and again when it is asked for",
    "t = nn.Sequential(nn.ReLU())\nt:find 'ReLU'\nt:find('ReLU', { quiet = true })",
    ("path | layer  | parameters\n[1]  | ReLU() |\n"):rep(2) },
}

-- what is typed, and what stderr has to say; the line after it is still run
local failures = {
  { "a runtime error", "nosuch.field", "^stdin:1: .*nosuch" },
  { "a thrown message", "error 'boo'", "^stdin:1: boo\n$" },
  { "a thrown table", "error { code = 3 }", "a table was thrown: { code = 3 }" },
  { "a thrown object without a text", "error(setmetatable({}, { __tostring = error }))", "thrown" },
  { "a thrown text with commands for the terminal", "error '\27[2J\157'", "\\027%[2J\\157\n$" },
  { "nothing thrown", "error()", "without a message" },
  { "a shape error", "cnn.ones(2) + cnn.ones(3)", "^stdin:1: add: expected shapes that broadcast" },
  { "an error in a net", "nn.Linear(3, 4)(cnn.ones(1, 5))",
    "^stdin:1: Linear%(3, 4%): expected 3 features, got 5" },
  { "an error in a function", "local function f() error 'deep' end\nf()", "^stdin:1: deep" },
  { "too deep a recursion", "local function f() return 1 + f() end\nf()", "stack overflow" },
  { "a missing field of a tensor", "cnn.ones(2).shap", "did you mean 'shape'" },
}

describe("the prompt prints", function()
  teardown(program.sweep)

  for _, row in ipairs(sessions) do
    local what, input, output = unpack(row)
    it(what, function()
      local r = repl(input)
      assert.equal("", r.err)
      assert.equal(output, r.out)
    end)
  end
end)

describe("the prompt survives", function()
  teardown(program.sweep)

  for _, row in ipairs(failures) do
    local what, input, pattern = unpack(row)
    it(what, function()
      local r = repl(input .. "\n40 + 2\n")
      assert.equal("42\n", r.out)
      assert.truthy(r.err:find(pattern), r.err)
      assert.is_nil(r.err:find("traceback", 1, true))
      assert.truthy(r.err:find "^[^\n]+\n$", r.err)
    end)
  end

  for what, row in pairs {
    ["a syntax error, with a caret below"] = { "x = = 3", "near '='\n  x = = 3\n      ^\n" },
    ["one in a later line"] = { "if x then\n  y = {1, 2] end",
      "\n    y = {1, 2] end\n             ^\n" },
    ["one at the end of a long line"] = { "s = '" .. ("a"):rep(300) .. "' + * 2",
      "aaa' + * 2\n" .. (" "):rep(2 + 76 - 3) .. "^\n" },
    ["a string without its end"] = { "s = 'abc", "\n  s = 'abc\n      ^\n" },
  } do
    it(what, function()
      local r = repl(row[1] .. "\n40 + 2\n")
      assert.equal("42\n", r.out)
      assert.truthy(r.err:find(row[2], 1, true), r.err)
      assert.truthy(r.err:find "^stdin:%d+: [^\n]+\n[^\n]+\n *%^\n$", r.err)
    end)
  end

  it("megabytes of input, in lines and in one", function()
    local lines = { "t = {" }
    for i = 1, 100000 do lines[i + 1] = ("  %d, 'some text',"):format(i) end
    lines[#lines + 1] = "}\n#t"
    local r = repl(table.concat(lines, "\n") .. "\n#'" .. ("a"):rep(2e6) .. "'")
    assert.equal("200000\n2000000\n", r.out)
  end)

  it("a mistake at the end of a very long line", function()
    local r = repl("t = {" .. ("1,"):rep(100000) .. "= }\n40 + 2")
    assert.equal("42\n", r.out)
    assert.truthy(r.err:find "1,1,= }\n *%^\n$")
  end)

  it("an input that ends in the middle", function()
    local r = program.run("", { input = "for i = 1, 2 do\n" })
    assert.truthy(r.err:find "ends in the middle")
  end)
end)

describe("the prompt of a script", function()
  teardown(program.sweep)

  it("has net, recipe and data", function()
    local r = repl("#net\nrecipe.train.batch\ndata.test:count()\nnet[2].gamma:shape()",
      "-i models/bn_lenet_scratch.lua")
    assert.equal("16\n256\n10000\n1x6x1x1\n", r.out)
  end)

  it("takes the options of train", function()
    local r = repl("net[1][1].weight:shape()\n"
      .. "for x in data.train:batches() do y = x:shape() end\ny",
      "-i models/vgg.lua --set ratio=8 --limit 3 --batch 3 --resize 64")
    assert.equal("8x1x3x3\n3x1x64x64\n", r.out)
  end)

  it("has the recipe with the options put in", function()
    local r = repl("recipe.train.lr\nrecipe.train.epochs\nrecipe.input[2]\nrecipe.net == net",
      "-i models/bn_lenet.lua --lr 0.25 --epochs 7 --resize 32")
    assert.equal("0.25\n7\n32\ntrue\n", r.out)
  end)

  it("opens where a script fails, with the locals by name", function()
    local script = program.file("bad.lua", "local function f(a)\n  local b = a * 2\n"
      .. "  local a = 'inner'\n  return nosuch[b]\nend\nlocal outer = 7\nprint(f(4))\n")
    local r = program.run("-i " .. script, { input = "a, b, outer\ncnn.version ~= nil\n" })
    assert.equal(1, r.status)
    assert.truthy(r.err:find("bad.lua:4: [^\n]*nosuch[^\n]*\n$"), r.err)
    assert.truthy(r.out:find("stopped in f, at [^\n]*bad.lua:4; here are b, a\n"), r.out)
    assert.truthy(r.out:find '"inner"\n8\n7\ntrue\n$', r.out)
  end)

  it("opens after a net fails deep in the library's calls", function()
    local script = program.file("deep.lua", "local cnn = require 'cnn'\nlocal nn = cnn.nn\n"
      .. "local B = nn.module 'B'\nfunction B:forward(x)\n  local y = x:view(2, 3)\n"
      .. "  return y + cnn.ones(7)\nend\nlocal net = nn.Sequential(nn.ReLU(), B())\n"
      .. "cnn.step(function()\n  return cnn.no_grad(function() return net(cnn.ones(6)) end)\n"
      .. "end)\n")
    local r = program.run("-i " .. script, { input = "y:shape()\n#net\n" })
    assert.truthy(r.err:find("deep.lua:6: net%[2%] B%(%): add: "), r.err)
    assert.truthy(r.out:find "stopped in forward, at [^\n]*; here are self, x, y\n2x3\n2\n$", r.out)
  end)

  it("opens after a syntax error, with a caret", function()
    local r = program.run("-i " .. program.file("wrong.lua", "return {\n  net = = 3,\n}\n"),
      { input = "1 + 1\n" })
    assert.equal(1, r.status)
    assert.equal("2\n", r.out)
    assert.truthy(r.err:find("wrong.lua:2: [^\n]*\n    net = = 3,\n          ^\n", 1, true)
      or r.err:find("wrong%.lua:2: [^\n]*\n    net = = 3,\n          %^\n"), r.err)
  end)

  it("shows the line of a syntax error in a module that it requires", function()
    program.file("wrongly.lua", "local t = = 7\n")
    local r = program.run("-i " .. program.file("requires.lua", ("package.path = %q\n"
      .. "local here = 5\nrequire 'wrongly'\n"):format(program.directory() .. "/?.lua")),
      { input = "here\n" })
    assert.truthy(r.err:find("wrongly%.lua:1: [^\n]*\n  local t = = 7\n            %^\n"), r.err)
    assert.truthy(r.out:find "\n5\n$", r.out)
  end)

  it("opens whatever the script throws, and whatever it made of _G", function()
    for script, message in pairs {
      ["error(setmetatable({}, { __eq = error, __tostring = error }))"] = "was thrown",
      ["error()"] = "an error without a message",
      ["local function f() return 1 + f() end\nf()"] = "throws%.lua:1: stack overflow",
      ["\1\2\155"] = "throws%.lua:1: ",
      ["setmetatable(_G, { __index = error })\nerror 'strict'"] = "throws%.lua:2: strict",
    } do
      local r = program.run("-i " .. program.file("throws.lua", script), { input = "40 + 2\nexit" })
      assert.equal(1, r.status)
      assert.truthy(r.err:find("^[^\n]*" .. message .. "[^\n]*\n"), r.err)
      assert.is_nil(r.err:find "[\1\2\155]")
      assert.truthy(r.out:find "42\n$", r.out .. r.err)
    end
  end)

  it("does not open for a file that is not there, or words that are wrong", function()
    program.refuses("-i nosuch.lua", 1, "nosuch")
    program.refuses("-i models/bn_lenet.lua --nosuch 3", 2, "nosuch")
  end)

  it("answers Ctrl-C with a prompt, not with its end", function()
    -- 3 is the pipe: what a shell runs in the background gets /dev/null for its stdin
    local command = ("(printf '%%s\\n' 'print \"ready\"' "
      .. "'while true do cnn.ones(9):sum():item() end' '6 * 7') | "
      .. "(exec 3<&0; %s <&3 >%s 2>%s & pid=$!; until grep -q ready %s; do sleep 0.05; "
      .. "done; sleep 0.2; kill -INT $pid; wait $pid)")
      :format(program.guarded, program.file "out", program.file "err", program.file "out")
    local status = program.shell(command)
    assert.equal(0, status)
    assert.equal("ready\n42\n", program.read(program.file "out"))
    assert.equal("interrupted\n", program.read(program.file "err"))
  end)
end)
