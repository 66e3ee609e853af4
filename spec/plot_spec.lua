-- Curves: the pictures are decoded, and each run has to be in them in its own colour, where its
-- numbers are; `cnnlua plot` and cnn.plot say in a line what is wrong with what they were given.

local cnn = require "cnn"
local errors = require "spec.support.errors"
local pixels = require "spec.support.pixels"
local program = require "spec.support.program"

local quote, expect = program.quote, errors.expect

local BLUE, ORANGE, GREEN, RED = 0x1f77b4, 0xff7f0e, 0x2ca02c, 0xd62728

local HEAD = "epoch,train_loss,train_acc,test_acc,lr,seconds,examples_per_s,peak_mb\n"

-- A run's directory with a metrics.csv: of rows { loss, train acc, test acc }, or as the text says.
local function run(name, rows)
  local dir = program.file(name)
  os.execute("mkdir -p " .. quote(dir))
  local lines = { HEAD }
  for epoch, row in ipairs(type(rows) == "table" and rows or {}) do
    lines[epoch + 1] = ("%d,%s,%s,%s,0.1,1.5,1000,50\n"):format(epoch, unpack(row))
  end
  program.write(dir .. "/metrics.csv", type(rows) == "string" and rows or table.concat(lines))
  return dir
end

-- Eleven epochs: the loss falls from there to 0, the accuracies rise.
local function falling(from)
  local rows = {}
  for i = 0, 10 do rows[i + 1] = { from * (1 - i / 10), i / 25 / from, i / 10 / from } end
  return rows
end

-- Where pixels of about this colour are: their number, and the least and largest x and y, between
-- two heights. Lines are drawn smoothly, so their own colour is mixed with the ground's.
local function find(png, color, top, bottom)
  local function near(x, y)
    local found = png:at(x, y)
    for shift = 0, 16, 8 do
      local a, b = math.floor(found / 2 ^ shift) % 256, math.floor(color / 2 ^ shift) % 256
      if math.abs(a - b) > 40 then return false end
    end
    return true
  end
  local f = { count = 0, left = math.huge, right = -1, top = math.huge, bottom = -1 }
  for y = top or 0, (bottom or png.height) - 1 do
    for x = 0, png.width - 1 do
      if near(x, y) then
        f.count = f.count + 1
        f.left, f.right = math.min(f.left, x), math.max(f.right, x)
        f.top, f.bottom = math.min(f.top, y), math.max(f.bottom, y)
      end
    end
  end
  return f
end

