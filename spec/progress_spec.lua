-- What a training run shows: on a terminal that the spec plays itself, byte for byte.

local C = require "cnn.ffi".C
local progress = require "cnn.progress"
local program = require "spec.support.program"
local pty = require "spec.support.pty"

local quote = program.quote

-- What a progress writes while fn(progress) runs on a terminal of so many columns.
local function written(columns, fn)
  local live = progress()
  live.terminal, live.columns = true, columns
  local file, was = program.file "progress.txt", io.output()
  io.output(file)
  local ok, why = pcall(fn, live)
  io.output():close()
  io.output(was)
  assert.is_true(ok, why)
  return program.read(file)
end

local function step(live, fields)
  local now = {
    epoch = 3, epochs = 10, done = 40, total = 235, loss = 1.234, acc = 0.567, rate = 336.25,
    images = 60000,
  }
  for key, value in pairs(fields or {}) do now[key] = value end
  live.drawn = 0
  live:live(now)
end

-- The parts of a live line, the most important first; a line has the first ones that fit.
local PARTS = { "epoch 3/10", "  17%", "  2:28 min left", "  loss 1.234", "  acc 0.567",
  "  336 examples/sec" }

describe("the live line", function()
  teardown(program.sweep)

  it("is narrower than any terminal, of whole parts, with a bar in what is left", function()
    for columns = 1, 200 do
      local line = written(columns, step):match "^\r([^\27]*)\27%[K$"
      assert.is_true(#line < math.max(columns, 1), line)
      local bar = line:match " [#.]+" or ""
      local text = line:gsub("( [#.]+) ", " ", 1)
      local whole, wanted = "", nil
      for _, part in ipairs(PARTS) do
        whole = whole .. part
        if text == whole then wanted = #whole end
      end
      if columns > #PARTS[1] then
        assert.truthy(wanted, line)
        assert.is_true(bar == "" or #bar >= 5 and #bar <= 17)
        assert.is_true(bar ~= "" or columns - 1 - #line < 5 or wanted < #whole, line)
      end
    end
    assert.equal("\repoch 3/10 ###.............  17%  2:28 min left  loss 1.234  acc 0.567  "
      .. "336 examples/sec\27[K", written(120, step))
  end)

  it("is drawn at most ten times a second", function()
    local now = {
      epoch = 1, epochs = 1, done = 5, total = 5, loss = 1, acc = 1, rate = 9, images = 5,
    }
    local calls, seconds = 0, 0
    local text = written(80, function(live)
      local started = C.cnn_seconds()
      while seconds < 0.25 or calls < 100 do
        live:live(now)
        calls, seconds = calls + 1, C.cnn_seconds() - started
      end
    end)
    local count = select(2, text:gsub("\r", ""))
    assert.is_true(count >= 1 and count < calls and count <= seconds / 0.1 + 1, tostring(count))
  end)

  it("is wiped where a narrower terminal has wrapped it", function()
    local text = written(100, function(live)
      step(live)
      live.columns = 30 -- 90 characters are three rows there
      step(live)
    end)
    assert.truthy(text:find "examples/sec\27%[K\27%[2A\r\27%[J\repoch 3/10 ", text)
    text = written(100, function(live)
      step(live)
      live.columns = 60
      live:clear()
      live:clear()
    end)
    assert.truthy(text:find "\27%[K\27%[1A\r\27%[J$", text)
  end)

  it("ends in a line of the epoch, without what does not fit", function()
    local row = { epoch = 3, train_loss = 1.5, train_acc = 0.25, test_acc = 0.5,
      examples_per_s = 1234.5, seconds = 7.5 }
    local function line(columns)
      return written(columns, function(live) live:epoch(row, 10) end)
    end
    local numbers = "epoch 3/10: loss 1.500, train acc 0.250, test acc 0.500"
    assert.equal(numbers .. ", 1234.5 examples/sec, 7.5 s\n", line(100))
    assert.equal(numbers .. ", 1234.5 examples/sec\n", line(80))
    assert.equal(numbers .. "\n", line(60))
    assert.equal(numbers .. "\n", line(20))
  end)
end)

-- ------------------------------------------------------------------------------------- whole runs

local probe = pty.open(80, 24)
if probe then probe:close() end
local with_pty = probe and it or function(name) pending(name .. ": no pseudo-terminals") end

local SMALL = [[
  local cnn = require "cnn"
  local part = { images = cnn.zeros({ 40, 1, 4, 4 }, { dtype = "u8" }), labels = {} }
  for i = 1, 40 do part.labels[i] = i % 2 + 1 end
  return {
    name = "small", input = { 1, 4, 4 }, train = { batch = 8, lr = 0.1 },
    net = cnn.nn.Sequential(cnn.nn.Flatten(), cnn.nn.Linear(16, 2)),
    data = { classes = 2, train = part, test = part },
  }]]

-- What the terminal gets of a run of two epochs; if it is asked, it can do nothing special.
local function run(columns, words, env, script)
  local t = pty.open(columns, 40)
  t:start(("%s --epochs 2 --out %s %s"):format(script or quote(program.file("small.lua", SMALL)),
    quote(program.file "run"), words or ""), env)
  local text = t:wait "[\27<]%[?[ce]" or "" -- the question or the end
  if text:find "\27%[c$" then
    t:answer "\27[?1;2c"
    text = text:sub(1, -4) .. (t:wait "<e" or "")
  end
  assert.truthy(t:wait "^nded 0>", text)
  t:close()
  return (text:gsub("\r\n", "\n"))
end

local CLOSING = "loss [%d.]+, train acc [%d.]+, test acc [%d.]+\n"
  .. "[%d.]+ examples/sec on cpu[^\n]*\n<e$"

describe("a run on a terminal", function()
  teardown(program.sweep)

  with_pty("has a live line, a line an epoch, the curves, then the book's two lines", function()
    local text = run(80, "--limit 4096 --batch 16", "", "models/bn_lenet.lua")
    assert.truthy(text:find "\repoch 1/2 [^\n]*\repoch 1/2 ")
    for line in text:gmatch "\r([^\r\n\27]*)\27" do assert.is_true(#line < 80) end
    assert.truthy(text:find "\nepoch 1/2: loss [^\n]*\n" or text:find "Jepoch 1/2: loss [^\n]*\n")
    local curves = text:find "train loss \27%[38;2;31;119;180m"
    assert.is_true(curves and curves > text:find "epoch 2/2: loss" and curves < text:find(CLOSING))
    assert.truthy(text:find "\27%[38;2;191;0;191m")
    assert.truthy(text:find("\27%[0m" .. CLOSING), text:sub(-300))
  end)

  with_pty("shows the curves as a picture where there are pixels", function()
    local text = run(80, "", "TERM=xterm-kitty")
    assert.truthy(text:find "epoch 2/2: loss [^\n]*\n\27_Ga=T,f=100")
    assert.truthy(text:find("\27\\\n" .. CLOSING))
  end)

  with_pty("of 20 columns has lines that fit, and no curves", function()
    local text = run(20)
    for line in text:gmatch "\r([^\r\n\27]*)\27" do assert.is_true(#line < 20) end
    assert.is_nil(text:find "train loss")
    assert.truthy(text:find(CLOSING))
  end)

  with_pty("that is dumb gets plain lines and curves, without a single escape", function()
    local text = run(80, "", "TERM=dumb")
    assert.is_nil(text:find "[\27\r]")
    assert.truthy(text:find "\nepoch 1/2: loss [^\n]*\nepoch 2/2: loss [^\n]*\n *train loss %*%*%*")
    assert.truthy(text:find(CLOSING))
  end)

  with_pty("gets no colour with NO_COLOR, and no curves with CNNLUA_PICTURES=none", function()
    local text = run(80, "", "NO_COLOR=1")
    assert.is_nil(text:find "\27%[[%d;]*m")
    assert.truthy(text:find "train loss %*%*%*")
    text = run(80, "", "CNNLUA_PICTURES=none")
    assert.is_nil(text:find "train loss")
  end)

  with_pty("gets nothing but its lines with --quiet and --json", function()
    assert.truthy(run(80, "--quiet"):find("^" .. CLOSING))
    assert.truthy(run(80, "--json"):find "^{[^\n]*}\n<e")
  end)
end)
