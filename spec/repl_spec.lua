-- The prompt as a filter: input on stdin, values on stdout, errors on stderr, and it lives on.

local program = require "spec.support.program"

local function repl(input, words)
  return program.ok(words or "", { input = input })
end

-- what is typed, and what is printed
local sessions = {
  { "an expression", "1 + 2", "3\n" },
  { "several values", "1, 'a', nil", "1\ta\tnil\n" },
  { "a statement", "x = 7\nx", "7\n" },
  { "a local, in the next line", "local y = 4\ny * 2", "8\n" },
  { "a local function", "local function f(a)\n  return a + 1\nend\nf(1)", "2\n" },
  { "a local that shadows a global", "local print = 3\nprint\nlocal string = 1\n('x'):rep(2)",
    "3\nxx\n" },
  { "a block over several lines", "for i = 1, 2 do\n  print(i)\nend", "1\n2\n" },
  { "a table over several lines", "t = {\n  1,\n  2,\n}\n#t", "2\n" },
  { "an expression over several lines", "1 +\n2", "3\n" },
  { "a long string", "s = [[\na\nb]]\n#s", "3\n" },
  { "an equals sign, as in old Lua", "= 5", "5\n" },
  { "nil", "nil", "nil\n" },
  { "a call without values", "print 'x'", "x\n" },
  { "a tensor", "cnn.ones(2)", "f32[2] cpu\n  1 1\n" },
  { "a shape", "cnn.ones(2, 3):shape()", "2x3\n" },
  { "a layer", "nn.ReLU()", "ReLU()\n" },
  { "a comment", "-- nothing\n1", "1\n" },
  { "an empty line", "\n\n2", "2\n" },
  { "no newline at the end", "3", "3\n" },
}

-- what is typed, and what stderr has to say; the line after it is still run
local failures = {
  { "a runtime error", "nosuch.field", "^stdin:1: .*nosuch" },
  { "a thrown message", "error 'boo'", "^stdin:1: boo\n$" },
  { "a thrown table", "error {}", "table" },
  { "nothing thrown", "error()", "without a message" },
  { "a syntax error", "x = = 3", "^stdin:1: " },
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
