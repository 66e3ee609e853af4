-- Help as it is asked for: ?name at the prompt, cnnlua help, and what it says of one's own things.

local cnn = require "cnn"
local nn = cnn.nn
local arguments = require "cnn.arguments"
local docs = require "cnn.prompt.docs"
local help = require "cnn.help"
local program = require "spec.support.program"
local tour = require "cnn.prompt.tour"
local typed = require "spec.support.typed"

local script = program.file("mine.lua", [[
local nn = require "cnn".nn
local mine = {}
mine.Scale = nn.module "Scale"
-- Multiplies each channel by a number of its own.
function mine.Scale:init(channels, options) self.gamma = options end
function mine.Scale:forward(x) return x end

--- mine.twice(x, { times = 2 })
-- Doubles a thing.
-- Options: times: how often
function mine.twice(x, options) return x, options end
-- How much of it.
function mine.plain(a, b, ...) return a, b, ... end
function mine.bare() end
return mine
]])

local environment = setmetatable({
  cnn = cnn, nn = nn, y = cnn.rand(2, 3), net = nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU()),
  mine = dofile(script), word = "hello", list = { 1, 2, a = 3 },
}, { __index = _G })
environment.net:add("fc", nn.Linear(10, 4))
environment.scale = environment.mine.Scale(3)
environment.opt = cnn.optim.SGD(environment.net:parameters(), { lr = 0.1 })
environment.opener = program.write
environment.data = (function()
  local part = { images = cnn.zeros({ 2, 1, 8, 8 }, { dtype = "u8" }), labels = { 1, 2 } }
  return cnn.data.from { train = part, test = part, classes = 2 }
end)()

local function shown(topic, options)
  local text, found = help.show(topic, environment, options or { width = 80 })
  return text, found
end

-- topic, and what its text has, in this order
local topics = {
  { "nn.Conv2d", "^nn%.Conv2d%(channels_in, channels_out, kernel, { stride = 1, padding = 0,",
    "Shapes   NxCxHxW %-> ", "stride = 1    pixels", "Errors ", "Example  nn%.Conv2d%(1, 96" },
  { "x.narrow", "^x:narrow%(axis, start, length%)\n", "Shapes ", "Errors ", "Example  cnn%." },
  { "x:narrow", "^x:narrow%(axis" },
  { "x:narrow(1, 2, 3)", "^x:narrow%(axis" },
  { "nn.Conv2d(3, 4)", "^nn%.Conv2d%(" },
  { "train", "^cnn%.train%(", "also: net:train, cnnlua train %-%-help" },
  { "conv2d", "^nn%.Conv2d%(", "also: x:conv2d" },
  { "RELU", "^nn%.ReLU%(", "also: x:relu" },
  { "cnn.relu", "^x:relu%(%)\n  max%(x, 0%)", "See      nn%.ReLU$" },
  { "cnn.tensor", "^cnn%.tensor%(values, shape, {" },
  { "stride", "^x:stride%(axis%)", "stride is an option of nn%.AvgPool2d, nn%.Conv2d" },
  { "cnn.step", "cnn%.step%(function%(%)\n             local loss = .*\n           end%)\n" },
  { "optim.SGD", "^cnn%.optim%.SGD%(params, { lr, momentum = 0" },
  { "cnn.ones", "dtype = \"f32\"  ", "device = \"cpu\" " },
  { "x.grad", "^x%.grad\n" },
  { "net.training", "^net%.training\n" },
  { "x:adam", "Source   Kingma, Ba 2015" },
  { "y.narrow", "^x:narrow" },
  { "y[1]", "^y%[1%]: a tensor\n" },
  { "y.dtype", "^x%.dtype" },
  { "y", "^y: f32%[2x3%] cpu\n", "%?tensor lists" },
  { "net", "^net: Sequential, 200 parameters\n", "net:shapes " },
  { "net.maps", "^net:maps%(" },
  { "net.fc", "^net%.fc: Linear%(10, 4%), 44 parameters\n", "nn%.Linear%(features_in" },
  { "net[1]", "^net%[1%]: Conv2d%(1, 6, 5%)" },
  { "net.1", "^net%[1%]: Conv2d%(1, 6, 5%)" },
  { "net[1].weight", "^net%[1%]%.weight: f32%[6x1x5x5%] cpu, requires grad" },
  { "data", "split:batches " },
  { "data.train", "2 images of 1x8x8, 128 a batch\n", "split:batches " },
  { "data.train.batches", "^split:batches%(" },
  { "data.train:batches", "^split:batches%(" },
  { "opt.step", "^opt:step%(%)" },
  { "scale", "^scale: Scale%(3%)\n", "Scale%(channels, options%)\n  Multiplies each channel" },
  { "mine.Scale", "^Scale%(channels, options%)\n  Multiplies each channel", "in %S*mine%.lua:5" },
  { "mine.twice", "^mine%.twice%(x, { times = 2 }%)\n  Doubles a thing%.\n", "times = 2  how" },
  { "mine.plain", "^mine%.plain%(a, b, %.%.%.%)\n  How much of it%.\n  in %S*mine%.lua:13$" },
  { "mine.bare", "^mine%.bare%(%)\n  in " },
  { "word", "^word: 'hello'$" },
  { "list", "^list: { 1, 2, a = 3 }$" },
  { "print", "^print: a function of LuaJIT's own" },
  { "bench", "^cnnlua bench FILE\n", "cnnlua bench %-%-help" },
  { "nn", "nn%.Conv2d +%u", "nn%.Linear +", "nn%.op +" },
  { "cnn", "cnn%.arange +", "cnn%.zeros +" },
  { "tensor", "x%.grad +", "x:add +a %+ b\n", "x:view +" },
  { "cnn.optim", "cnn%.optim%.SGD +", "opt:step +" },
  { "image", "cnn%.image%.read +", "picture:png +" },
  { "module", "net:add +", "net:zero_grad +" },
  { "nn.init", "nn%.init%.zeros +" },
  { "commands", "cnnlua train +", "cnnlua help +" },
}

