-- The prompt as it is used: in a terminal, with keys, pastes, Tab, history and Ctrl-C.

local program = require "spec.support.program"
local terminal = require "spec.support.terminal"

local missing = terminal.missing()

-- What it does, in a terminal of its own.
local function session(what, words, options, fn)
  it(what, function()
    if missing then return pending(missing .. ": " .. what) end
    local t = terminal.start(words, options)
    t:wait ">$"
    fn(t)
    t:stop()
  end)
end

local function sweep()
  terminal.sweep()
  program.sweep()
end

-- A run that the prompt can stop: many epochs on few images.
local LENET = "-i models/bn_lenet.lua --limit 2000 --epochs 500"

describe("at the prompt in a terminal", function()
  teardown(sweep)

  session("values are printed and named", "", nil, function(t)
    t:enter "local a = 6"
    t:enter "a * 7"
    t:wait "\n42\n>$"
    t:enter "_ + 1"
    t:wait "\n43\n>$"
    t:enter "_1 + 0.5"
    t:wait "\n42.5\n>$"
  end)

  session("an unfinished input is asked on", "", nil, function(t)
    t:enter "for i = 1, 2 do"
    t:wait "\n>>$"
    t:enter "print(i * 100)"
    t:enter "end"
    t:wait "\n100\n200\n>$"
  end)

  session("Tab completes a name and lists what it may be", "", nil, function(t)
    t:type "cnn.manual_s"
    t:keys "Tab"
    t:wait "> cnn%.manual_seed"
    t:keys "C-u"
    t:type "nn.Adaptive"
    t:keys "Tab"
    t:wait "> nn%.AdaptiveAvgPool2d"
    t:keys "C-u"
    t:type "x = nn.BatchNorm"
    t:keys "Tab"
    t:wait "> x = nn%.BatchNorm[12]?d?"
    t:keys "Tab"
    t:wait "BatchNorm1d%s+BatchNorm2d\n> x = nn%.BatchNorm"
    t:type "2d(3)"
    t:keys "Enter"
    t:enter "x"
    t:wait "\nBatchNorm2d%(3%)"
  end)

  session("Tab completes children, options, files", "-i models/resnet.lua", nil, function(t)
    t:type "net.b3[1].conv1.wei"
    t:keys "Tab"
    t:wait "> net%.b3%[1%]%.conv1%.weight"
    t:keys "C-u"
    t:type "nn.Conv2d(1, 2, 3, { str"
    t:keys "Tab"
    t:wait "{ stride ="
    t:keys "C-u"
    t:type 'net:load "models/dense'
    t:keys "Tab"
    t:wait 'net:load "models/densenet%.lua"'
    t:keys "C-u"
    t:type "recipe.train.ba"
    t:keys "Tab"
    t:wait "recipe%.train%.batch"
  end)

  session("what was typed comes back, in this session and the next", "", nil, function(t)
    t:enter "11 + 22"
    t:wait "\n33\n>$"
    t:paste "function twice(x)\n  return 2 * x\nend"
    t:keys "Enter"
    t:enter "twice(4)"
    t:wait "\n8\n>$"
    t:keys("Up", "Up", "Up", "Enter")
    t:wait "11 %+ 22\n33\n>$"
    t:keys "C-d"
    t:wait "ended 0"
    local later = terminal.start ""
    later:wait ">$"
    later:keys "C-r"
    later:type "twice(4"
    later:wait "twice%(4"
    later:keys("C-c", "Up", "Up", "Up")
    later:wait "> function twice%(x%)\n  return 2 %* x\nend"
    later:keys "Enter"
    later:enter "twice(21)"
    later:wait "\n42\n>$"
    later:stop()
  end)

  session("a pasted text is taken input by input", "", nil, function(t)
    t:paste(table.concat({
      "local y = cnn.ones(1, 2)", "  :sum()", "", "function Half(v)", "\tlocal w = v / 2", "",
      "\treturn w", "end", "Half(y:item())", "nosuch.field", "'last'",
    }, "\n"))
    t:keys "Enter"
    t:wait "\n1\n[^\n]*nosuch[^\n]*\n[^\n]*last[^\n]*\n>$"
  end)

  session("Ctrl-C drops the line, stops a loop, and Ctrl-D ends", "", nil, function(t)
    t:type "cnn.zeros("
    t:keys "C-c"
    t:wait "\n>$"
    t:enter "while true do end"
    t:keys "C-c"
    t:wait "interrupted\n>$"
    t:enter "n = 0; while true do n = n + cnn.ones(3):sum():item() end"
    t:keys "C-c"
    t:wait "interrupted\n>$"
    t:enter "n > 0"
    t:wait "\ntrue\n>$"
    t:keys "C-d"
    t:wait "ended 0"
  end)

  session("two Ctrl-C at once do not end it", "", nil, function(t)
    t:enter "while true do end"
    t:keys("C-c", "C-c")
    t:wait "interrupted\n"
    t:enter "20 + 1"
    t:wait "\n21\n>$"
  end)

  session("exit ends it as well", "", nil, function(t)
    t:enter "exit()"
    t:wait "ended 0"
  end)

  session("a syntax error has a caret", "", nil, function(t)
    t:enter "x = = 3"
    t:wait "stdin:1: [^\n]*\n  x = = 3\n      %^\n>$"
  end)

  session("help is at hand", "", nil, function(t)
    t:enter "?nn.Conv2d"
    t:wait "stride = 1"
    t:enter "?Conv2"
    t:wait "nn%.Conv2d"
  end)
end)

