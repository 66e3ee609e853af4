-- Whole training runs through the real program, on a few hundred real images: they learn, leave
-- their files, repeat, resume, and end as they should when something ends them.

local cjson = require "cjson"
local cnn = require "cnn"
local checkpoint = require "cnn.checkpoint"
local program = require "spec.support.program"
local engine = require "spec.support.engine"

local quote = program.quote

local function out(name) return program.file(name) end

-- Trains bn_lenet on 512 images with some further words.
local function train(name, words, options)
  return program.ok(("models/bn_lenet.lua --limit 512 --batch 64 --out %s %s"):format(
    quote(out(name)), words or ""), options)
end

-- The rows of metrics.csv, by column.
local function metrics(name)
  local rows, columns = {}, nil
  for line in program.read(out(name) .. "/metrics.csv"):gmatch "[^\n]+" do
    local cells = {}
    for cell in (line .. ","):gmatch "([^,]*)," do cells[#cells + 1] = cell end
    if columns then
      local row = {}
      for i, column in ipairs(columns) do row[column] = tonumber(cells[i]) end
      rows[#rows + 1] = row
    else
      columns = cells
    end
  end
  return rows
end

-- All numbers of a safetensors file, by name.
local function tensors(name, file)
  local saved = checkpoint.open(out(name) .. "/" .. (file or "last.safetensors"))
  local all = {}
  for key, entry in pairs(saved.tensors) do
    local x = cnn.zeros(entry.shape)
    checkpoint.read(saved, key, x)
    all[key] = engine.list(x)
  end
  return all
end

-- What depends on the images and the seed, not on the clock.
local function numbers(name)
  local rows = metrics(name)
  for _, row in ipairs(rows) do row.seconds, row.examples_per_s, row.peak_mb = nil, nil, nil end
  return rows
end

describe("a training run", function()
  teardown(program.sweep)

  it("learns, says so in the book's two lines, and leaves its files", function()
    local r = program.ok("models/bn_lenet.lua --limit 768 --epochs 6 --batch 32 --lr 0.5 --out "
      .. quote(out "whole"))
    local lines = {}
    for line in r.out:gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.truthy(lines[1]:find "bn_lenet.*44,878 parameters")
    assert.truthy(r.out:find "seed 1")
    assert.truthy(lines[#lines - 1]:find
      "^loss %d%.%d%d%d, train acc %d%.%d%d%d, test acc %d%.%d%d%d$")
    assert.truthy(lines[#lines]:find "^%d+%.%d examples/sec on cpu")
    local epochs = 0
    for _ in r.out:gmatch "\nepoch %d/6: " do epochs = epochs + 1 end
    assert.equal(6, epochs)
    local rows = metrics "whole"
    assert.equal(6, #rows)
    assert.is_true(rows[6].train_loss < 0.6 * rows[1].train_loss)
    assert.is_true(rows[6].train_acc > 0.65)
    assert.equal(("loss %.3f, train acc %.3f, test acc %.3f"):format(rows[6].train_loss,
      rows[6].train_acc, rows[6].test_acc), lines[#lines - 1])
    assert.equal("\137PNG\r\n", program.read(out "whole" .. "/curves.png"):sub(1, 6))
    local status, listed = program.shell("ls -A " .. quote(out "whole"))
    assert.equal(0, status)
    assert.equal("best.safetensors curves.png last.safetensors metrics.csv",
      (listed:gsub("%s+", " "):gsub(" $", "")))
  end)

  it("keeps the best weights by test accuracy, and eval and the REPL read them", function()
    local best = 0
    for _, row in ipairs(metrics "whole") do best = math.max(best, row.test_acc) end
    local weights = quote(out "whole" .. "/best.safetensors")
    local r = program.ok("eval models/bn_lenet.lua --weights " .. weights)
    assert.truthy(r.out:find("^test loss %d+%.%d%d%d, test acc " .. ("%.3f"):format(best) .. "\n$"))
    local json = cjson.decode(program.ok("eval models/bn_lenet.lua --json --weights "
      .. weights).out)
    assert.is_true(math.abs(json.acc - best) < 1e-6)
    assert.equal(10000, json.images)
    r = program.ok("-i models/bn_lenet.lua", {
      input = ("print(net:load(%q))\n#net\nrecipe.name\ndata.test:count()\n"):format(
        out "whole" .. "/best.safetensors"),
    })
    assert.truthy(r.out:find '26 of 26 tensors matched.*16\n"bn_lenet"\n10000\n')
  end)

  it("prints the two lines only with --quiet, one object with --json", function()
    local r = train("quiet", "--epochs 1 --quiet")
    assert.truthy(r.out:find "^loss [^\n]+\n[%d.]+ examples/sec on cpu[^\n]*\n$")
    assert.equal("", r.err)
    local result = cjson.decode(train("json", "--epochs 1 --json").out)
    assert.equal(1, result.epochs)
    assert.equal(8, result.steps)
    assert.equal(1, result.seed)
    assert.equal(44878, result.parameters)
    assert.is_true(result.loss > 0 and result.test_acc > 0 and result.examples_per_s > 0)
    assert.is_true(result.end_to_end_examples_per_s < result.examples_per_s)
  end)

  it("gives the same numbers for the same command, and for any number of threads", function()
    train("one", "--epochs 2 --threads 1")
    train("two", "--epochs 2 --threads 2")
    train("seven", "--epochs 2 --threads 7")
    assert.same(numbers "one", numbers "two")
    assert.same(tensors "one", tensors "two")
    assert.same(tensors "one", tensors "seven")
    train("seeded", "--epochs 1 --seed 2")
    assert.are_not.same(numbers("one")[1], numbers("seeded")[1])
  end)

  it("drops other elements in each step and epoch, the same ones with the same seed", function()
    local script = program.file "dropped.lua"
    program.write(script, [[
      local cnn = require "cnn"
      local nn = cnn.nn
      local Noted = nn.module "Noted"
      function Noted:init() self.dropout = nn.Dropout(0.5) end
      function Noted:forward(x)
        local y = self.dropout(x)
        if self.training and x:size(1) > 1 and x.device ~= "meta" then
          local kept = {}
          for i, value in ipairs(self.dropout(cnn.ones(40)):totable()) do
            kept[i] = value > 0 and "x" or "."
          end
          io.stderr:write("mask ", table.concat(kept), "\n")
        end
        return y
      end
      return {
        name = "dropped", input = { 1, 28, 28 }, train = { batch = 32, lr = 0.1, epochs = 2 },
        net = nn.Sequential(nn.Flatten(), Noted(), nn.Linear(784, 10)),
      }
    ]])
    local function masks(words)
      local r = program.run(("%s --limit 128 %s --out %s"):format(quote(script), words,
        quote(out "dropped")))
      assert.equal(0, r.status, r.err)
      local list = {}
      for mask in r.err:gmatch "mask ([x.]+)" do list[#list + 1] = mask end
      return list
    end
    local list, seen = masks "", {}
    assert.equal(8, #list)
    for _, mask in ipairs(list) do
      assert.is_nil(seen[mask], "a mask came twice")
      seen[mask] = true
    end
    assert.same(list, masks "")
    for _, mask in ipairs(masks "--seed 2") do assert.is_nil(seen[mask]) end
  end)

  it("goes on with the same bits after --resume, and keeps its settings", function()
    train("long", "--epochs 3 --seed 5")
    train("short", "--epochs 2 --seed 5")
    local r = program.ok(("models/bn_lenet.lua --epochs 3 --resume %s"):format(quote(out "short")))
    assert.truthy(r.out:find "resumed from .*last.safetensors at epoch 3")
    assert.same(numbers "long", numbers "short")
    assert.same(tensors "long", tensors "short")
    program.refuses("models/resnet.lua --resume " .. quote(out "short"), 1, "bn_lenet.*resnet")
    program.refuses("models/bn_lenet.lua --seed 6 --resume " .. quote(out "short"), 1, "seed")
    program.refuses("models/bn_lenet.lua --resume /nowhere", 1, "/nowhere")
    local last = out "short" .. "/last.safetensors"
    program.write(last, program.read(last):sub(1, -100))
    program.refuses("models/bn_lenet.lua --epochs 4 --resume " .. quote(out "short"), 1,
      "truncated")
    assert.same(numbers "long", numbers "short")
  end)

  it("resumes with momentum and a schedule as if it had not stopped", function()
    local script = program.file("momentum.lua", [[
      local nn = require "cnn".nn
      return {
        name = "momentum", input = { 1, 28, 28 },
        net = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(784, 10)),
        train = { batch = 64, lr = 0.1, epochs = 4, optimizer = "adam", schedule = "cosine",
          weight_decay = 1e-4 },
      }]])
    program.ok(("%s --limit 256 --out %s"):format(quote(script), quote(out "full")))
    local rows = metrics "full"
    assert.is_true(rows[4].lr < rows[2].lr and rows[2].lr < rows[1].lr)
    -- two epochs of the four, then Ctrl-C's place: the file of epoch 2 is kept aside
    local command = ("%s --limit 256 --out %s >/dev/null & pid=$!; "
      .. "while kill -0 $pid 2>/dev/null && ! grep -q ^2, %s/metrics.csv 2>/dev/null; "
      .. "do sleep 0.02; done; kill -INT $pid 2>/dev/null; wait $pid"):format(
      program.guarded .. " " .. quote(script), quote(out "part"), quote(out "part"))
    program.shell(command)
    program.ok(("%s --resume %s"):format(quote(script), quote(out "part")))
    assert.same(tensors "full", tensors "part")
    assert.is_not_nil(tensors("part")["optimizer.m.1"])
  end)
end)

-- Starts a long run, sends a signal after its first epoch, and waits; returns status and stderr.
local function interrupt(name, words, signals)
  local dir = quote(out(name))
  local command = ("%s models/bn_lenet.lua --limit 2048 --epochs 100000 --out %s %s >%s 2>%s & "
    .. "pid=$!; while kill -0 $pid 2>/dev/null && ! [ -e %s/metrics.csv ]; do sleep 0.02; done; "
    .. "%s wait $pid"):format(program.guarded, dir, words or "", quote(out "stdout"),
    quote(out "stderr"), dir, signals or "kill -INT $pid;")
  local status = program.shell(command)
  return status, program.read(out "stderr"), program.read(out "stdout")
end

describe("a run that is ended", function()
  teardown(program.sweep)

  it("by Ctrl-C writes curves, metrics and last weights, and exits with 130", function()
    local status, err = interrupt "stopped"
    assert.equal(130, status)
    assert.is_nil(err:find "traceback")
    for _, file in ipairs { "curves.png", "metrics.csv", "last.safetensors", "best.safetensors" } do
      assert.is_true(program.exists(out "stopped" .. "/" .. file), file .. " is missing")
    end
    for _, list in pairs(tensors "stopped") do
      for _, v in ipairs(list) do assert.is_true(v - v == 0) end
    end
    local state = checkpoint.open(out "stopped" .. "/last.safetensors")
    assert.is_not_nil(state.metadata["cnnlua.run"])
    local rows = #metrics "stopped"
    program.ok(("models/bn_lenet.lua --epochs %d --resume %s"):format(rows + 1,
      quote(out "stopped")))
    assert.is_true(#metrics "stopped" >= rows)
  end)

  it("by two Ctrl-C in a row still ends, and soon", function()
    local status = interrupt("twice", "", "kill -INT $pid; sleep 0.05; kill -INT $pid;")
    assert.is_true(status == 130, "the status is " .. status)
  end)

  it("by a loss that is not finite names step, rate and layer, and keeps good weights", function()
    local r = program.refuses("models/bn_lenet.lua --limit 512 --batch 64 --lr 1e38 --out "
      .. quote(out "diverged"), 1, "loss is .* at step %d+ .*lr 1e%+38.*last.safetensors")
    assert.truthy(r.err:find "parameter" or r.err:find "output of", r.err)
    for _, list in pairs(tensors "diverged") do
      for _, v in ipairs(list) do assert.is_true(v - v == 0, "the weights kept are not finite") end
    end
  end)

  it("by a script's layer that makes NaN names that layer", function()
    local script = program.file("nan.lua", [[
      local nn = require "cnn".nn
      local Root = nn.module "Root"
      function Root:forward(x) return (x - 0.5):sqrt() end
      return {
        name = "nan", input = { 1, 28, 28 }, train = { batch = 32, lr = 0.1, epochs = 1 },
        net = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), Root(), nn.Linear(16, 10)),
      }]])
    local r = program.refuses(("%s --limit 64 --out %s"):format(quote(script), quote(out "nan")), 1,
      "not a number at step 1 .*lr 0.1.*net%[3%] Root%(%)")
    assert.is_nil(r.err:find("Linear", 1, true))
  end)

  it("by a disk without room leaves no half file", function()
    local dir = out "full-disk"
    train("full-disk", "--epochs 1")
    local before = program.read(dir .. "/last.safetensors")
    local r = program.run("models/bn_lenet.lua --limit 512 --batch 64 --epochs 1 --seed 3 --out "
      .. quote(dir), { before = "trap '' XFSZ; ulimit -f 100;" })
    assert.equal(1, r.status)
    assert.truthy(r.err:find "safetensors: cannot write: File too large", r.err)
    assert.truthy(r.err:find "^[^\n]+\n$", r.err)
    assert.equal(before, program.read(dir .. "/last.safetensors"))
    local _, listed = program.shell("ls -A " .. quote(dir))
    assert.equal("best.safetensors curves.png last.safetensors metrics.csv",
      (listed:gsub("%s+", " "):gsub(" $", "")))
  end)

  it("by an error of the script's own tells it in one line", function()
    local script = program.file("augment.lua", [[
      local nn = require "cnn".nn
      return {
        name = "augment", input = { 1, 28, 28 },
        net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)),
        train = { batch = 32, lr = 0.1, epochs = 1,
          augment = function(x, y) return x + y.nothing end },
      }]])
    program.refuses(("%s --limit 64 --out %s"):format(quote(script), quote(out "augment")), 1,
      "augment.lua:6:")
  end)
end)

-- ------------------------------------------------------------------------- small nets, own images

-- A script that trains on 40 pictures of 4x4 in two classes, dark ones and light ones. `parts`
-- replaces net, train and data; `before` is what comes first. All are Lua text.
local function small(name, parts)
  parts = parts or {}
  local values = {
    NAME = name, BEFORE = parts.before or "",
    NET = parts.net or "nn.Sequential(nn.Flatten(), nn.Linear(16, 2))",
    TRAIN = parts.train or "{ batch = 8, epochs = 2, lr = 0.1 }",
    DATA = parts.data or "{ classes = { 'dark', 'light' }, train = part, test = part }",
  }
  local text = ([[
    local cnn = require "cnn"
    local nn = cnn.nn
    local images = cnn.zeros({ 40, 1, 4, 4 }, { dtype = "u8" })
    local labels = {}
    for i = 1, 40 do
      images[i]:fill(i % 2 * 200 + i)
      labels[i] = i % 2 + 1
    end
    local part = { images = images, labels = labels }
    $BEFORE
    return { name = "$NAME", input = { 1, 4, 4 }, net = $NET, train = $TRAIN, data = $DATA }
  ]]):gsub("%$(%u+)", values)
  return quote(program.file(name .. ".lua", text))
end

describe("a recipe's own", function()
  teardown(program.sweep)

  it("data, optimizer, schedule and augmentation are used", function()
    local script = small("own", {
      data = "{ name = 'light', classes = { 'dark', 'light' }, train = part, test = part }",
      train = [[{
        batch = 8, epochs = 12, lr = 0.5,
        optimizer = function(p, o) return cnn.optim.SGD(p, { lr = o.lr, momentum = 0.5 }) end,
        schedule = function(time) return 1 / (1 + time) end,
        augment = function(x, y) return x + (math.random() - 0.5) * 0.01, y end,
      }]],
    })
    local r = program.ok(("%s --out %s"):format(script, quote(out "own")))
    assert.truthy(r.out:find "data light: 40 training and 40 test images of 4x4")
    local rows = metrics "own"
    assert.equal(1, rows[12].test_acc)
    assert.is_true(rows[12].lr < rows[1].lr)
    -- pictures of one's own: the right label by name
    local picture = program.file "light.png"
    cnn.image.write(picture, cnn.full({ 1, 9, 9 }, 0.9))
    r = program.ok(("predict %s --weights %s %s"):format(script,
      quote(out "own" .. "/last.safetensors"), quote(picture)))
    assert.truthy(r.out:find("light.png: light 0%.%d%d%d"))
  end)
end)

local function to(name) return " --out " .. quote(out(name)) .. " " end

describe("a run of a small net", function()
  teardown(program.sweep)

  it("keeps what the recipe's data say of limit, seed, size and batch", function()
    local function script(name, settings)
      return small(name, {
        net = "nn.Sequential(nn.Flatten(), nn.Linear(nil, 2))", train = "{ epochs = 1 }",
        data = "{ name = 'own', classes = 2, train = part, test = part" .. settings .. " }",
      })
    end
    local own = script("settings", ", limit = 20, seed = 3, batch = 5")
    local r = program.ok(own .. to "settings")
    assert.truthy(r.out:find "data own: 20 training and 40 test", r.out)
    assert.truthy(r.out:find "batch 5, 1 epochs, seed 1", r.out)
    assert.truthy(program.ok(own .. to "limited" .. "--limit 10").out:find "own: 10 training")
    program.ok(own .. to "reseeded" .. "--seed 1")
    program.ok(script("unseeded", ", limit = 20, batch = 5") .. to "unseeded")
    assert.are_not.same(numbers "settings", numbers "unseeded")
    assert.same(numbers "reseeded", numbers "unseeded")
    local sized = script("sized", ", resize = 8")
    program.refuses(sized .. to "sized", 1, "input is 4x4 and its data are resized to 8x8")
    program.ok(sized .. to "sized" .. "--resize 6")
    program.refuses(script("slip", ", limits = 8") .. to "slip", 1, "limits.*'limit'")
    program.refuses(own .. to "sized" .. "--data /usr", 2, "%-%-data /usr.*data of its own")
  end)

  it("keeps what cnn.data.fashion_mnist was told in the script", function()
    local script = program.file("told.lua", [[
      local cnn = require "cnn"
      local nn = cnn.nn
      return {
        name = "told", input = { 1, 14, 14 }, train = { batch = 50, epochs = 1 },
        net = nn.Sequential(nn.Flatten(), nn.Linear(196, 10)),
        data = cnn.data.fashion_mnist { limit = 150, resize = 14, seed = 4 },
      }]])
    assert.truthy(program.ok(quote(script) .. to "told").out:find "150 training")
    program.ok(quote(script) .. to "told1" .. "--seed 1 --limit 150")
    assert.are_not.same(numbers "told", numbers "told1")
  end)

  it("has a last batch of one image unless a batch norm would see one value a channel", function()
    program.ok("models/bn_lenet_scratch.lua --limit 201 --batch 200 --epochs 1" .. to "scratch")
    local block = [[
      local Block = nn.module "Block"
      function Block:init() self:buffer("seen", cnn.zeros(1, 16)) end
      function Block:forward(x)
        self.seen:copy(x:mean { 1 }:detach())
        return x:mean():item() > 9 and x * 2 or x
      end]]
    program.ok(small("values", { before = block, train = "{ batch = 39, epochs = 1 }",
      net = "nn.Sequential(nn.Flatten(), Block(), nn.Linear(16, 2))" }) .. to "values")
    program.ok(small("pixels", { train = "{ batch = 39, epochs = 1 }",
      net = "nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 2))" }) .. to "pixels")
    program.refuses(small("norm", { train = "{ batch = 39, epochs = 1 }",
      net = "nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 2))" }) .. to "norm", 1,
      "last batch.*1 image .40 images, 39 a batch.*net%[2%] BatchNorm1d%(16%)")
  end)

  it("takes a smaller batch when nobody asked for one", function()
    local r = program.ok(small("default", { train = "{ epochs = 1 }" }) .. to "default")
    assert.truthy(r.out:find "batch 40, 1 epochs", r.out)
    program.refuses(small("asked", { train = "{ batch = 41 }" }) .. to "asked", 1,
      "batch 41 is larger than the data set of 40")
    program.refuses(small("default") .. to "asked" .. "--batch 128", 1, "batch 128 is larger")
    program.ok(small("asked", { train = "{ batch = 41, epochs = 1 }" }) .. to "asked" ..
      "--limit 20")
  end)

  it("augments by name, and says which names there are", function()
    for i, name in ipairs { "flip", "crop" } do
      program.ok(small(name, { train = ("{ epochs = 1, augment = %q }"):format(name) })
        .. to("augment" .. i))
    end
    program.refuses(small("mirror", { train = "{ augment = 'mirror' }" }) .. to "mirror", 1,
      "augment has to be a function.* crop, flip, got the string 'mirror'")
    program.refuses(small("number", { train = "{ augment = 7 }" }) .. to "mirror", 1,
      "augment.* crop, flip, got 7")
    program.refuses(small("schedule", { train = "{ schedule = 7 }" }) .. to "mirror", 1,
      "schedule.*cosine.*7")
  end)

  it("goes on in another directory with the best weights so far", function()
    local script = small("best", { train = "{ batch = 8, epochs = 1, lr = 1e-30 }" })
    program.ok(script .. to "old")
    program.ok(script .. " --epochs 2 --resume " .. quote(out "old") .. to "new")
    assert.equal(program.read(out "old" .. "/best.safetensors"),
      program.read(out "new" .. "/best.safetensors"))
    local _, listed = program.shell("ls -A " .. quote(out "new"))
    assert.is_nil(listed:find "part")
  end)

  it("goes on with the script's own options, unless they are given anew", function()
    local script = small("set", {
      before = "local opt = cnn.options { width = 8, depth = 1 }",
      net = "nn.Sequential(nn.Flatten(), nn.Linear(16, opt.width), nn.Linear(opt.width, 2))",
    })
    program.ok(script .. " --set width=3 --epochs 1" .. to "set")
    program.ok("train " .. script .. " --epochs 2 --resume " .. quote(out "set") .. to "set2")
    program.ok(script .. " --epochs 3 --resume " .. quote(out "set2"))
    program.refuses(script .. " --set width=4 --resume " .. quote(out "set"), 1, "does not fit")
  end)

  it("gives a script's math.random the same numbers after --resume", function()
    local script = small("depth", {
      before = [[
        local Depth = nn.module "Depth"
        function Depth:forward(x)
          if self.training and math.random() < 0.5 then return x end
          return x * 1.25
        end]],
      net = "nn.Sequential(nn.Flatten(), Depth(), nn.Linear(16, 2))",
    })
    program.ok(script .. to "straight" .. "--epochs 4")
    program.ok(script .. to "broken" .. "--epochs 2")
    program.ok(script .. " --epochs 4 --resume " .. quote(out "broken"))
    assert.same(tensors "straight", tensors "broken")
  end)

  it("that failed in an evaluation goes on with the rate that it had", function()
    local script = small("rate", {
      before = [[
        local opt = cnn.options { fail = 2 }
        local Fails, evaluations = nn.module "Fails", 0
        function Fails:forward(x)
          if not self.training and x.device ~= "meta" then evaluations = evaluations + 1 end
          if evaluations == opt.fail * 5 then error "as asked" end
          return x
        end]],
      net = "nn.Sequential(nn.Flatten(), Fails(), nn.Linear(16, 2))",
      train = "{ batch = 8, epochs = 3, lr = 0.1, schedule = 'cosine' }",
    })
    program.ok(script .. to "whole-rate" .. "--set fail=99")
    program.refuses(script .. to "rate", 1, "as asked")
    program.ok(script .. " --set fail=99 --resume " .. quote(out "rate"))
    assert.same(numbers "whole-rate", numbers "rate")
  end)

  it("shows on a terminal of 80 columns what time is left", function()
    local progress = require "cnn.progress"()
    progress.terminal, progress.columns = true, 80
    local file, was = program.file "live.txt", io.output()
    io.output(file)
    for done = 1, 235, 18 do
      progress.drawn = 0
      progress:live {
        epoch = 10, epochs = 10, done = done, total = 235, loss = 1.234, acc = 0.567, rate = 336.25,
        images = 60000,
      }
    end
    io.output():close()
    io.output(was)
    local count = 0
    for line in program.read(file):gmatch "\r([^\r\27]+)\27" do
      count = count + 1
      assert.is_true(#line < 80, line)
      assert.truthy(line:find "^epoch 10/10 [#.]+ +%d+%%  [%d.:]+ %a+ left  loss .* examples/sec$",
        line)
    end
    assert.equal(14, count)
  end)
end)

describe("cnn.train", function()
  teardown(program.sweep)

  local function recipe()
    local images = cnn.zeros({ 8, 1, 4, 4 }, { dtype = "u8" })
    local part = { images = images, labels = { 1, 2, 1, 2, 1, 2, 1, 2 } }
    return {
      name = "lua", input = { 1, 4, 4 }, train = { epochs = 1 },
      net = cnn.nn.Sequential(cnn.nn.AdaptiveAvgPool2d(2), cnn.nn.Flatten(), cnn.nn.Linear(4, 2)),
      data = { classes = 2, train = part, test = part },
    }
  end

  it("takes the options of the command line as Lua values", function()
    local threads, write = cnn.threads(), io.write
    io.write = function() end -- luacheck: ignore 122
    local ok, result = pcall(cnn.train, recipe(),
      { resize = 6, threads = 1, epochs = 2, seed = 7, quiet = true, out = out "lua" })
    io.write = write -- luacheck: ignore 122
    local used = cnn.threads()
    cnn.set_threads(threads)
    assert.is_true(ok, result)
    assert.equal(1, used)
    assert.equal(2, result.epochs)
    assert.equal(8, result.batch)
    assert.equal(7, result.seed)
    local state = checkpoint.open(out "lua" .. "/last.safetensors").metadata["cnnlua.run"]
    assert.truthy(state:find('"height":"0x1.8p+2"', 1, true), state)
  end)

  it("says of a wrong option what would be right, at the caller's line", function()
    local wrong = {
      { { resize = "x" }, "resize: expected a whole number.*got the string 'x'" },
      { { resize = { 1, 2, 3 } }, "resize: expected" },
      { { out = 5 }, "out: expected a string, got 5" }, { { out = "" }, "out: expected a name" },
      { { data = {} }, "data: expected a string" },
      { { resume = true }, "resume: expected a string, got true" },
      { { seed = "x" }, "seed: expected a whole number" },
      { { threads = 0 }, "threads: expected a whole number >= 1, got 0" },
      { { epochs = 1.5 }, "epochs: expected a whole number" },
      { { batch = -1 }, "batch: expected a whole number" },
      { { limit = "all" }, "limit: expected a whole number" },
      { { lr = 0 }, "lr: expected a number above 0" }, { { lr = "fast" }, "lr: expected" },
      { { device = "gpu" }, "device: expected auto, cpu, cuda or cuda:n" },
      { { device = 1 }, "device: expected a string" },
      { { precision = "fp16" }, "precision: expected fp32, tf32 or bf16" },
      { { quiet = 1 }, "quiet: expected true or false" },
      { { json = "yes" }, "json: expected true or false" },
      { { set = { "a=1" } }, "unknown option 'set'" }, { { file = "x" }, "unknown option 'file'" },
      { "fast", "options: expected a table" },
    }
    for _, row in ipairs(wrong) do
      local ok, why = pcall(cnn.train, recipe(), row[1])
      assert.is_false(ok)
      assert.truthy(tostring(why):find("run_spec.lua:%d+: cnn.train: " .. row[2]), why)
    end
  end)
end)