describe("cnn.plot", function()
  teardown(program.sweep)

  it("draws each run in its colour, loss above accuracy, 600 pixels wide", function()
    local a, b = run("a", falling(2)), run("b", falling(1))
    local curves = cnn.plot { a, b }
    local png = pixels.of(curves)
    assert.same({ 600, { png.height, png.width } }, { png.width, { curves:size() } })
    assert.equal("curves of 2 runs: picture 600x" .. png.height .. " (:show(), :png(file))",
      tostring(curves))
    local middle = math.floor(png.height / 2)
    for _, color in ipairs { BLUE, ORANGE } do
      local loss, acc = find(png, color, 60, middle), find(png, color, middle + 40)
      for _, part in ipairs { loss, acc } do
        assert.is_true(part.count > 300 and part.right - part.left > 350)
      end
    end
    assert.equal(0, find(png, GREEN).count)
    local high, low = find(png, BLUE, 60, middle), find(png, ORANGE, 60, middle)
    assert.is_true(high.top + 60 < low.top) -- it began with twice the loss
    assert.is_true(find(png, BLUE, 0, 30).count > 30) -- the legend
  end)

  it("draws lines where the numbers are", function()
    local png = pixels.of(cnn.plot({ run("line", { { 0, 0, 0 }, { 1, 0, 0 }, { 0.5, 0, 0 } }) },
      { metric = "train_loss" }))
    local line = find(png, BLUE, 40)
    local function height_at(share) -- of the line, at this share of the epochs
      local x = math.floor(line.left + share * (line.right - line.left) + 0.5)
      for y = 40, png.height - 1 do
        if png:at(x, y) ~= 0xffffff and png:at(x, y) % 256 > 150
          and png:at(x, y) < 0x808080 then return (line.bottom - y) / (line.bottom - line.top) end
      end
    end
    assert.is_true(math.abs(height_at(0.25) - 0.5) < 0.03)
    assert.is_true(math.abs(height_at(0.75) - 0.75) < 0.03)
  end)

  it("draws a run of one epoch as points", function()
    local png = pixels.of(cnn.plot { run("once", { { 1, 0.5, 0.25 } }), run("more", falling(2)) })
    local point = find(png, BLUE, 60, math.floor(png.height / 2))
    assert.is_true(point.count > 12 and point.right - point.left < 12)
    png = pixels.of(cnn.plot { run("once", { { 1, 0.5, 0.25 } }) })
    assert.is_true(find(png, BLUE, 60).count > 24)
  end)

  it("takes one run, a name, a file, a metric, a title", function()
    local a = run("a", falling(2))
    local whole = cnn.plot { a }
    for _, same in ipairs { cnn.plot(a), cnn.plot(a .. "/"), cnn.plot { a .. "/metrics.csv" } } do
      assert.equal(whole.height, same.height)
      assert.equal("curves of a", same.title)
    end
    for _, metric in ipairs { "loss", "acc", "train_loss", "test_acc", "lr", "examples_per_s" } do
      local one = pixels.of(cnn.plot({ a }, { metric = metric }))
      assert.is_true(one.height < whole.height - 150)
      assert.is_true(find(one, BLUE, 40).count > 300, metric)
    end
    local plain, titled = cnn.plot(a), cnn.plot(a, { title = "T" })
    assert.are_not.same(plain:pixels():totable(), titled:pixels():totable())
  end)

  it("leaves out what is empty or not finite", function()
    local png = pixels.of(cnn.plot {
      run("broken", HEAD .. "1,2,0.1,0.1,1,1,1,1\n2,nan,0.2,,1,1,1,1\n3,1,0.3,0.3,1,1,1,1\n"
        .. "4,inf,,,,,,"),
      run("crlf", HEAD:gsub("\n", "\r\n") .. "1,2,0.1,0.1,1,1,1,1\r\n2,1,0.1,0.1,1,1,1,1\r\n\r\n"),
    })
    local middle = math.floor(png.height / 2)
    assert.is_true(find(png, BLUE, 60, middle).count > 100)
    assert.is_true(find(png, ORANGE, 60, middle).count > 100)
    expect("cnn.plot: .*/never: expected numbers of loss and acc, got none",
      function() cnn.plot { run("never", HEAD .. "1,nan,,,1,1,1,1\n") } end)
    expect("cnn.plot: .*/head: expected numbers of acc, got none",
      function() cnn.plot({ run("head", HEAD) }, { metric = "acc" }) end)
  end)

  it("tells twenty runs apart, and long names by both ends", function()
    local runs = {}
    for i = 1, 20 do
      runs[i] = run(("a_net_with_a_very_long_name_indeed-20250101-1200%02d"):format(i), falling(i))
    end
    local curves = cnn.plot(runs)
    local png, seen = pixels.of(curves), {}
    for _, key in ipairs(curves.panels[1].keys) do
      assert.is_nil(seen[key.color] or seen[key.label])
      seen[key.color], seen[key.label] = true, true
      assert.truthy(key.label:find "^a_net_wit%.%.%.01%-1200%d%d$")
      assert.is_true(find(png, tonumber(key.color:sub(2), 16), 0, 200).count > 30, key.color)
    end
    local few = cnn.plot({ runs[1], runs[2] }).panels[1].keys
    assert.truthy(few[1].label:find "^a_net_with_a%.%.%.50101%-120001$")
    runs[21] = runs[1]
    expect("at most 20 runs in one picture, got 21", function() cnn.plot(runs) end)
  end)

  it("names two runs of one name by their paths", function()
    local x, y = run("x/same", falling(1)), run("y/same", falling(1))
    local keys = cnn.plot({ x, y, x }).panels[1].keys
    assert.truthy(keys[1].label:find "x/same$")
    assert.truthy(keys[2].label:find "y/same$")
    assert.truthy(keys[3].label:find "^3: ")
  end)

  it("takes names that gnuplot could stumble over", function()
    local dir = run("it's \\n {/*2 x} \"$HOME\" `id` %d _^", falling(1))
    assert.is_true(find(pixels.of(cnn.plot { dir }), BLUE, 60).count > 300)
    pixels.of(cnn.plot({ dir }, { title = "it's\n'; quit #" }))
    local umlauts = run(("ä"):rep(40), falling(1))
    assert.equal(("ä"):rep(6) .. "..." .. ("ä"):rep(6), cnn.plot(umlauts).panels[1].keys[1].label)
  end)

  local wrong = {
    { "no list", { nil }, "expected runs, a list of directories, got nil" },
    { "an empty list", { {} }, "got an empty one" },
    { "a number", { { 5 } }, "run 1: expected a string, got 5" },
    { "an unknown option", { "x", { metrics = "loss" } }, "unknown option 'metrics'.*'metric'" },
    { "a title that is none", { "x", { title = 5 } }, "title: expected a string, got 5" },
    { "a run that is not there", { "/nowhere/a" }, "/nowhere/a: no such run" },
  }
  for _, row in ipairs(wrong) do
    it("says what is wrong with " .. row[1], function()
      expect({ row[3] }, function() cnn.plot(unpack(row[2], 1, 2)) end)
    end)
  end

  it("lists the metrics for one that it does not know", function()
    local a = run("a", falling(1))
    expect("metric: expected one of loss, acc, train_loss, .*'test_ac'; did you mean 'test_acc'",
      function() cnn.plot(a, { metric = "test_ac" }) end)
    expect("metric: expected one of loss, .*, got 7", function() cnn.plot(a, { metric = 7 }) end)
  end)
end)