describe("the terminal of the prompt", function()
  teardown(sweep)

  session("is as it was after the program was killed", "", nil, function(t)
    t:enter "io.open('/proc/self/stat'):read '*n'"
    program.shell("kill " .. t:wait "\n(%d+)\n>$")
    t:wait "ended 143"
    t:type "this is echoed"
    t:wait "this is echoed"
  end)

  session("may answer late, which types nothing", "", nil, function(t)
    t:type "1 +"
    t:type "\27[?62;4;22c"
    t:enter " 2"
    t:wait "> 1 %+ 2\n3\n>$"
  end)

  it("may have an inputrc of its user's, with the keys of vi", function()
    if missing then return pending(missing .. ": inputrc") end
    local file = program.file("inputrc", "set editing-mode vi\n")
    local t = terminal.start("", { env = "INPUTRC=" .. program.quote(file) })
    t:wait ">$"
    t:type "cnn.manual_s"
    t:keys "Tab"
    t:wait "> cnn%.manual_seed"
    t:stop()
  end)

  it("gets the prompt where what is printed goes to a file", function()
    if missing then return pending(missing .. ": output to a file") end
    local t = terminal.start(">" .. program.quote(program.file "printed"))
    t:wait "^>$"
    t:enter "for i = 1, 2 do"
    t:wait "\n>>$"
    t:enter "print(i) end"
    t:wait "\n>$"
    t:keys "C-d"
    t:wait "ended 0"
    assert.equal("1\n2\n", program.read(program.file "printed"))
    t:stop()
  end)

  session("says why nothing is kept", "", { env = "XDG_STATE_HOME=/proc/nosuch" }, function(t)
    t:wait "is not kept: /proc/nosuch"
  end)
end)

describe("training at the prompt", function()
  teardown(sweep)

  session("stops at Ctrl-C, leaves the net as trained, and goes on", LENET, nil, function(t)
    t:enter "before = net[1].weight:clone()"
    t:enter("cnn.train(recipe, { out = '" .. program.file "run" .. "' })")
    t:wait "epoch 2/500"
    t:keys "C-c"
    local step = tonumber((t:wait "interrupted at step (%d+)[^>]*\n>$"))
    assert.is_true(step > 0)
    t:enter "(net[1].weight - before):abs():max():item() > 0"
    t:wait "\ntrue\n>$"
    t:keys "C-l"
    t:enter "cnn.train(recipe)"
    t:wait "goes on[^\n]*\n.*epoch [234]/500"
    t:keys "C-c"
    local later = tonumber((t:wait "interrupted at step (%d+)[^>]*\n>$"))
    assert.is_true(later > step)
  end)

  it("takes an edited script, and keeps the weights", function()
    if missing then return pending(missing .. ": reload") end
    local script = program.file("mine.lua", [[
local nn = require "cnn".nn
return { name = "mine", input = { 1, 28, 28 }, train = { batch = 10, lr = 0.1, epochs = 1 },
  net = nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 10)) }
]])
    local t = terminal.start("-i " .. program.quote(script))
    t:wait ">$"
    t:enter "weight = net[2].weight; cnn.watch(net, arg[0])"
    t:wait ">$"
    program.write(script, (program.read(script):gsub("nn.Linear%(20, 10%)", "nn.Dropout(0.1), %0")))
    t:wait "carried"
    t:enter "net[4]"
    t:wait "Dropout%(0.1%)"
    t:enter "rawequal(net[2].weight, weight)"
    t:wait "\ntrue\n>$"
    t:stop()
  end)
