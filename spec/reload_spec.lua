-- cnn.reload: which tensors go over into the net of an edited script, what the account says, and
-- that whatever goes wrong leaves all as it was.

local C = require "cnn.ffi".C
local cnn = require "cnn"
local members = require "cnn.members"
local errors = require "spec.support.errors"
local program = require "spec.support.program"
local scripts = require "spec.support.named_layers"

local nn = cnn.nn
local script, write, loaded = scripts.text, scripts.write, scripts.load

local function reload(net, file, options)
  options = options or {}
  options.quiet = true
  return cnn.reload(net, file, options)
end

local function tensors(net)
  local list = {}
  members.walk(net, function(name, value, kind)
    if kind ~= "module" then list[name] = value end
  end)
  return list
end

local conv, bn, flat = "conv = nn.Conv2d(1, 4, 3)", "bn = nn.BatchNorm2d(4)", "flat = nn.Flatten()"

describe("cnn.reload", function()
  teardown(program.sweep)

  it("carries what has its name and shape, and accounts for the rest", function()
    local net, _, file = loaded { layers = { conv, bn, flat, "fc = nn.Linear(64, 2)",
      "last = nn.Linear(2, 2)" } }
    local before = tensors(net)
    write { layers = { conv, bn, "more = nn.Conv2d(4, 3, 1)", flat, "fc = nn.Linear(48, 2)" } }
    local same, recipe, account = reload(net, file)
    assert.equal(net, same)
    assert.equal(net, recipe.net)
    assert.equal("7 of 10 tensors carried; new: more.weight 3x4x1x1, more.bias 3; "
      .. "gone: last.weight 2x2, last.bias 2; another shape: fc.weight 2x64 -> 2x48",
      tostring(account))
    assert.equal(7, account.carried)
    assert.same({ "fc.weight 2x64 -> 2x48" }, account.reshaped)
    local after = tensors(net)
    for _, name in ipairs { "conv.weight", "conv.bias", "bn.weight", "bn.bias", "bn.running_mean",
      "bn.running_var", "fc.bias" } do
      assert.is_true(rawequal(before[name], after[name]), name)
    end
    assert.equal("2x48", tostring(net.fc.weight:shape()))
    assert.equal("1x2", tostring(net(cnn.rand(1, 1, 6, 6)):shape()))
    net:train()
    net(cnn.rand(4, 1, 6, 6))
    assert.are_not.equal(0, before["bn.running_mean"][1]:item())
  end)

  it("prints the account, short where the net is big", function()
    local layers = { flat }
    for i = 1, 40 do layers[i + 1] = ("l%d = nn.Linear(36, 36)"):format(i) end
    local net, _, file = loaded { layers = { flat, "l1 = nn.Linear(36, 36)" } }
    write { layers = layers }
    local lines, was = {}, _G.print
    _G.print = function(line) lines[#lines + 1] = line end
    local ok, why = pcall(cnn.reload, net, file)
    _G.print = was
    assert.is_true(ok, why)
    assert.same({ "2 of 80 tensors carried; new: l2.weight 36x36, l2.bias 36, l3.weight 36x36, "
      .. "l3.bias 36 and 74 more" }, lines)
  end)

  it("lets an optimizer go on with the weights that it has", function()
    local net, _, file = loaded { layers = { flat, "fc = nn.Linear(36, 2)" } }
    local opt = cnn.optim.SGD(net:parameters(), { lr = 1 })
    net(cnn.ones(1, 1, 6, 6)):sum():backward()
    local grad, before = net.fc.weight.grad:totable(), net.fc.weight:totable()
    write { layers = { flat, "fc = nn.Linear(36, 2)", "relu = nn.ReLU()" } }
    reload(net, file)
    assert.same(grad, net.fc.weight.grad:totable())
    opt:step()
    assert.is_true(math.abs(before[1][1] - 1 - net.fc.weight:totable()[1][1]) < 1e-6)
  end)

  it("makes the table itself the new net, class and all", function()
    local block = [[
      local Mine = nn.module "Mine"
      function Mine:init() self.fc = nn.Linear(36, 2) end
      function Mine:forward(x) return self.fc(x:flatten(2)) end]]
    local net, recipe, file = loaded { before = block, net = "Mine()" }
    local outer, weight = nn.Sequential(net), net.fc.weight
    local old = net.fc
    write {
      layers = { flat, "fc = nn.Linear(36, 2)" },
      more = "get = function() return net end, (function() reload_net = net end)()",
    }
    local _, now = reload(net, file, { recipe = recipe })
    assert.equal(recipe, now)
    assert.is_true(net:is(nn.Sequential))
    assert.equal(2, #net)
    assert.is_true(rawequal(weight, net[2].weight))
    assert.equal(net, recipe.net)
    assert.equal(net, recipe.script.net)
    assert.equal(net.fc, recipe.script.get().fc)
    assert.equal(net, _G.reload_net)
    _G.reload_net = nil
    assert.equal(net, outer[1])
    assert.equal(net, members.parent(net.fc))
    assert.is_nil(members.parent(old))
    errors.expect("net%[1%]%.fc Linear%(36, 2%): expected 36 features, got 4", function()
      net(cnn.ones(1, 1, 2, 2))
    end)
    write { before = block, net = "Mine()" }
    reload(net, file)
    assert.equal("Mine", net.kind)
    assert.is_nil(rawget(net, 2))
    assert.is_true(rawequal(weight, net.fc.weight))
  end)

  it("gives tied weights and shared layers their values when they come apart", function()
    local tied = [[
      local Pair = nn.module "Pair"
      function Pair:init()
        self.a = nn.Linear(36, 36)
        self.b = %s
        self.c = nn.Linear(36, 2)
        %s
      end
      function Pair:forward(x) return self.c(self.b(self.a(x:flatten(2)))) end]]
    local net, _, file = loaded { before = tied:format("self.a", ""), net = "Pair()" }
    local weight = net.a.weight
    write { before = tied:format("nn.Linear(36, 36)", ""), net = "Pair()" }
    local _, _, account = reload(net, file)
    assert.equal("6 of 6 tensors carried", tostring(account))
    assert.is_true(rawequal(weight, net.a.weight))
    assert.is_false(rawequal(weight, net.b.weight))
    assert.same(weight:totable(), net.b.weight:totable())
    write { before = tied:format("nn.Linear(36, 36)", "self.b.weight = self.a.weight"),
      net = "Pair()" }
    reload(net, file)
    assert.is_true(rawequal(weight, net.b.weight))
    assert.equal(5, #net:parameters())
  end)

  it("builds layers whose size was left open", function()
    local layers = { flat, "fc = nn.Linear(nil, 2)" }
    local file = write { layers = layers }
    local net = require "cnn.recipe".load(file, {}).net
    local _, _, account = reload(net, file)
    assert.equal("0 of 2 tensors carried; new: fc.weight 2x36, fc.bias 2", tostring(account))
    local weight = net.fc.weight
    write { layers = { "conv = nn.Conv2d(nil, 1, 3, { padding = 1 })", unpack(layers) } }
    assert.equal(2, select(3, reload(net, file)).carried)
    assert.is_true(rawequal(weight, net.fc.weight))
    assert.equal(1, net.conv.weight:size(2))
    _, _, account = reload(net, file, { resize = 8 })
    assert.equal("3 of 4 tensors carried; another shape: fc.weight 2x36 -> 2x64", tostring(account))
  end)

  it("keeps the net on its device", function()
    local net, _, file = loaded { layers = { conv, bn, flat } }
    net:to "meta"
    local before = tensors(net)
    write { layers = { conv, bn, flat, "fc = nn.Linear(64, 2)" } }
    reload(net, file)
    for name, x in pairs(tensors(net)) do
      assert.equal("meta", x.device)
      if before[name] then assert.is_true(rawequal(before[name], x), name) end
    end
  end)

  it("keeps modes, and what is frozen", function()
    local layers = { conv, bn, flat, "fc = nn.Linear(64, 2)" }
    local net, _, file = loaded { layers = layers }
    net:train()
    net.bn:eval()
    net.conv.weight.requires_grad = false
    write { layers = layers, before = "-- again", more = [[
      nothing = (function() net.fc.bias.requires_grad = false end)()]] }
    local _, _, account = reload(net, file)
    assert.is_true(net.training and net.fc.training)
    assert.is_false(net.bn.training)
    assert.is_false(net.conv.weight.requires_grad)
    assert.is_false(net.fc.bias.requires_grad)
    assert.is_true(net.fc.weight.requires_grad)
    assert.equal("8 of 8 tensors carried; frozen by the script now: fc.bias; "
      .. "frozen as before: conv.weight", tostring(account))
    net:eval()
    write { layers = { "new = nn.BatchNorm2d(1)", unpack(layers) } }
    reload(net, file)
    assert.is_false(net.training or net.new.training or net.conv.training)
  end)

  it("keeps taps, on the net itself and on layers that stay", function()
    local layers = { flat, "fc = nn.Linear(36, 2)", "last = nn.ReLU()" }
    local net, _, file = loaded { layers = layers }
    local seen = {}
    local function note(out, _, path) seen[#seen + 1] = path .. " " .. tostring(out:shape()) end
    local whole, fc = net:tap("net", note), net:tap("fc", note)
    net:tap("last", note)
    write { layers = { flat, "fc = nn.Linear(36, 3)", "last = nn.Tanh()" } }
    reload(net, file)
    net(cnn.ones(1, 1, 6, 6))
    assert.same({ "fc 1x3", "net 1x3" }, seen)
    whole:remove()
    fc:remove()
    net(cnn.ones(1, 1, 6, 6))
    assert.equal(2, #seen)
    local again = net:tap("fc", note)
    program.write(file, "return 7")
    errors.message(reload, net, file)
    net(cnn.ones(1, 1, 6, 6))
    assert.equal(3, #seen)
    again:remove()
  end)

  it("leaves the random numbers alone, and draws fresh weights that no other has", function()
    local net, _, file = loaded { layers = { flat, "a = nn.Linear(36, 36)" } }
    cnn.manual_seed(9)
    cnn.rand(1)
    local stream = C.cnn_rng_stream()
    write { before = "cnn.manual_seed(4)", layers = { flat, "a = nn.Linear(36, 36)",
      "b = nn.Linear(36, 36)" } }
    reload(net, file)
    assert.equal(9, tonumber(C.cnn_seed()))
    assert.equal(stream, C.cnn_rng_stream())
    write { layers = { flat, "a = nn.Linear(36, 36)", "c = nn.Linear(36, 36)",
      "b = nn.Linear(36, 36)" } }
    reload(net, file)
    local a, b, c = net.a.weight:totable(), net.b.weight:totable(), net.c.weight:totable()
    assert.are_not.same(a, b)
    assert.are_not.same(b, c)
    assert.are_not.same(a, c)
    assert.are_not.same(c, cnn.nn.Linear(36, 36).weight:totable())
  end)

  it("keeps the script's own options in force", function()
    local recipe = require "cnn.recipe"
    local file = write { before = "local opt = cnn.options { width = 3 }",
      layers = { flat, "fc = nn.Linear(36, opt.width)" } }
    local net = recipe.load(file, { set = { "width=5" } }).net
    finally(function() recipe.prepare {} end)
    reload(net, file)
    assert.equal(5, net.fc.weight:size(1))
    reload(net, file, { set = { width = 4 } })
    assert.equal(4, net.fc.weight:size(1))
    reload(net, file)
    assert.equal(4, net.fc.weight:size(1))
    errors.message(reload, net, file, { set = { wide = 4 } })
    assert.same({ "width=4" }, recipe.script_options())
  end)
end)

describe("cnn.reload brings a recipe up to date", function()
  teardown(program.sweep)

  local layers = { flat, "fc = nn.Linear(36, 2)" }

  it("with what the script says anew, and keeps what was set since", function()
    local net, recipe, file = loaded { layers = layers,
      train = "{ batch = 8, lr = 0.5, epochs = 2, augment = 'flip' }" }
    local train = recipe.train
    train.epochs, train.momentum, train.augment = 7, 0.9, nil
    write { layers = layers, train = "{ batch = 8, lr = 0.25, epochs = 2, augment = 'flip' }" }
    local _, now, account = reload(net, file, { recipe = recipe })
    assert.equal(recipe, now)
    assert.equal(train, recipe.train)
    assert.equal(net, recipe.net)
    assert.equal(0.25, train.lr)
    assert.equal(7, train.epochs)
    assert.equal(0.9, train.momentum)
    assert.is_nil(train.augment)
    assert.truthy(tostring(account):find("\nrecipe: lr 0.5 -> 0.25", 1, true), tostring(account))
    write { layers = layers, train = "{ batch = 8, lr = 0.25, epochs = 3 }" }
    reload(net, file, { recipe = recipe })
    assert.equal(3, train.epochs)
    assert.equal(0.9, train.momentum)
  end)

  it("with all fields where it is the script's own table", function()
    local file = write { layers = layers, more = "old = 1" }
    local recipe = dofile(file)
    recipe.train.lr = 0.125
    write { layers = layers, more = "fresh = 2" }
    local _, _, account = reload(recipe.net, file, { recipe = recipe })
    assert.is_nil(recipe.old)
    assert.equal(2, recipe.fresh)
    assert.equal(0.5, recipe.train.lr)
    assert.truthy(tostring(account):find("recipe: lr 0.125 -> 0.5", 1, true))
  end)

  it("by itself, where the prompt has said which", function()
    local default = cnn.reload
    local net, recipe, file = loaded { layers = layers }
    default.script = { file = file, options = { lr = 0.75 }, words = { "word" }, recipe = recipe }
    finally(function() default.script = nil end)
    write { layers = layers, more = "words = { ... }" }
    recipe.train.lr = 0.75
    local same, now = cnn.reload(nil, nil, { quiet = true })
    assert.equal(net, same)
    assert.equal(recipe, now)
    assert.same({ "word" }, recipe.script.words)
    assert.equal(0.75, recipe.train.lr)
  end)
end)

describe("cnn.reload and the files that a script requires", function()
  teardown(program.sweep)

  local function block(name, body)
    program.file(name .. ".lua", [[
      local nn = require "cnn".nn
      ]] .. body)
  end

  local one = 'local One = nn.module "One"\n'
    .. 'function One:init(n) self.fc = nn.Linear(36, n) end\n'
    .. 'function One:forward(x) return self.fc(x:flatten(2)) end\nreturn One'

  it("runs those again that have changed, and those that require them", function()
    block("reload_one", one)
    block("reload_two", 'return { One = require "reload_one", nn = nn }')
    block("reload_three", "return nn.module 'Three'")
    local parts = {
      before = 'local two, three = require "reload_two", require("reload_three")',
      net = "two.One(2)", more = "three = three",
    }
    local net, recipe, file = loaded(parts)
    local class, three = getmetatable(net), recipe.script.three
    local weight = net.fc.weight
    reload(net, file)
    assert.equal(class, getmetatable(net))
    block("reload_one", (one:gsub("x:flatten%(2%)", "x:flatten(2) * 2")))
    local _, now = reload(net, file)
    assert.are_not.equal(class, getmetatable(net))
    assert.equal(package.loaded.reload_one, getmetatable(net))
    assert.equal(three, now.script.three)
    assert.is_true(rawequal(weight, net.fc.weight))
    local x = cnn.ones(1, 1, 6, 6)
    assert.same(net.fc(x:flatten(2) * 2):totable(), net(x):totable())
  end)

  it("tells where one is wrong, and takes it up when it is right again", function()
    block("reload_four", one)
    local net, _, file = loaded { before = 'local One = require "reload_four"', net = "One(2)" }
    local class = package.loaded.reload_four
    for _, body in ipairs { "local x = = 1", "error 'boo'" } do
      block("reload_four", body)
      for _ = 1, 2 do
        local why = errors.message(reload, net, file)
        assert.truthy(why:find "reload_four.lua:2: .*the net is as it was$", why)
        assert.equal(class, package.loaded.reload_four)
        assert.equal(class, getmetatable(net))
      end
    end
    block("reload_four", one)
    reload(net, file)
    assert.equal(package.loaded.reload_four, getmetatable(net))
  end)

  it("does not let two scripts have one net", function()
    program.file("reload_base.lua", script { layers = { flat, "fc = nn.Linear(36, 2)" } })
    local net, _, file = loaded {
      before = 'local base = require "reload_base"', net = "base.net",
      layers = { "relu = nn.ReLU()" },
    }
    local weight = net.fc.weight
    reload(net, file)
    assert.equal(3, #net)
    assert.is_true(rawequal(weight, net.fc.weight))
  end)
end)

describe("a script that cannot be reloaded", function()
  teardown(program.sweep)

  local fine = { flat, "fc = nn.Linear(36, 2)" }

  -- what is in the file, and what is said
  local wrong = {
    { "a syntax error", "return {\n  net = = 1 }", "mine.lua:2: unexpected symbol near '='" },
    { "an error", "local t\nt.x = 1", "mine.lua:2: attempt to index local 't'" },
    { "an error that is no text", "error {}", "mine.lua: table: " },
    { "nothing", "", "mine.lua returns nothing; a recipe is wanted" },
    { "no recipe", "return 7", "mine.lua returns a number; a recipe is wanted" },
    { "no net", "return { input = { 1, 6, 6 }, train = {} }", "mine.lua: the recipe has no net" },
    { "a wrong setting", script { layers = fine, train = "{ lr = -1 }" },
      "mine.lua: the recipe's lr has to be a number above 0, got %-1" },
    { "a wrong argument", script { layers = { "fc = nn.Linear(0, 2)" } },
      "mine.lua:%d+: nn.Linear: features_in: expected a whole number >= 1, got 0" },
    { "shapes that do not fit", script { layers = { flat, "fc = nn.Linear(35, 2)" } },
      "mine.lua:%d+: net.fc Linear%(35, 2%): expected 35 features, got 36" },
    { "a file that it requires and is not there", "require 'reload_nowhere'",
      "mine.lua:1: module 'reload_nowhere' not found" },
  }

  for _, row in ipairs(wrong) do
    local what, text, pattern = unpack(row)
    it("for " .. what .. " leaves all as it was", function()
      local net, recipe, file = loaded { layers = fine }
      net:eval()
      local before, printed = tensors(net), tostring(net)
      local class, stream, train = getmetatable(net), C.cnn_rng_stream(), recipe.train
      program.write(file, text)
      local why = errors.message(reload, net, file, { recipe = recipe })
      assert.truthy(why:find(pattern), why)
      assert.truthy(why:find "; the net is as it was$", why)
      assert.equal(class, getmetatable(net))
      assert.equal(printed, tostring(net))
      assert.is_false(net.training or net.fc.training)
      for name, x in pairs(tensors(net)) do assert.is_true(rawequal(before[name], x), name) end
      assert.equal(stream, C.cnn_rng_stream())
      assert.equal(train, recipe.train)
      assert.equal(net, recipe.net)
      write { layers = fine }
      assert.equal(2, select(3, reload(net, file, { recipe = recipe })).carried)
    end)
  end

  it("is not there", function()
    local net = loaded { layers = fine }
    assert.truthy(errors.message(reload, net, "nowhere.lua"):find
      "cannot open nowhere.lua: No such file.*the net is as it was$")
  end)

  it("by wrong arguments says what is expected", function()
    local net, _, file = loaded { layers = fine }
    local expect = errors.expect
    expect("cnn.reload%(net, file%): net: expected a module.*got nil", cnn.reload)
    expect("file: expected the script's name, got nil", cnn.reload, net)
    expect("file: expected a string, got 5", cnn.reload, net, 5)
    expect("unknown option 'quite'.*did you mean 'quiet'", cnn.reload, net, file, { quite = 1 })
    expect("recipe: expected a recipe, got 1", cnn.reload, net, file, { recipe = 1 })
    expect("set: expected a table such as { ratio = 4 }", cnn.reload, net, file, { set = "a=1" })
    expect("resize: expected a whole number", cnn.reload, net, file, { resize = "big" })
    expect("cnn.watch: unknown option 'quiet'", cnn.watch, net, file, { quiet = true })
    expect("cnn.watch: every: expected a finite number >= 0", cnn.watch, net, file, { every = -1 })
    expect("cnn.watch: report: expected a function", cnn.watch, net, file, { report = "x" })
  end)
end)

describe("the prompt of a script", function()
  teardown(program.sweep)

  it("reloads it by cnn.reload() and by cnn.watch()", function()
    local file = write { layers = { flat, "fc = nn.Linear(36, 2)" } }
    local function save(layer)
      return ("f = io.open(%q, 'w') f:write(%q) f:close()"):format(file, script {
        layers = { flat, "fc = nn.Linear(36, 2)", layer }, train = "{ lr = 0.25 }" })
        :gsub("\\\n", "\\n")
    end
    local r = program.ok("-i " .. program.quote(file) .. " --epochs 9", { input = table.concat({
      save "a = nn.ReLU()", "cnn.reload()", "#net", "recipe.train.lr", "recipe.train.epochs",
      "w = cnn.watch()", save "b = nn.Sigmoid()", "net.b", "recipe.net == net", "w:stop()",
      save "c = nn.ReLU()", "#net",
    }, "\n") })
    assert.equal("", r.err)
    assert.equal("2 of 2 tensors carried\nrecipe: batch 8 -> 128, lr 0.5 -> 0.25\n3\n0.25\n9\n"
      .. file .. ": 2 of 2 tensors carried\nSigmoid()\ntrue\n3\n", r.out)
  end)
end)
