-- cnn.train(recipe) again after a Ctrl-C: it goes on from the step where it was, to the same bits
-- where nothing was changed, and with what was changed where something was.

local checkpoint = require "cnn.checkpoint"
local cnn = require "cnn"
local engine = require "spec.support.engine"
local interrupt = require "spec.support.interrupt"
local program = require "spec.support.program"

local nn = cnn.nn

local function out(name) return program.file(name) end

-- Interrupts the engine when it is called for the `at`-th time in a training step or, with
-- `evaluating`, in an evaluation; `error` instead fails there.
local stop = { calls = 0 }

local Stop = nn.module "Stop"
function Stop:forward(x)
  if x.device == "meta" or self.training == (stop.evaluating or false) then return x end
  stop.calls = stop.calls + 1
  if stop.calls == stop.at then
    if stop.error then error(stop.error, 0) end
    interrupt()
  end
  return x
end

local function stop_at(calls, options)
  stop = options or {}
  stop.at, stop.calls = calls, 0
end

local COUNT = 44 -- six batches of 8, the last one smaller

local function part_of(count)
  local images, labels = cnn.zeros({ count, 1, 6, 6 }, { dtype = "u8" }), {}
  for i = 1, count do
    images[i]:fill(i % 2 * 120 + 2 * i)
    images[i][1][1][1] = 255
    labels[i] = i % 2 + 1
  end
  return { images = images, labels = labels }
end

-- A recipe with whatever depends on random numbers or goes on from step to step.
local function recipe(train)
  cnn.manual_seed(3)
  local part = part_of(COUNT)
  local value = {
    name = "small", input = { 1, 6, 6 },
    net = nn.Sequential():add("conv", nn.Conv2d(1, 4, 3)):add("bn", nn.BatchNorm2d(4)):add(Stop())
      :add(nn.ReLU()):add(nn.Dropout(0.3)):add(nn.Flatten()):add("fc", nn.Linear(nil, 2)),
    train = { batch = 8, epochs = 3, lr = 0.0625, augment = "flip" },
    data = { classes = 2, train = part, test = part },
  }
  for key, given in pairs(train or {}) do value.train[key] = given end
  return value
end