end)

describe("the prompt in an odd terminal", function()
  teardown(sweep)

  session("of 20 columns", "-i models/bn_lenet.lua --limit 300 --epochs 1", { columns = 20 },
    function(t)
      t:enter "1 + 1"
      t:wait "\n2\n>$"
      t:enter "net:maps(cnn.rand(1, 1, 28, 28), '1'):show()"
      t:wait "▀"
      t:enter("cnn.train(recipe, { out = '" .. program.file "narrow" .. "' })")
      t:wait "loss %d%.%d+,"
    end)

  session("that is dumb", "", { env = "TERM=dumb" }, function(t)
    t:enter "6 * 7"
    t:wait "\n42\n>$"
    t:enter "cnn.image.grid(cnn.rand(1, 1, 8, 8)):show()"
    t:enter "'still here'"
    t:wait "still here[^\n]*\n>$"
    assert.is_nil(t:screen():find("▀", 1, true))
  end)

  session("that changes its size", "", nil, function(t)
    t:resize(40, 10)
    t:enter "'a' .. ('b'):rep(50)"
    t:wait "bbbb"
    t:enter "1 + 1"
    t:wait "\n2\n>$"
  end)
end)

describe("the prompt after a script that fails", function()
  teardown(sweep)

  it("opens whatever the script has declared", function()
    if missing then return pending(missing .. ": a script with poll") end
    local t = terminal.start("-i " .. program.quote(program.file("sleeps.lua", "local ffi = "
      .. "require 'ffi'\nffi.cdef 'struct pollfd { int fd; short events, revents; }; int poll("
      .. "struct pollfd *files, unsigned long count, int ms);'\nffi.C.poll(nil, 0, 1)\n")))
    t:wait ">$"
    t:enter "40 + 2"
    t:wait "\n42\n>$"
    t:stop()
  end)

  it("opens where Ctrl-C stopped it", function()
    if missing then return pending(missing .. ": Ctrl-C in a script") end
    local t = terminal.start("-i " .. program.quote(program.file("endless.lua",
      "local n = 0\nprint 'ready'\nwhile true do n = n + 1 end\n")))
    t:wait "ready"
    t:keys "C-c"
    t:wait "interrupted\nstopped at [^\n]*endless%.lua:3; here are n\n.*>$"
    t:enter "n > 0"
    t:wait "\ntrue\n>$"
    t:stop()
  end)

  it("shows the point of failure and its locals", function()
    if missing then return pending(missing .. ": -i of a failing script") end
    local script = program.file("bad.lua", [[
local cnn = require "cnn"
local Block = cnn.nn.module "Block"
function Block:init() self.linear = cnn.nn.Linear(3, 4) end
function Block:forward(x)
  local scale = 3
  local y = self.linear(x * scale)
  return y + cnn.ones(7)
end
local net = cnn.nn.Sequential(Block())
local y = net(cnn.ones(2, 3))
return { net = net }
]])
    local t = terminal.start("-i " .. program.quote(script))
    t:wait "bad%.lua:7: "
    t:wait "stopped in [^\n]*forward[^\n]*"
    t:wait ">$"
    t:enter "scale, y:shape(), #net"
    t:wait "\n3\n2x4\n1\n>$"
    t:keys "C-d"
    t:wait "ended 1"
    t:stop()
  end)
end)
