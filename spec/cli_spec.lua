-- The command line through the real program: what each command prints, and what every wrong
-- option, value, script, file and picture is answered with.

local cjson = require "cjson"
local cnn = require "cnn"
local program = require "spec.support.program"

local nn = cnn.nn
local quote, file = program.quote, program.file

-- A recipe of which a part is replaced; written to a script of its own.
local function recipe(name, changes)
  local parts = {
    name = '"' .. name .. '"', input = "{ 1, 28, 28 }",
    train = "{ batch = 32, lr = 0.1, epochs = 1 }",
    net = "nn.Sequential(nn.Flatten(), nn.Linear(784, 10))",
  }
  for key, value in pairs(changes or {}) do parts[key] = value or nil end
  local lines = {}
  for key, value in pairs(parts) do
    if value then lines[#lines + 1] = ("  %s = %s,\n"):format(key, value) end
  end
  return quote(file(name .. ".lua", 'local cnn = require "cnn"\nlocal nn = cnn.nn\nreturn {\n'
    .. table.concat(lines) .. "}\n"))
end

describe("cnnlua", function()
  teardown(program.sweep)

  it("tells its version and its commands", function()
    assert.truthy(program.ok("--version").out:find(cnn.version, 1, true))
    local help = program.ok("--help").out
    for _, command in ipairs { "train", "shapes", "eval", "predict", "bench", "check", "doctor" } do
      assert.truthy(help:find("cnnlua " .. command, 1, true), command)
    end
    local train = program.ok("train --help").out
    for _, option in ipairs { "epochs", "batch", "lr", "resize", "seed", "device", "threads",
      "precision", "limit", "data", "out", "resume", "set", "quiet", "json" } do
      assert.truthy(train:find("--" .. option, 1, true), option)
    end
  end)

  it("runs Lua as luajit does", function()
    assert.equal("3\n", program.ok("-e 'print(1 + 2)'").out)
    assert.equal("4\n", program.ok("-e 'x = 3' -e 'print(x + 1)'").out)
    assert.equal("a b\n", program.ok("- a b", { input = 'print((...), select(2, ...))\n' })
      .out:gsub("\t", " "))
    local script = quote(file("plain.lua", 'print(arg[0]:match "[^/]+$", arg[1], arg[2], ...)'))
    assert.equal("plain.lua --lr x --lr x\n", (program.ok(script .. " --lr x").out:gsub("\t", " ")))
    assert.equal("f32[2] cpu\n  1 1\n", program.ok("-l cnn -e 'print(cnn.ones(2))'").out)
    assert.equal(3, program.run("-e 'os.exit(3)'").status)
    local table_script = quote(file("table.lua", "print 'ran'\nreturn { 1, 2, 3 }"))
    assert.equal("ran\n", program.ok(table_script).out)
  end)

  it("reads a script's words as options only when it returns a recipe", function()
    local script = quote(file("words.lua", "print(...)"))
    for _, words in ipairs { "--help", "-h", "--set foo", "--threads 999999999", "--epochs 0" } do
      local no_argparse = { env = "LUA_PATH=/nowhere/?.lua" }
      assert.equal(words .. "\n", (program.ok(script .. " " .. words).out:gsub("\t", " ")))
      assert.equal(words .. "\n",
        (program.ok(script .. " " .. words, no_argparse).out:gsub("\t", " ")))
    end
    assert.equal(program.ok("train --help").out, program.ok("models/bn_lenet.lua --help").out)
    assert.equal("--help\n3\n", program.ok("-i " .. script .. " --help", { input = "1 + 2" }).out)
  end)

  it("does not load the engine for a script that does not ask for it", function()
    local script = quote(file("bare.lua", 'print(package.loaded["cnn.ffi"])'))
    assert.equal("nil\n", program.ok(script .. " a b").out)
  end)

  it("says what to install where the option parser is missing", function()
    for _, words in ipairs { "shapes models/vgg.lua", "models/vgg.lua --epochs 3" } do
      program.refuses(words, 1, "apt%-get install lua%-argparse",
        { env = "LUA_PATH=/nowhere/?.lua" })
    end
  end)

  it("can be piped into head", function()
    local status, text = program.shell(("%s -e 'for i = 1, 1e6 do print(i) end' | head -n 1")
      :format(quote(program.command)))
    assert.equal(0, status)
    assert.equal("1", (text:gsub("%s+$", "")))
  end)

  it("trains the file that it is given, spelled out or not", function()
    for i, words in ipairs { "", "train " } do
      local out = file("spelled" .. i)
      local r = program.ok(words .. recipe "mine" .. " --limit 64 --out " .. quote(out))
      assert.truthy(r.out:find
        "loss [%d.]+, train acc [%d.]+, test acc [%d.]+\n[%d.]+ examples/sec")
      assert.is_true(program.exists(out .. "/last.safetensors"))
    end
  end)

  it("puts a run into runs/NAME-TIME unless told otherwise", function()
    local script = recipe "named"
    local _, text = program.shell(("cd %s && %s %s --limit 32 && ls runs"):format(
      quote(program.directory()), program.command:match "^/" and quote(program.command)
      or '"$OLDPWD"/' .. quote(program.command), script))
    assert.truthy(text:find "named%-%d%d%d%d%d%d%d%d%-%d%d%d%d%d%d", text)
  end)

  it("shows shapes, also of another size and batch", function()
    local text = program.ok("shapes models/vgg.lua").out
    assert.truthy(text:find "layer +| output shape +| parameters +| +MACs +| activation bytes")
    assert.truthy(text:find("43,093,322", 1, true) and text:find("512,155,648", 1, true), text)
    text = program.ok("shapes models/vgg.lua --set ratio=1").out
    assert.truthy(text:find("128,806,154", 1, true), text)
    text = program.ok("shapes models/resnet.lua --batch 2 --resize 224").out
    assert.truthy(text:find("2x64x56x56", 1, true), text)
    assert.truthy(text:find("2x512x7x7", 1, true), text)
  end)

  it("names label and probability of pictures", function()
    local weights, net = file "lenet.safetensors", require "models.bn_lenet".net
    net:save(weights)
    local pictures = {}
    for i, sizes in ipairs { { 1, 28, 28 }, { 3, 60, 40 }, { 1, 5, 9 } } do
      pictures[i] = file(("picture %d.png"):format(i))
      cnn.image.write(pictures[i], cnn.rand(sizes))
    end
    local words = ("models/bn_lenet.lua --weights %s %s %s %s"):format(quote(weights),
      quote(pictures[1]), quote(pictures[2]), quote(pictures[3]))
    local text, n = program.ok("predict " .. words).out, 0
    for name, label, probability in text:gmatch "([^\n]+): ([%a%- ]+) (%d%.%d%d%d)\n" do
      n = n + 1
      assert.equal(pictures[n], name)
      assert.truthy(#label > 2 and tonumber(probability) >= 0.1 and tonumber(probability) <= 1)
    end
    assert.equal(3, n)
    local list = cjson.decode(program.ok("predict --json " .. words).out)
    assert.equal(pictures[3], list[3].picture)
  end)

  it("checks gradients of blocks and ops", function()
    local good = file("good.lua", [[
      local nn = require "cnn".nn
      local Twice = nn.module "Twice"
      function Twice:init() self.w = nn.Parameter(require "cnn".ones(3)) end
      function Twice:forward(x) return (x * self.w:view(1, 3, 1, 1)):tanh() end
      return Twice]])
    assert.truthy(program.ok("check " .. quote(good)).out:find "right")
    local bad = file("bad.lua", [[
      local nn = require "cnn".nn
      return nn.op { name = "square",
        forward = function(ctx, x) ctx:save(x) return x * x end,
        backward = function(ctx, dy) return dy * ctx.saved[1] end }]])
    local r = program.run("check " .. quote(bad))
    assert.equal(1, r.status)
    assert.truthy((r.out .. r.err):find "square")
  end)

  it("says what it found", function()
    local text = program.ok("doctor").out
    for _, word in ipairs { "kernels", "threads", "BLAS", "CUDA", "Fashion%-MNIST", "gnuplot",
      "cairo", "readline", "terminal +standard output is none" } do
      assert.truthy(text:find(word), word .. " is not in\n" .. text)
    end
  end)
end)

-- words, exit status, what the line has to say
local wrong = {
  { "train", 2, "file" },
  { "nosuchcommand", 2, "nosuchcommand.*no command" },
  { "--nosuch", 2, "unknown option '%-%-nosuch'" },
  { "train models/bn_lenet.lua --epoch 3", 2, "%-%-epoch.*%-%-epochs" },
  { "models/bn_lenet.lua --epochz 3", 2, "%-%-epochz.*%-%-epochs" },
  { "models/bn_lenet.lua --epochs", 2, "%-%-epochs" },
  { "models/bn_lenet.lua --epochs 0", 2, "%-%-epochs.*'0'" },
  { "models/bn_lenet.lua --epochs 1.5", 2, "%-%-epochs.*'1.5'" },
  { "models/bn_lenet.lua --epochs ten", 2, "%-%-epochs.*'ten'" },
  { "models/bn_lenet.lua --batch 0", 2, "%-%-batch.*'0'" },
  { "models/bn_lenet.lua --batch -4", 2, "%-%-batch.*'%-4'" },
  { "models/bn_lenet.lua --batch 60001", 1, "60001 is larger than the data set" },
  { "models/bn_lenet.lua --batch 65 --limit 64", 1, "65 is larger than the data set" },
  { "models/bn_lenet.lua --batch 256 --limit 257", 1, "last batch.*1 image" },
  { "models/bn_lenet.lua --limit 0", 2, "%-%-limit.*'0'" },
  { "models/bn_lenet.lua --lr nan", 2, "%-%-lr.*'nan'" },
  { "models/bn_lenet.lua --lr -0.1", 2, "%-%-lr.*'%-0.1'" },
  { "models/bn_lenet.lua --lr 0", 2, "%-%-lr.*'0'" },
  { "models/bn_lenet.lua --lr inf", 2, "%-%-lr.*'inf'" },
  { "models/bn_lenet.lua --lr fast", 2, "%-%-lr.*'fast'" },
  { "models/bn_lenet.lua --resize 0", 2, "%-%-resize.*'0'" },
  { "models/bn_lenet.lua --resize 9x", 2, "%-%-resize.*'9x'" },
  { "models/bn_lenet.lua --seed x", 2, "%-%-seed.*'x'" },
  { "models/bn_lenet.lua --threads 0", 2, "%-%-threads.*'0'" },
  { "models/bn_lenet.lua --threads 1025", 2, "%-%-threads.*to 1024.*'1025'" },
  { "models/bn_lenet.lua --set foo", 2, "%-%-set.*key=value.*'foo'" },
  { "models/bn_lenet.lua --device gpu", 2, "cuda.*'gpu'" },
  { "models/bn_lenet.lua --device cuda", 1, "cuda.*%-%-device cpu" },
  { "models/bn_lenet.lua --precision fp16", 2, "fp32, tf32, bf16.*'fp16'" },
  { "models/bn_lenet.lua --precision tf32", 2, "tf32 is for CUDA only" },
  { "models/vgg.lua --set ratio", 2, "key=value.*'ratio'" },
  { "models/vgg.lua --set ration=1", 2, "ration.*ratio" },
  { "models/vgg.lua --set ratio=many", 2, "ratio=many.*number" },
  { "models/bn_lenet.lua --set ratio=1", 2, "no options of its own" },
  { "models/alexnet.lua --resize 28", 1, "net%[%d+%].*at least.*the net needs at least %d+x%d+" },
  { "shapes models/alexnet.lua --resize 28", 1, "the net needs at least %d+x%d+" },
  { "models/nosuch.lua", 1, "models/nosuch.lua" },
  { "models", 1, "directory" },
  { "shapes models/nosuch.lua", 1, "models/nosuch.lua" },
  { "eval models/bn_lenet.lua", 2, "%-%-weights" },
  { "eval models/bn_lenet.lua --weights /nowhere.safetensors", 1, "/nowhere.safetensors" },
  { "eval models/bn_lenet.lua --weights models/bn_lenet.lua", 1, "safetensors" },
  { "predict models/bn_lenet.lua --weights /nowhere", 2, "picture" },
  { "predict models/bn_lenet.lua --weights /nowhere --data / a.png", 2, "%-%-data.*%-%-device" },
  { "bench models/bn_lenet.lua --seconds -1", 2, "%-%-seconds" },
  { "bench models/bn_lenet.lua --only dance", 2, "train, predict.*'dance'" },
  { "-e", 2, "%-e" },
  { "-e 'x ='", 1, "command line" },
  { "-e 'error(\"boo\")'", 1, "boo" },
  { "-e 'error {}'", 1, "table" },
  { "-l nosuchmodule", 1, "nosuchmodule" },
  { "-i models/nosuch.lua", 1, "models/nosuch.lua" },
  { "-i models/bn_lenet.lua --device cuda", 1, "cuda.*%-%-device cpu" },
  { "-i models/bn_lenet.lua --precision tf32", 2, "tf32 is for CUDA only" },
  { "-i models/bn_lenet.lua --out /tmp", 2, "%-%-out.*%-%-epochs" },
  { "-i --lr 1 models/bn_lenet.lua", 2, "after FILE" },
  { "models/bn_lenet.lua --out /dev/null/runs --limit 64", 1, "/dev/null" },
  { "models/bn_lenet.lua --out /proc/runs --limit 64", 1, "/proc/runs" },
}

describe("one line and the right exit status for", function()
  teardown(program.sweep)

  for _, row in ipairs(wrong) do
    local words, status, pattern = unpack(row)
    it("cnnlua " .. words, function() program.refuses(words, status, pattern) end)
  end

  -- what is wrong with the script, and what the line has to say
  local scripts = {
    { "syntax", "return {\n  net = = 3,\n}\n", "syntax.lua:2:" },
    { "runtime", "local x = nil\nreturn x.y\n", "runtime.lua:2:" },
    { "thrown", "error { code = 1 }", "table" },
    { "silent", "error()", "without a message" },
    { "no-net", 'return { name = "x", input = { 1, 28, 28 }, train = {} }', "no net" },
    { "net-number", "return { net = 7, input = { 1, 28, 28 } }", "net.*number" },
    { "class", 'return { net = require "cnn".nn.ReLU, input = { 1, 28, 28 } }', "net" },
    { "no-input", 'return { net = require "cnn".nn.ReLU() }', "input.*channels, height, width" },
  }
  for _, row in ipairs(scripts) do
    local name, text, pattern = unpack(row)
    it("a script: " .. name, function()
      program.refuses(quote(file(name .. ".lua", text)), 1, pattern)
    end)
  end

  it("a plain script where a recipe is wanted", function()
    local plain = quote(file("plain.lua", "return 3"))
    program.refuses("train " .. plain, 1, "plain.lua.*recipe")
    program.refuses("shapes " .. quote(file("nothing.lua", "")), 1, "nothing.lua.*nothing")
  end)

  -- a part of the recipe, what stands there, and what the line has to say
  local recipes = {
    { "input", "{ 28, 28 }", "input" },
    { "input", "{ 3, 28, 28 }", "3 channels.*have 1",
      with = { net = "nn.Sequential(nn.Flatten(), nn.Linear(2352, 10))" } },
    { "train", "{ bacth = 3 }", "bacth.*batch" },
    { "train", "{ batch = 0 }", "batch.*0" },
    { "train", '{ batch = "many" }', "batch" },
    { "train", "{ lr = 0/0 }", "lr" },
    { "train", "{ epochs = -1 }", "epochs" },
    { "train", '{ optimizer = "magic" }', "magic.*sgd" },
    { "train", "{ optimizer = function() end }", "optimizer" },
    { "train", '{ schedule = "sometimes" }', "cosine.*sometimes" },
    { "train", "{ schedule = function() return -1 end }", "schedule" },
    { "train", "{ augment = function() end }", "augment" },
    { "train", "7", "train.*table" },
    { "data", '"imagenet"', "imagenet.*fashion%-mnist" },
    { "data", "{ train = 3 }", "data" },
    { "net", "nn.Sequential(nn.Flatten())", "784.*10 classes" },
    { "net", "nn.Sequential(nn.Flatten(), nn.Linear(784, 5))", "1x5.*10 classes" },
    { "net", "nn.Sequential(nn.Flatten(), nn.Linear(700, 10))", "expected 700 features, got 784" },
    { "net", "nn.Sequential(nn.Conv2d(1, 2, 3, { strid = 2 }))", "strid.*stride" },
    { "net", "nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool2d(1))", "net%[2%]" },
  }
  for i, row in ipairs(recipes) do
    local key, value, pattern = unpack(row)
    it(("a recipe with %s = %s"):format(key, value), function()
      local out, changes = file("refused" .. i), row.with or {}
      changes[key] = value
      program.refuses(("%s --limit 64 --out %s"):format(recipe("r" .. i, changes), quote(out)), 1,
        pattern)
      assert.is_false(program.exists(out .. "/last.safetensors"))
    end)
  end

  -- a picture's bytes, and what the line has to say
  local png = "\137PNG\r\n\26\n"
  local pictures = {
    { "an empty picture", "", "png" }, { "text", "not a picture at all, but long enough", "PNG" },
    { "a PNG of eight bytes", png, "png" },
    { "a PNG cut off", png .. "\0\0\0\13IHDR\0\0\0\8\0\0\0\8\8\0\0\0\0", "png" },
    { "a PNG of 2^31 pixels a side", png .. "\0\0\0\13IHDR" .. ("\127\255\255\255"):rep(2)
      .. "\8\0\0\0\0" .. "\0\0\0\0", "png" },
  }
  for i, row in ipairs(pictures) do
    local what, bytes, pattern = unpack(row)
    it("a picture: " .. what, function()
      local weights = file "lenet.safetensors"
      if not program.exists(weights) then require "models.bn_lenet".net:save(weights) end
      program.refuses(("predict models/bn_lenet.lua --weights %s %s"):format(quote(weights),
        quote(file("bad" .. i .. ".png", bytes))), 1, pattern)
    end)
  end

  it("a picture that is not there, and weights of another net", function()
    local weights = file "lenet.safetensors"
    require "models.bn_lenet".net:save(weights)
    program.refuses("predict models/bn_lenet.lua /nowhere.png --weights " .. quote(weights), 1,
      "/nowhere.png")
    program.refuses("eval models/resnet.lua --weights " .. quote(weights), 1,
      "of %d+ tensors matched.*missing: .*unexpected: ")
  end)

  it("a data directory that lacks the files, and stays as it is", function()
    local dir = quote(file "empty")
    program.shell("mkdir " .. dir)
    program.refuses("models/bn_lenet.lua --data " .. dir, 1, "train%-images")
    assert.equal("", (select(2, program.shell("ls -A " .. dir))))
  end)
end)

-- Runs words in an empty directory of its own, "CNNLUA" being the program: status, output, and what
-- is left in that directory.
local function elsewhere(name, words)
  local command = program.command:match "^/" and quote(program.command)
    or '"$OLDPWD"/' .. quote(program.command)
  local status, text = program.shell(("mkdir %s && cd %s && { %s; }"):format(quote(file(name)),
    quote(file(name)), (words:gsub("CNNLUA", function() return command end))))
  return status, text, (select(2, program.shell("ls -A " .. quote(file(name)))))
end

describe("a run without --out", function()
  teardown(program.sweep)

  it("leaves no directory when it fails before its first step", function()
    local script = recipe("early", { train = "{ augment = function() error 'as asked' end }" })
    local status, text, listed = elsewhere("empty", "CNNLUA " .. script .. " --limit 32")
    assert.equal(1, status)
    assert.truthy(text:find "as asked")
    assert.equal("", listed)
  end)

  it("has a directory of its own, however many start at once", function()
    local code = quote [[local open = require "cnn.rundir".open
      for _ = 1, 100 do print(open("x").path) end]]
    local _, text = elsewhere("many", ("CNNLUA -e %s >a & CNNLUA -e %s >b; wait; cat a b")
      :format(code, code))
    local seen, count = {}, 0
    for path in text:gmatch "runs/[^\n]+" do
      assert.is_nil(seen[path], path)
      seen[path], count = true, count + 1
    end
    assert.equal(200, count, text)
  end)
end)

describe("a table that a script returns", function()
  teardown(program.sweep)

  it("is a recipe when it has a net, or both input and train", function()
    for i, value in ipairs { '{ name = "x" }', "{ input = { 1, 2, 3 } }", "{ train = print }" } do
      local script = quote(file(("any%d.lua"):format(i), "print(...)\nreturn " .. value))
      assert.equal("a\t--lr\tb\n", program.ok(script .. " a --lr b").out)
      program.refuses("shapes " .. script, 1, "returns a table without a net")
    end
  end)

  it("has what train takes in train", function()
    for _, key in ipairs { "lr", "batch", "epochs", "optimizer", "augment", "weight_decay" } do
      program.refuses("shapes " .. recipe("top", { [key] = "3" }), 1,
        "recipe's " .. key .. " .*write it into train = { " .. key .. " = ")
    end
  end)
end)

describe("weights", function()
  teardown(program.sweep)

  local net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
  local picture

  setup(function()
    picture = file "grey.png"
    cnn.image.write(picture, cnn.full({ 1, 28, 28 }, 0.5))
  end)

  it("that are not finite are told of in one line", function()
    cnn.no_grad(function() net[2].bias[3]:fill(0 / 0) end)
    net:save(file "nan.safetensors")
    local words = recipe "nan" .. " --weights " .. quote(file "nan.safetensors")
    for _, json in ipairs { "", " --json" } do
      local pattern = "output for %s is not finite: the parameter 2.bias is not finite"
      program.refuses("eval " .. words .. json, 1, pattern:format "the test images")
      program.refuses(("predict %s %s%s"):format(words, quote(picture), json), 1,
        pattern:format ".*grey.png")
    end
  end)

  it("of a net that does not give one value a class are not used", function()
    local five = nn.Sequential(nn.Flatten(), nn.Linear(784, 5))
    five:save(file "five.safetensors")
    local words = recipe("five", { net = "nn.Sequential(nn.Flatten(), nn.Linear(784, 5))" })
      .. " --weights " .. quote(file "five.safetensors")
    local pattern = "gives 1x5 for one image; fashion%-mnist has 10 classes"
    program.refuses("eval " .. words, 1, pattern)
    program.refuses("predict " .. words .. " " .. quote(picture), 1, pattern)
  end)
end)
