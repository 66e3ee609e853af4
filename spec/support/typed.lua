-- typed.lua - lines as somebody types them at the prompt, and what each prints.
--
--   local outputs, complaints = typed.run({ { name, text }, ... })     by name, spaces squeezed
--   typed.script      a recipe of small made-up data, which is what the prompt is about
--
-- All is typed into one prompt, that of a script, in a scratch directory. Surprising: before each
-- text net, x, y and opt are made anew, for what comes before may have changed them.

local program = require "spec.support.program"

local typed = {}

typed.script = [[
local cnn = require "cnn"
local nn = cnn.nn

local function made_up(n)
  local labels = {}
  for i = 1, n do labels[i] = (i - 1) % 10 + 1 end
  return { images = (cnn.rand(n, 1, 16, 16) * 255):to "u8", labels = labels }
end

local function new_net()
  local net = nn.Sequential(nn.Conv2d(1, 8, 3, { padding = 1 }), nn.BatchNorm2d(8), nn.ReLU(),
    nn.MaxPool2d(2), nn.Flatten())
  return net:add("head", nn.Linear(512, 10))
end

function _G.anew()
  local net = new_net()
  local x, y = cnn.rand(4, 1, 16, 16), cnn.tensor({ 1, 2, 3, 4 }, { dtype = "i32" })
  return net, x, y, cnn.optim.SGD(net:parameters(), { lr = 0.1 })
end

return {
  name = "small", input = { 1, 16, 16 }, net = new_net(),
  data = { train = made_up(40), test = made_up(20), classes = 10 },
  train = { batch = 8, lr = 0.01, epochs = 1 },
}
]]

-- Files that lines speak of: the script under the name of a model, and two runs with their metrics.
local function prepare()
  local metrics = "epoch,train_loss,train_acc,test_acc,lr,seconds,examples_per_s,peak_mb\n"
    .. "1,2.3,0.1,0.2,0.1,1,100,50\n2,1.3,0.4,0.5,0.1,1,100,50\n"
  program.shell(("cd %s && mkdir -p models runs/a runs/b"):format(program.directory()))
  program.file("models/bn_lenet.lua", typed.script)
  program.file("runs/a/metrics.csv", metrics)
  program.file("runs/b/metrics.csv", metrics)
end

local MARK = "@@ "

-- What comes behind each mark, by the name on it.
local function by_name(text)
  local found, name = {}, nil
  for line in text:gmatch "[^\n]+" do
    local marked = line:match("^" .. MARK .. "(.*)$")
    if marked then
      name, found[marked] = marked, ""
    elseif name then
      found[name] = found[name] .. line:gsub("%s+", " "):gsub("^ ", "") .. " "
    end
  end
  for key, part in pairs(found) do found[key] = part:gsub(" +$", "") end
  return found
end

-- texts: { { name, text }, ... }. What each printed, and what it complained of, by name.
function typed.run(texts)
  prepare()
  local lines = {
    'ffi = require "ffi"', 'ffi.cdef "int chdir(const char *path);"',
    ("chdir = ffi.C.chdir(%q)"):format(program.directory()),
  }
  for _, pair in ipairs(texts) do
    local name, text = unpack(pair)
    lines[#lines + 1] = ("print(%q) io.stderr:write(%q)"):format(MARK .. name, MARK .. name .. "\n")
    lines[#lines + 1] = "net, x, y, opt = anew()"
    lines[#lines + 1] = text
  end
  local script = program.quote(program.file "models/bn_lenet.lua")
  local r = program.ok("-i " .. script, { input = table.concat(lines, "\n") .. "\n" })
  return by_name(r.out), by_name(r.err)
end

return typed