-- pcall(cnn.train, ...) and what was printed.
local function train(value, options)
  local lines, write = {}, io.write
  io.write = function(...) lines[#lines + 1] = table.concat { ... } end -- luacheck: ignore 122
  local ok, result = pcall(cnn.train, value, options)
  io.write = write -- luacheck: ignore 122
  require "cnn.guard".clear()
  return ok, result, table.concat(lines)
end

local function trained(value, options)
  local ok, result, printed = train(value, options)
  assert(ok, result)
  return result, printed
end

-- Trains until it is interrupted; returns the message.
local function interrupted(value, options)
  local ok, why = train(value, options)
  assert.is_false(ok)
  assert.truthy(tostring(why):find "^interrupted at step %d+; ", why)
  stop_at(nil)
  return why
end

local function numbers(net)
  local all = {}
  for name, p in net:named_parameters() do all[name] = engine.list(p) end
  for name, b in net:named_buffers() do all[name] = engine.list(b) end
  return all
end

-- The numbers of a run that depend on images and seed, in metrics.csv: epoch, losses, lr.
local function metrics(name)
  local rows = {}
  for line in program.read(out(name) .. "/metrics.csv"):gmatch "[^\n]+" do
    rows[#rows + 1] = line:match "^([^,]*,[^,]*,[^,]*,[^,]*,[^,]*)"
  end
  return rows
end

describe("cnn.train(recipe) after a Ctrl-C", function()
  teardown(program.sweep)
  before_each(function() stop_at(nil) end)

  local ways = {
    { "sgd with momentum", { momentum = 0.9, weight_decay = 1e-3 }, 8 },
    { "adam and a schedule", { optimizer = "adam", schedule = "cosine" }, 3 },
    { "adamw, at the first step", { optimizer = "adamw" }, 1 },
    { "sgd, at an epoch's last step", { nesterov = true, momentum = 0.5 }, 6 },
  }

  local function check_same_bits(name, device, settings, at)
    local whole = recipe(settings)
    local result = trained(whole, { out = out("whole" .. name), device = device })
    local broken = recipe(settings)
    stop_at(at)
    local why = interrupted(broken, { out = out("broken" .. name), device = device })
    assert.equal(("interrupted at step %d; cnn.train(recipe) again goes on (from the shell: "
      .. "--resume %s)"):format(at - 1, out("broken" .. name)), why)
    local again, printed = trained(broken, device ~= "cpu" and { device = device } or nil)
    assert.equal(out("broken" .. name), again.out)
    assert.equal(result.steps, again.steps)
    assert.equal(result.loss, again.loss)
    assert.equal(result.best_test_acc, again.best_test_acc)
    assert.same(numbers(whole.net), numbers(broken.net))
    assert.same(metrics("whole" .. name), metrics("broken" .. name))
    local step = at - 1
    assert.truthy(printed:find(("goes on at epoch %d, batch %d of 6\n"):format(
      math.floor(step / 6) + 1, step % 6), 1, true), printed)
  end

  for i, row in ipairs(ways) do
    local what, settings, at = unpack(row)
    it("ends with the same bits: " .. what, function()
      check_same_bits(i, "cpu", settings, at)
    end)
    it("ends with the same bits on a card: " .. what, function()
      if not engine.has_card then pending "needs a GPU: resuming a run there" end
      check_same_bits("card" .. i, "cuda:0", settings, at)
    end)
  end

  it("ends with the same bits after three of them, one in an evaluation", function()
    local whole = recipe { momentum = 0.9 }
    trained(whole, { out = out "whole", epochs = 2 })
    local broken = recipe { momentum = 0.9 }
    stop_at(3)
    interrupted(broken, { out = out "broken", epochs = 2 })
    stop_at(2, { evaluating = true })
    local why = interrupted(broken)
    assert.truthy(why:find("^interrupted at step 6; "), why)
    assert.is_true(broken.net.training)
    stop_at(4)
    why = interrupted(broken, { out = out "broken" })
    assert.truthy(why:find("^interrupted at step 9; "), why)
    assert.equal(2, trained(broken).epochs)
    assert.same(numbers(whole.net), numbers(broken.net))
    assert.same(metrics "whole", metrics "broken")
  end)

  it("leaves the buffers as they were after the last whole step, for --resume too", function()
    local value = recipe()
    trained(value, { epochs = 1, out = out "first" })
    local before = numbers(value.net)
    stop_at(1)
    interrupted(value, { out = out "second" })
    assert.same(before, numbers(value.net))
    local saved = checkpoint.open(out "second" .. "/last.safetensors")
    local mean = checkpoint.read(saved, "bn.running_mean")
    assert.same(before["bn.running_mean"], engine.list(mean))
  end)

  it("takes the rate and the epochs that the recipe has now", function()
    local changed = recipe { epochs = 2,
      schedule = function(time) return time < 4 / 6 - 1e-9 and 1 or 0.25 end }
    trained(changed, { out = out "changed" })
    local value = recipe()
    stop_at(5)
    interrupted(value, { out = out "set", epochs = 3 })
    value.train.lr, value.train.epochs = 0.0625 / 4, 2
    local result, printed = trained(value)
    assert.equal(2, result.epochs)
    assert.equal(0.0625 / 4, result.lr)
    assert.truthy(printed:find("lr 0.015625", 1, true), printed)
    assert.same(numbers(changed.net), numbers(value.net))
  end)

  it("keeps the options of the first call, and takes those of the second", function()
    local value = recipe()
    stop_at(5)
    interrupted(value,
      { out = out "options", lr = 0.5, limit = 20, epochs = 4, batch = 5, seed = 7 })
    local result = trained(value, { epochs = 3 })
    assert.equal(0.5, result.lr)
    assert.equal(5, result.batch)
    assert.equal(7, result.seed)
    assert.equal(12, result.steps)
    assert.equal(3, result.epochs)
  end)

  it("keeps what a run that was itself resumed goes on with", function()
    local options = { lr = 0.5, limit = 20, epochs = 4, batch = 5 }
    local whole = recipe { momentum = 0.9 }
    options.out = out "whole"
    trained(whole, options)
    options.out = out "resumed"
    stop_at(3)
    interrupted(recipe { momentum = 0.9 }, options)
    local other = recipe { momentum = 0.9 }
    stop_at(6)
    interrupted(other, { resume = out "resumed" })
    local result = trained(other)
    assert.same({ 0.5, 5, 16 }, { result.lr, result.batch, result.steps })
    assert.same(numbers(whole.net), numbers(other.net))
  end)

  it("goes on with the weights that the net has now", function()
    local value = recipe { lr = 1e-30 }
    stop_at(3)
    interrupted(value, { out = out "weights" })
    cnn.no_grad(value.net.fc.weight.fill, value.net.fc.weight, 0.5)
    trained(value)
    for _, v in ipairs(engine.list(value.net.fc.weight)) do assert.equal(0.5, v) end
  end)

  it("goes on with another batch where the last one ended", function()
    local value = recipe()
    stop_at(4)
    interrupted(value, { out = out "batch" })
    value.train.batch = 4
    local result, printed = trained(value)
    assert.truthy(printed:find("goes on at epoch 1, batch 6 of 11, with batches of 4 in place of 8",
      1, true), printed)
    assert.equal(3 + 5 + 11 + 11, result.steps)
  end)

  it("starts anew after the end, after an error, and when it is told to", function()
    local value = recipe { epochs = 1 }
    stop_at(3)
    interrupted(value, { out = out "one" })
    assert.equal(6, trained(value).steps)
    local result, printed = trained(value, { out = out "two" })
    assert.equal(6, result.steps)
    assert.is_nil(printed:find "goes on")

    stop_at(3)
    interrupted(value, { out = out "three" })
    stop_at(2, { error = "as asked" })
    local ok, why = train(value)
    assert.is_false(ok)
    assert.equal("as asked", why)
    stop_at(nil)
    assert.is_nil(select(2, trained(value, { out = out "four" })):find "goes on")

    for _, options in ipairs { { resume = false, out = out "five" }, { out = out "six" } } do
      stop_at(3)
      interrupted(value, { out = out "five" })
      result, printed = trained(value, options)
      assert.is_nil(printed:find "goes on")
      assert.equal(options.out, result.out)
      assert.equal(6, result.steps)
    end
  end)

  it("still goes on after a call that could not begin", function()
    local value = recipe { epochs = 1 }
    stop_at(3)
    interrupted(value, { out = out "wrong" })
    value.train.lr = -1
    local ok, why = train(value)
    assert.is_false(ok)
    assert.truthy(why:find "lr has to be a number above 0")
    value.train.lr = 0.5
    ok, why = train(value, { seed = 5 })
    assert.is_false(ok)
    assert.equal("cnn.train: the run that was interrupted has seed 3, now it is 5; "
      .. "resume = false starts a new one", why)
    local data = value.data
    value.data = { classes = 2, train = part_of(12), test = part_of(12) }
    ok, why = train(value)
    assert.is_false(ok)
    assert.truthy(why:find "training images 44, now it is 12; resume = false starts a new one", why)
    value.data = data
    assert.truthy(select(2, trained(value)):find "goes on at epoch 1, batch 2 of 6")
  end)

  it("does not keep a recipe that nobody holds", function()
    local seen = setmetatable({}, { __mode = "k" })
    local function once()
      local value = recipe { optimizer = "adam" }
      seen[value] = true
      stop_at(3)
      interrupted(value, { out = out "weak" })
    end
    once()
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(seen))
  end)
end)

describe("an optimizer after a Ctrl-C", function()
  teardown(program.sweep)
  before_each(function() stop_at(nil) end)

  it("starts afresh where the net has changed, and says where", function()
    local value = recipe { optimizer = "adam", lr = 1e-3 }
    stop_at(8)
    interrupted(value, { out = out "swapped" })
    local net = value.net
    local old = numbers(net)
    net:insert(1, "stem", nn.Conv2d(1, 1, 1))
    net.conv = nn.Conv2d(1, 4, 3, { padding = 1 })
    net.fc = nn.Linear(144, 2)
    cnn.no_grad(net.conv.weight.copy, net.conv.weight,
      cnn.tensor(old["conv.weight"], { 4, 1, 3, 3 }))
    stop_at(1)
    local ok, _, printed = train(value)
    assert.is_false(ok)
    assert.truthy(printed:find("goes on at epoch 2, batch 1 of 6; the optimizer starts afresh for "
      .. "stem.weight, stem.bias, fc.weight\n", 1, true), printed)
    local saved = checkpoint.open(out "swapped" .. "/last.safetensors")
    local state = require "cnn.saved_run".decode(saved.metadata["cnnlua.run"])
    assert.same({ 0, 0, 7, 7, 7, 7, 0, 7 }, state.counters.counts)
    assert.same({ 2, 144 }, saved.tensors["fc.weight"].shape)
    stop_at(nil)
    assert.equal(18, trained(value).steps)
  end)

  it("starts afresh where it is another one", function()
    local value = recipe { optimizer = "adam" }
    stop_at(3)
    interrupted(value, { out = out "other" })
    value.train.optimizer, value.train.momentum = "sgd", 0.9
    local _, printed = trained(value)
    assert.truthy(printed:find("optimizer starts afresh, SGD in place of Adam", 1, true), printed)
  end)

  -- An optimizer of a script's own, with a velocity that it keeps in Lua.
  local function own(with_state)
    return function(params, options)
      local velocity = {}
      for i, p in ipairs(params) do velocity[i] = cnn.zeros(p:shape()) end
      local self = { lr = options.lr }
      function self.zero_grad() for _, p in ipairs(params) do p.grad = nil end end
      function self.step()
        cnn.no_grad(function()
          for i, p in ipairs(params) do
            velocity[i]:copy(velocity[i] * 0.9 + p.grad)
            p:copy(p - velocity[i] * self.lr)
          end
        end)
      end
      if with_state then
        function self.state()
          local named = {}
          for i, v in ipairs(velocity) do named["mine_" .. i] = v end
          return { tensors = named, kind = "own" }
        end
        function self.load_state(_, state)
          for i, v in ipairs(velocity) do v:copy(state.tensors["mine_" .. i]) end
        end
      end
      return self
    end
  end

  for _, what in ipairs { "with", "without" } do
    it(("of a script's own goes on, %s a state"):format(what), function()
      local make = own(what == "with")
      local whole = recipe { optimizer = make }
      trained(whole, { out = out "own" })
      local broken = recipe { optimizer = make }
      stop_at(9)
      interrupted(broken, { out = out "own" })
      trained(broken)
      assert.same(numbers(whole.net), numbers(broken.net))
    end)
  end

  it("of a script's own starts afresh where its state does not fit", function()
    for _, with_state in ipairs { true, false } do
      local value = recipe { optimizer = own(with_state) }
      stop_at(3)
      interrupted(value, { out = out "unfit" })
      value.net:add("last", nn.Linear(2, 2))
      local _, printed = trained(value, { epochs = 1 })
      assert.truthy(printed:find "the optimizer starts afresh", printed)
    end
  end)
end)

-- -------------------------------------------------------------------------------- the real program

-- A script on 400 pictures of its own; parts: NET, TRAIN, MORE, as Lua text.
local function script(name, parts)
  local values = {
    NET = parts.net or "nn.Sequential(nn.Flatten(), nn.Linear(64, 2))",
    TRAIN = parts.train or "{ batch = 4, epochs = 3, lr = 0.1, momentum = 0.9 }",
    MORE = parts.more or "",
  }
  return program.file(name .. ".lua", ([[
    local cnn = require "cnn"
    local nn = cnn.nn
    local images = cnn.zeros({ 400, 1, 8, 8 }, { dtype = "u8" })
    local labels = {}
    for i = 1, 400 do
      images[i]:fill(i % 2 * 100 + i % 100)
      labels[i] = i % 2 + 1
    end
    local part = { images = images, labels = labels }
    local Slow = nn.module "Slow"
    function Slow:forward(x)
      if self.training and x.device ~= "meta" then io.stderr:write "step\n" end
      return x
    end
    local recipe = { name = "slow", input = { 1, 8, 8 }, net = $NET, train = $TRAIN,
      data = { classes = 2, train = part, test = part } }
    $MORE
    return recipe
  ]]):gsub("%$(%u+)", values))
end

-- Starts a command, sends SIGINT when it has made some steps; its status, stdout and stderr.
local function stopped(words, input)
  local stdin, stdout = program.file("stdin", input or ""), program.file "stdout"
  local stderr = program.file("stderr", "") -- there before the shell looks into it
  local command = ("%s %s <%s >%s 2>%s & pid=$!; while kill -0 $pid 2>/dev/null && "
    .. "[ $(grep -c step %s) -lt 30 ]; do sleep 0.01; done; kill -INT $pid; wait $pid"):format(
    program.guarded, words, stdin, stdout, stderr, stderr)
  local status = program.shell(command)
  local err = program.read(stderr):gsub("step\n", "")
  return status, program.read(stdout), err
end

describe("Ctrl-C in the program", function()
  teardown(program.sweep)

  local net = "nn.Sequential(Slow(), nn.Flatten(), nn.Linear(64, 2))"
  local endless = { net = net, train = "{ batch = 4, epochs = 100000, lr = 0.1, momentum = 0.9 }" }

  it("gives the prompt back; cnn.train(recipe) goes on, with what is changed", function()
    local file = script("prompt", endless)
    local status, printed, err = stopped("-i " .. program.quote(file), table.concat({
      ("r = cnn.train(recipe, { out = %q })"):format(out "prompt"),
      "recipe.train.epochs, recipe.train.lr = 1 + math.floor(#net / 3), 0.05",
      "net.training",
      "r = cnn.train(recipe)",
      "r.epochs",
      "r.out",
    }, "\n"))
    assert.equal(0, status, err)
    assert.truthy(err:find("^interrupted at step %d+; cnn.train%(recipe%) again goes on %(from the "
      .. "shell: %-%-resume [^\n]*/prompt%)\n$"), err)
    assert.truthy(printed:find "\ntrue\n.*goes on at epoch %d+, batch %d+ of 100\n", printed)
    assert.truthy(printed:find("results in " .. out "prompt" .. "\n", 1, true))
  end)

  it("leaves neither gradients off nor a step open, wherever it strikes", function()
    local r = program.ok("", { input = table.concat({
      "ffi = require 'ffi' ffi.cdef 'int raise(int number);' C = require 'cnn.ffi'.C",
      "cnn.set_grad_enabled(false) ffi.C.raise(2) repeat until false",
      "cnn.is_grad_enabled()",
      "C.cnn_step_begin() ffi.C.raise(2) repeat until false",
      "x = cnn.step(function() return cnn.ones(2):sum() end)", "x:item()",
    }, "\n") })
    assert.equal("interrupted\ninterrupted\n", r.err)
    assert.equal("true\n2\n", r.out)
  end)

  it("is caught by a script's pcall, which may go on", function()
    local file = script("caught", { net = net, train = endless.train, more = ([[
      local ok, why = pcall(cnn.train, recipe, { out = %q })
      assert(not ok, "it was to be stopped")
      print(why)
      recipe.train.epochs = 1
      local result = cnn.train(recipe)
      print("ended", result.out)
      recipe = nil]]):format(out "caught") })
    local status, printed, err = stopped(program.quote(file))
    assert.equal(0, status, err)
    assert.equal("", err)
    assert.truthy(printed:find "interrupted at step %d+; cnn.train%(recipe%) again goes on.*"
      .. "goes on at epoch %d+.*\nended\t[^\n]*/caught\n$", printed)
  end)

  it("tells the shell how to go on", function()
    local status, _, err = stopped(("%s --out %s"):format(program.quote(script("shell", endless)),
      program.quote(out "shell")))
    assert.equal(130, status)
    assert.truthy(err:find "^cnnlua: interrupted at step %d+; %-%-resume [^\n]*/shell goes on\n$",
      err)
  end)
end)

describe("a prompt that was started with options", function()
  teardown(program.sweep)

  it("may give pictures another size than the script's data", function()
    local file = script("resized", { net = "nn.Sequential(nn.Flatten(), nn.Linear(nil, 2))",
      more = "recipe.data.resize = { 8, 8 }" })
    local r = program.ok(("-i %s --resize 12 --epochs 1"):format(program.quote(file)), {
      input = ("cnn.train(recipe, { quiet = true, out = %q }).steps\nnet[2].weight:size(2)")
        :format(out "resized"),
    })
    assert.truthy(r.out:find "\n100\n144\n$", r.out .. r.err)
  end)

  it("has them in force for cnn.train(recipe), which does what train does with them", function()
    local file, words = program.quote(script("options", {})), " --limit 20 --epochs 2 --seed 5"
    program.ok(("train %s %s --quiet --out %s"):format(file, words, program.quote(out "shell")))
    local r = program.ok(("-i %s %s"):format(file, words), { input = table.concat({
      ("r = cnn.train(recipe, { quiet = true, out = %q })"):format(out "prompt"),
      "r.steps", "r.seed",
      ("cnn.train(recipe, { quiet = true, limit = 40, out = %q }).steps"):format(out "more"),
      ("cnn.train(recipe, { quiet = true, resume = %q, epochs = 3 }).steps"):format(out "more"),
      "recipe.limit",
    }, "\n") })
    assert.equal("", r.err)
    assert.equal("10\n5\n20\n30\nnil\n", (r.out:gsub("[^\n]* [^\n]*\n", "")))
    assert.same(metrics "shell", metrics "prompt")
  end)
end)
