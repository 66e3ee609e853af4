-- cnn.watch: a net follows its script and the files that it requires, whatever an editor leaves.

local cnn = require "cnn"
local program = require "spec.support.program"
local scripts = require "spec.support.named_layers"

require "spec.support.interrupt" -- for a script to strike with, that does not require it

local write, loaded = scripts.write, scripts.load

local flat = "flat = nn.Flatten()"

describe("cnn.watch", function()
  teardown(program.sweep)

  local fine = { flat, "fc = nn.Linear(36, 2)" }
  local handle, lines

  -- Watches a fresh net without waiting between looks; what is told goes to `lines`.
  local function watched(parts)
    local net, recipe, file = loaded(parts or { layers = fine })
    lines = {}
    handle = cnn.watch(net, file, {
      every = 0, recipe = recipe, report = function(line) lines[#lines + 1] = line end,
    })
    return net, file, recipe
  end

  after_each(function() if handle then handle:stop() end end)

  it("reloads when the file changes, and only then", function()
    local net, file, recipe = watched()
    assert.is_false(cnn.watch.poll())
    local weight = net.fc.weight
    write { layers = { flat, "fc = nn.Linear(36, 2)", "relu = nn.ReLU()" },
      train = "{ lr = 0.25 }" }
    assert.is_true(cnn.watch.poll())
    assert.is_false(cnn.watch.poll())
    assert.equal(3, #net)
    assert.is_true(rawequal(weight, net.fc.weight))
    assert.equal(0.25, recipe.train.lr)
    assert.equal(1, #lines)
    assert.truthy(lines[1]:find("mine.lua: 2 of 2 tensors carried; recipe: ", 1, true), lines[1])
    assert.equal(("watch on %s, 1 reload; :stop() ends it"):format(file), tostring(handle))
    handle:stop()
    write { layers = fine }
    assert.is_false(cnn.watch.poll())
    assert.equal(3, #net)
    assert.equal(("watch on %s, 1 reload, stopped"):format(file), tostring(handle))
  end)

  it("tells of a wrong script once, and tries it again at the next change", function()
    local net, file = watched()
    program.write(file, "local x = = 1")
    assert.is_true(cnn.watch.poll())
    for _ = 1, 3 do assert.is_false(cnn.watch.poll()) end
    assert.equal(1, #lines)
    assert.truthy(lines[1]:find "mine.lua:1: unexpected symbol near '='; the net is as it was$")
    write { layers = { flat, "fc = nn.Linear(36, 2)", "relu = nn.ReLU()" } }
    assert.is_true(cnn.watch.poll())
    assert.equal(3, #net)
  end)

  it("waits for a file that is being saved", function()
    local net, file = watched()
    for i, take in ipairs { function() program.write(file, "") end,
      function() os.remove(file) end } do
      take()
      assert.is_false(cnn.watch.poll())
      write { layers = { flat, "fc = nn.Linear(36, 2)", "relu = nn.ReLU()" }, before = "-- " .. i }
      assert.is_true(cnn.watch.poll())
      assert.truthy(lines[#lines]:find "2 of 2 tensors carried")
      take()
      assert.is_false(cnn.watch.poll())
      assert.is_true(cnn.watch.poll())
      assert.truthy(lines[#lines]:find(i == 1 and "mine.lua is empty; the net stays as it was"
        or "mine.lua cannot be read; the net stays as it was"), lines[#lines])
      for _ = 1, 3 do assert.is_false(cnn.watch.poll()) end
    end
    assert.equal(3, #net)
  end)

  it("lets Ctrl-C stop the script that it runs", function()
    local net, file = watched()
    program.write(file, [[
      package.loaded["spec.support.interrupt"]()
      return require "cnn".ones(2) + 1]])
    assert.is_true(cnn.watch.poll())
    assert.truthy(lines[1]:find "^interrupted; .*mine.lua was not reloaded$", lines[1])
    assert.is_false(require "cnn.guard".interrupted())
    assert.equal("1x2", tostring(net(cnn.ones(1, 1, 6, 6)):shape()))
  end)

  it("follows the files that the script requires", function()
    local text = 'local nn = require "cnn".nn\nreturn function() return %s end'
    program.file("reload_head.lua", text:format "nn.Linear(36, 2)")
    local parts = {
      before = 'local head = require "reload_head"', layers = { flat, "fc = head()" },
    }
    local net, file = watched(parts)
    assert.equal(("watch on %s and 1 file that it requires, 0 reloads; :stop() ends it")
      :format(file), tostring(handle))
    program.file("reload_head.lua", text:format "nn.Sequential(nn.Linear(36, 2))")
    assert.is_true(cnn.watch.poll())
    assert.truthy(lines[1]:find "0 of 2 tensors carried; new: fc%[1%]%.weight 2x36")
    assert.equal("Sequential", net.fc.kind)
    program.file("reload_tail.lua", text:format "nn.ReLU()")
    parts.before = parts.before .. '\nlocal tail = require "reload_tail"'
    parts.layers[3] = "tail = tail()"
    write(parts)
    assert.is_true(cnn.watch.poll())
    program.file("reload_tail.lua", text:format "nn.Sigmoid()")
    assert.is_true(cnn.watch.poll())
    assert.equal("Sigmoid", net.tail.kind)
  end)

  it("prints through the prompt, looks in its time, and follows a net once", function()
    local net, _, file = loaded { layers = fine }
    local first = cnn.watch(net, file, { every = 0 })
    handle = cnn.watch(net, file, { every = 3600 })
    assert.truthy(tostring(first):find "stopped$")
    local function print_line(line) lines[#lines + 1] = line end
    lines = {}
    write { layers = fine, before = "-- one" }
    assert.is_true(cnn.watch.poll(print_line))
    write { layers = fine, before = "-- two" }
    assert.is_false(cnn.watch.poll(print_line))
    assert.equal(1, #lines)
    assert.truthy(lines[1]:find "mine.lua: 2 of 2 tensors carried$")
  end)

  it("looks in some hundredths of a millisecond", function()
    watched()
    local before = os.clock()
    for _ = 1, 1000 do cnn.watch.poll() end
    assert.is_true(os.clock() - before < 1)
  end)
end)
