-- Layers by path, part, kind and pattern: net:get, net:find; and the reports that they give.

local cnn = require "cnn"
local errors = require "spec.support.errors"
local look = require "cnn.probes.look"
local probing = require "spec.support.probing"
local report = require "cnn.probes.report"
local scripts = require "spec.support.scripts"

local nn = cnn.nn
local printed, quietly, small = probing.printed, probing.quietly, probing.small

describe("net:get", function()
  local net = scripts.recipe("resnet").net
  local b3 = net.b3

  for _, path in ipairs { "b3[1].conv1", "b3.1.conv1", "net.b3[1].conv1", "net.b3.1.conv1" } do
    it("takes " .. path, function() assert.equal(b3[1].conv1, net:get(path)) end)
  end

  it("takes a number, the net itself, and a layer that was found", function()
    assert.equal(net[3], net:get(3))
    assert.equal(net[3], net:get "[3]")
    assert.equal(net, net:get "net")
    assert.equal(b3[1], net:get(b3[1]))
    assert.equal("b3[1].bn2", look.path_of(net, net:get "b3[1].bn2"))
  end)

  it("finds a child called net, layers in plain tables, shared ones at each place", function()
    local inner = nn.ReLU()
    local net2 = nn.Sequential()
    net2:add("net", inner)
    assert.equal(inner, net2:get "net")
    assert.equal(inner, net2:get "net.net")
    local Blocks = nn.module "Blocks"
    function Blocks:init() self.blocks = { first = inner, inner } end
    local blocks = Blocks()
    assert.equal(inner, blocks:get "blocks.first")
    assert.equal(inner, blocks:get "blocks[1]")
  end)

  for path, patterns in pairs {
    b9 = { "no layer 'b9' in the net; nearest: b1", "layers in net: b1, b2, b3, b4, b5, %[6%]" },
    ["b3[9].conv1"] = { "nearest: b3%[1%].conv1 %(layers in b3: b3%[1%], b3%[2%];" },
    ["b3[1].con1"] = { "nearest: b3%[1%].conv1 ", "layers in b3%[1%]: .*b3%[1%].conv3" },
    conv3 = { "nearest: b3%[1%].conv3, b4%[1%].conv3, b5%[1%].conv3 " },
    AdaptiveAvgPool = { "nearest: %[6%]" },
    ["b3.forward"] = { "no layer 'b3.forward'" },
    ["b3.training"] = { "no layer 'b3.training'" },
  } do
    it("names what is near " .. path, function()
      errors.expect(patterns, function()
        local layer = net:get(path)
        return layer
      end)
    end)
  end

  it("lists all layers of a small net, and few of a long one", function()
    errors.expect("%(layers: stem, body, body%[1%], .*, %[3%], %[4%]%)", function()
      local layer = small():get "conv9"
      return layer
    end)
    local long = nn.Sequential()
    for _ = 1, 200 do long:add(nn.ReLU()) end
    local message = errors.expect("%[24%], %.%.%.; net:find%(%) lists all 201", function()
      local layer = long:get "b1"
      return layer
    end)
    assert.is_true(#message < 400, message)
  end)

  it("refuses what is no path, a stranger, and a dot instead of a colon", function()
    errors.expect("path: expected a string, got a table", function() net:get {} end)
    errors.expect("expected a layer of this net, got another ReLU", function()
      net:get(nn.ReLU())
    end)
    errors.expect("net:get%(%): expected a net, got the string 'b3' %(a dot", function()
      local layer = net.get "b3"
      return layer
    end)
  end)
end)

describe("net:find", function()
  local net = scripts.recipe("resnet").net

  local function paths(what)
    local list = {}
    for i, row in ipairs(net:find(what, { quiet = true })) do list[i] = row.path end
    return list
  end

  it("goes by path, by part, by kind, by class and by pattern", function()
    assert.same({ "b3[2]", "b3[2].conv1", "b3[2].bn1", "b3[2].conv2", "b3[2].bn2" }, paths "b3.2")
    assert.same({ "b3[1].conv3", "b4[1].conv3", "b5[1].conv3" }, paths "conv3")
    assert.same({ "b3[1].conv3", "b4[1].conv3", "b5[1].conv3" }, paths "1.conv3")
    assert.same({ "[8]" }, paths "linear")
    assert.same({ "[8]" }, paths(nn.Linear))
    assert.same({ "b3[1]", "b4[1]" }, paths "^b[34]%[1%]$")
    assert.equal(56, #paths())
  end)

  it("prints and returns what it found", function()
    local text, ok, rows = printed(net.find, net, "b3.2.conv1")
    assert.is_true(ok)
    assert.same({ path = "b3[2].conv1", layer = "Conv2d(128, 128, 3, { padding = 1 })",
      module = net.b3[2].conv1, parameters = 128 * 128 * 9 + 128 }, rows[1])
    assert.truthy(text:find("b3[2].conv1 | Conv2d(128, 128, 3, { padding = 1 }) |    147,584", 1,
      true))
    assert.equal(text, tostring(rows))
  end)

  it("says when there is nothing, with the nearest", function()
    local text, _, rows = printed(net.find, net, "b9")
    assert.equal("no layer fits 'b9'; nearest: b1", text)
    assert.equal(0, #rows)
    assert.truthy(printed(net.find, net, "Conf2d"):find "nearest: b1%[1%], ")
    assert.truthy(printed(net.find, net, nn.Tanh):find "no layer fits 'Tanh'")
    assert.truthy(printed(net.find, net, "b3[("):find "no layer fits 'b3%[%('")
  end)
end)

describe("a report", function()
  it("is a plain list that the prompt does not print twice", function()
    local text, _, rows = printed(small().shapes, small(), { 1, 1, 6, 6 })
    assert.truthy(text:find("activation bytes", 1, true))
    assert.equal(text, tostring(rows))
    assert.is_true(report.is_report(rows))
    assert.is_true(report.was_printed(rows))
    assert.is_false(report.was_printed(rows))
    for key in pairs(rows) do assert.is_true(type(key) == "number" or key == "total", key) end
    local _, _, again = printed(small().shapes, small(), { 1, 1, 6, 6 })
    report.forget()
    assert.is_false(report.was_printed(again))
    assert.is_false(report.was_printed(quietly(small(), "shapes", { 1, 1, 6, 6 })))
    assert.is_false(report.is_report {})
    assert.is_false(report.was_printed(nil))
  end)

  it("leaves columns out where the terminal is narrow", function()
    local files, screen = require "cnn.files", require "cnn.terminal.screen"
    local is_terminal, columns = files.is_terminal, screen.columns
    local room = 20
    files.is_terminal = function() return true end
    screen.columns = function() return room end
    finally(function() files.is_terminal, screen.columns = is_terminal, columns end)
    local function shown()
      return report.columns({ { "a", "shape", "b", "" }, { "1", "2x2", "5", "far too long" } }, 2,
        { "shape", "b" })
    end
    assert.equal("a | shape | b |\n1 | 2x2   | 5 | far too long", shown())
    room = 10
    assert.equal("a | b |\n1 | 5 | far too long", shown())
    room = 1
    assert.equal("a |\n1 | far too long", shown())
  end)
end)