-- what a metrics.csv has, and what is said of it
local broken = {
  { "nothing", "", "expected the metrics of a run, with the column 'epoch' first" },
  { "text", "hello\nworld\n", "expected the metrics of a run" },
  { "bytes", "\137PNG\r\n\26\n\0\0\0\rIHDR\255\254", "expected the metrics of a run" },
  { "a short line", HEAD .. "1,2,3\n", "metrics.csv:2: expected 8 values as .*, got 3" },
  { "a long line", HEAD .. "1,2,3,4,5,6,7,8,9\n", "metrics.csv:2: expected 8 .*got 9" },
  { "an epoch that is none", HEAD .. "1,2,3,4,5,6,7,8\nnan,2,3,4,5,6,7,8\n",
    "metrics.csv:3: epoch: expected a number, got the string 'nan'" },
  { "a word", HEAD .. "1,2,3,4,5,6,7,8\n2,x,3,4,5,6,7,8\n",
    "metrics.csv:3: train_loss: expected a number, got the string 'x'" },
}

describe("cnnlua plot", function()
  teardown(program.sweep)

  it("writes the picture that cnn.plot draws", function()
    local a, b, file = run("a", falling(2)), run("b", falling(1)), program.file "cmp.png"
    local r = program.ok(("plot %s %s -o %s"):format(quote(a), quote(b), quote(file)))
    assert.equal(file .. ": curves of 2 runs, 600x" .. pixels.read(file).height .. "\n", r.out)
    assert.same(cnn.plot({ a, b }):pixels():totable(),
      cnn.image.read(file, { channels = 3 }):totable())
    program.ok(("plot --metric lr --title x --output %s %s"):format(quote(file), quote(a)))
    assert.is_true(find(pixels.read(file), BLUE, 40).count > 300)
  end)

  it("draws characters where the output is no terminal, and no escapes", function()
    local a, b = run("a", falling(2)), run("b", falling(1))
    local text = program.ok(("plot %s %s"):format(quote(a), quote(b))).out
    assert.truthy(text:find "loss" and text:find "accuracy" and text:find "epoch")
    assert.truthy(text:find "a %*%*%*+" and text:find "b ###+")
    assert.is_nil(text:find "[\27\f]")
    for line in text:gmatch "[^\n]*" do assert.is_true(#line < 80) end
    assert.is_true(select(2, text:gsub("\n", "")) <= 24)
  end)

  it("draws in the runs' colours where there are colours, pixels where there are pixels", function()
    local a, b = quote(run("a", falling(2))), quote(run("b", falling(1)))
    local text = program.ok("plot " .. a .. " " .. b, { env = "CNNLUA_PICTURES=blocks" }).out
    assert.truthy(text:find "a \27%[38;2;31;119;180m%+%-")
    assert.truthy(text:find "b \27%[38;2;255;127;14m%+%-")
    assert.truthy(text:find "\27%[0m$")
    text = program.ok("plot " .. a, { env = "CNNLUA_PICTURES=kitty" }).out
    assert.truthy(text:find "^\27_Ga=T,f=100")
  end)

  for _, row in ipairs(broken) do
    it("says of a metrics.csv with " .. row[1] .. " what is wrong", function()
      program.refuses("plot " .. quote(run("bad", row[2])), 1, row[3])
    end)
  end

  it("says what is wrong with what it was given", function()
    local a = quote(run("a", falling(1)))
    os.execute("mkdir -p " .. quote(program.file "empty"))
    program.refuses("plot", 2, "missing argument 'runs'")
    program.refuses("plot ''", 2, "RUN takes a name, got nothing")
    program.refuses("plot /nowhere/a", 1, "/nowhere/a: no such run")
    program.refuses("plot " .. quote(program.file "empty"), 1,
      "empty: expected a run's directory, but there is no metrics.csv in it")
    program.refuses(("plot %s --metric acuracy"):format(a), 2, "metric: expected one of loss, acc")
    program.refuses(("plot %s -o x.jpg"):format(a), 2, "PNG file")
    program.refuses(("plot %s -o ''"):format(a), 2, "PNG file")
    program.refuses(("plot %s -o /nowhere/x.png"):format(a), 1,
      "/nowhere/x.png: cannot write: No such file")
    program.refuses(("plot %s --colour red"):format(a), 2, "unknown option '%-%-colour'")
  end)

  it("names the file that it cannot read", function()
    local dir = program.file "odd"
    os.execute("mkdir -p " .. quote(dir .. "/metrics.csv"))
    program.refuses("plot " .. quote(dir), 1, "odd/metrics%.csv: Is a directory")
  end)

  it("shows names without what would steer a terminal", function()
    local dir = run("odd\27[31m\nname", falling(1))
    local file = program.file "odd.png"
    local r = program.ok(("plot %s -o %s"):format(quote(dir), quote(file)))
    assert.truthy(r.out:find("odd.png: curves of odd?[31m?name, 600x", 1, true))
  end)

  it("runs nothing that a name says", function()
    local owned = program.file "owned"
    local options = {
      env = "OWNED=" .. quote(owned), before = ("cd %s &&"):format(quote(program.directory())),
    }
    local words = "a'; system(\"touch $OWNED\") #`touch $OWNED`\n!touch $OWNED"
    local dir = run(words, falling(1))
    program.ok(("plot %s --title %s -o names.png"):format(quote(dir), quote(words)), options)
    local r = program.ok("-e " .. quote [[
      require "cnn"
      local dir = require "cnn.rundir".open("x", "|touch $OWNED;")
      print(dir:draw_curves({ { epoch = 1, train_loss = 1 } }, "x", 2))]], options)
    assert.equal("true\n", r.out)
    assert.is_false(program.exists(owned))
    assert.equal(420, pixels.read(program.file "|touch $OWNED;/curves.png").height)
  end)

  it("writes nothing where gnuplot leaves half a picture", function()
    local bin, file = program.file "half", program.file "half.png"
    os.execute("mkdir -p " .. quote(bin))
    program.write(bin .. "/gnuplot", "#!/bin/sh\nprintf '\\211PNG\\r\\n\\032\\n'\n")
    os.execute("chmod +x " .. quote(bin .. "/gnuplot"))
    program.refuses(("plot %s -o %s"):format(quote(run("a", falling(1))), quote(file)), 1, "PNG",
      { env = ("PATH=%s:$PATH"):format(quote(bin)) })
    assert.is_false(program.exists(file))
  end)

  it("says what to install where there is no gnuplot", function()
    local bin, file = quote(program.file "bin"), program.file "x.png"
    os.execute(("mkdir -p %s; ln -sf $(command -v timeout) %s"):format(bin, bin))
    local words = ("plot %s -o %s"):format(quote(run("a", falling(1))), quote(file))
    program.refuses(words, 1, "gnuplot is not installed %(apt%-get install gnuplot%-nox%)",
      { env = "PATH=" .. bin })
    assert.is_false(program.exists(file))
  end)
end)

describe("curves as text", function()
  teardown(program.sweep)

  it("fit into any width", function()
    local curves = cnn.plot { run("a", falling(2)), run("a_longer_name", falling(1)) }
    for _, columns in ipairs { 20, 40, 64, 80, 200 } do
      for _, color in ipairs { true, false } do
        local text = curves:as_text(columns, color):gsub("\27%[[%d;]*m", "")
        assert.truthy(text:find "[-*]")
        for line in text:gmatch "[^\n]+" do assert.is_true(#line < columns, line) end
      end
    end
  end)
end)

describe("the book's figure", function()
  teardown(program.sweep)

  it("has its three lines, from epoch 1 on, and one point before that", function()
    local plot = require "cnn.plot"
    local points = {}
    for i = 1, 10 do
      points[i] = { epoch = i / 5, train_loss = 3 - i / 5, train_acc = i / 20,
        test_acc = i % 5 == 0 and i / 10 or nil }
    end
    local png = pixels.of(plot.curves(points, "net's name", 2))
    assert.same({ 420, 600 }, { png.height, png.width })
    for _, color in ipairs { 0x1f77b4, 0xbf00bf, 0x008000 } do
      assert.is_true(find(png, color, 60).count > 80)
    end
    assert.is_true(find(pixels.of(plot.curves({ points[1] }, "x", 2)), BLUE, 60).count > 12)
    assert.is_nil(plot.curves({}, "x", 2))
    assert.equal(0, find(png, RED).count)
  end)
end)