-- what is typed, and the line that answers
local misses = {
  { "Conv2", "no help on 'Conv2'; did you mean nn.Conv2d?" },
  { "nn.Conv2", "no help on 'nn.Conv2'; did you mean nn.Conv2d?" },
  { "x.narow", "no help on 'x.narow'; did you mean x:narrow?" },
  { "y.narow", "no help on 'y.narow'; did you mean y.narrow?" },
  { "cnn.trian", "no help on 'cnn.trian'; did you mean cnn.train?" },
  { "net.trian", "no help on 'net.trian'; did you mean net.train?" },
  { "net.fd", "no help on 'net.fd'; did you mean net.fc?" },
  { "net.nothing", "no help on 'net.nothing'; its layers are 1, 2, fc" },
  { "pool", "no help on 'pool'; did you mean nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.MaxPool2d?" },
  { "momentum", "no help on 'momentum'; momentum is an option of nn.BatchNorm1d, nn.BatchNorm2d, "
    .. "cnn.optim.SGD" },
  { "dropouts", "no help on 'dropouts'; did you mean nn.Dropout?" },
  { "learning_rate", "no help on 'learning_rate'; it is spoken of in cnn.optim.Adam, "
    .. "cnn.optim.AdamW, cnn.optim.SGD, cnn.optim.schedule.step" },
  { "x.qqqqq", "no help on 'x.qqqqq'; nn, cnn, tensor, module, optim, data and image list what "
    .. "there is" },
}

describe("help", function()
  teardown(program.sweep)

  for _, row in ipairs(topics) do
    it("shows " .. row[1], function()
      local text, found = shown(row[1])
      assert.is_true(found)
      local at = 1
      for i = 2, #row do
        local first, last = text:find(row[i], at)
        assert(first, ("expected '%s' in:\n%s"):format(row[i], text))
        at = last + 1
      end
    end)
  end

  for _, row in ipairs(misses) do
    it("answers the slip " .. row[1], function()
      local text, found = shown(row[1])
      assert.is_false(found)
      assert.equal(row[2], text)
    end)
  end

  it("takes whatever is typed", function()
    for _, topic in ipairs {
      "?", " nn . Conv2d ", "(", "[[", "net[", "net[99]", "net..", ".", ":", "-i", "\0\1\2", "%d",
      "a%", ("x"):rep(1e6), "nn.Conv2d\nnn.Linear", "_G", "mine.Scale.nothing", "y.shape.nothing",
    } do
      assert.equal("string", type((shown(topic))))
    end
  end)

  it("has the names and options that completion asks for", function()
    local names = help.names()
    assert.is_true(#names > 200)
    for i = 2, #names do assert.is_true(names[i - 1] < names[i]) end
    local options = help.entry "nn.Conv2d".options
    assert.equal("stride", options[1].name)
    assert.equal("1", options[1].default)
    assert.equal(5, #options)
    assert.is_nil(help.entry "nn.Conv3d")
  end)
end)

describe("the width of help", function()
  -- A word may be longer than a line; it then stands alone in it.
  local function widest(text, width)
    for line in (text .. "\n"):gmatch "(.-)\n" do
      if #line > width and line:match "^%s*%S+%s+%S" then return line end
    end
  end

  for _, width in ipairs { 80, 60, 40, 20 } do
    it("is at most " .. width, function()
      for _, name in ipairs(help.names()) do
        assert.is_nil(widest(shown(name, { width = width }), width), name)
      end
      for _, topic in ipairs { "", "nn", "tensor", "cnn", "commands", "net", "data" } do
        assert.is_nil(widest(shown(topic, { width = width }), width), topic)
      end
    end)
  end

  it("gives a line to each name of a list", function()
    local lines = 0
    for _ in (shown "tensor" .. "\n"):gmatch "\n" do lines = lines + 1 end
    local names = 0
    for _, name in ipairs(help.names()) do
      if name:find "^x[.:%[]" then names = names + 1 end
    end
    assert.equal(names, lines)
  end)
end)

describe("the tour", function()
  teardown(program.sweep)

  local function lines_of(text)
    local lines = {}
    for line in (text .. "\n"):gmatch "(.-)\n" do lines[#lines + 1] = line end
    return lines
  end

  it("is one screen, with the names at hand", function()
    for _, scope in ipairs { {}, environment } do
      local text = help.show("", scope, { width = 80 })
      assert.is_true(#lines_of(text) <= 24, text)
    end
    local text = help.show("", environment, { width = 80 })
    assert.truthy(text:find("net (Sequential)", 1, true), text)
    assert.truthy(text:find("y (f32[2x3] cpu)", 1, true), text)
    assert.is_nil(text:find("net = nn.Sequential", 1, true))
  end)

  it("can be typed, line by line, at an empty prompt and at a script's", function()
    local function code_of(rows)
      local code = {}
      for i, row in ipairs(rows) do code[i] = row[2] end
      return table.concat(code, "\n") .. "\n"
    end
    local net = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
    local recipe = { net = net, input = { 1, 16, 16 }, script = {} }
    local _, complaints = typed.run {
      { "script", code_of(tour.rows { net = net, recipe = recipe }) },
      { "empty", "net, recipe = nil\n" .. code_of(tour.rows()):gsub("1, 28, 28", "1, 16, 16")
        :gsub("recipe = { net = net", "%0, data = data") },
    }
    assert.equal("", complaints.script)
    assert.equal("", complaints.empty)
  end)
end)

describe("cnnlua help", function()
  teardown(program.sweep)

  it("prints what the prompt shows", function()
    for _, topic in ipairs { "nn.Conv2d", "x.narrow", "nn" } do
      assert.equal(help.show(topic, nil, { width = 80 }) .. "\n", program.ok("help " .. topic).out)
    end
    assert.equal(help.show("nn.Conv2d", environment, { width = 80 }) .. "\n",
      program.ok("", { input = "?nn.Conv2d\n" }).out)
  end)

  it("prints the tour and the lists without a topic", function()
    local out = program.ok("help").out
    assert.truthy(out:find("net:shapes { 1, 1, 28, 28 }", 1, true))
    for name in ("nn nn.init tensor module optim data image cnn"):gmatch "%S+" do
      assert.truthy(out:find("\ncnnlua help " .. name .. " ", 1, true), name)
    end
  end)

  it("refuses what it does not know in one line", function()
    program.refuses("help Conv2", 2, "help: no help on 'Conv2'; did you mean nn%.Conv2d%?")
    program.refuses("help nn.Conv2d x.narrow", 2, "too many arguments")
  end)

  it("is there for every command", function()
    for _, command in ipairs(arguments.list()) do
      assert.is_true(select(2, help.show(command.name, nil, { width = 80 })), command.name)
    end
  end)

  it("reads the same under a stock luajit and in the program", function()
    local code = program.quote [[print(table.concat(require "cnn.help".names(), "\n"))]]
    local names = table.concat(docs.names(), "\n") .. "\n"
    assert.equal(names, program.ok("-e " .. code).out)
  end)
end)
