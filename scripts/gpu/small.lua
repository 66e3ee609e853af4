-- small.lua - a run of bn_lenet that is short wherever it runs.
--
-- small.run(part, words, options) trains for an epoch and returns what --json says; small.words is
-- the command line before `words`. On a card these are 50 steps; for the host double, which is ten
-- thousand times slower, the words name a made-up data set of 20 pictures and 10 to test.

local process = require "scripts.gpu.process"

local small = {}

local function word(n)
  return string.char(math.floor(n / 2 ^ 24) % 256, math.floor(n / 2 ^ 16) % 256,
    math.floor(n / 2 ^ 8) % 256, n % 256)
end

local function pictures(n)
  local bytes, state = {}, n
  for i = 1, n * 28 * 28 do
    state = state * 48271 % 2147483647
    bytes[i] = string.char(state % 256)
  end
  return "\0\0\8\3" .. word(n) .. word(28) .. word(28) .. table.concat(bytes)
end

local function labels(n)
  local bytes = {}
  for i = 1, n do bytes[i] = string.char((i - 1) % 10) end
  return "\0\0\8\1" .. word(n) .. table.concat(bytes)
end

-- A directory with the four files of a data set, in IDX.
local function made_up_data(part)
  local folder = part.scratch .. "/data"
  if not process.line("ls " .. process.quote(folder)) then
    os.execute("mkdir -p " .. process.quote(folder))
    process.write(folder .. "/train-images-idx3-ubyte", pictures(20))
    process.write(folder .. "/train-labels-idx1-ubyte", labels(20))
    process.write(folder .. "/t10k-images-idx3-ubyte", pictures(10))
    process.write(folder .. "/t10k-labels-idx1-ubyte", labels(10))
  end
  return folder
end

local runs_made = 0

function small.words(part, words)
  runs_made = runs_made + 1
  local runs = ("%s/small-%s-%d"):format(part.scratch, part.name, runs_made)
  return ("train models/bn_lenet.lua --epochs 1 %s --out %s --json %s"):format(part.host
    and "--batch 8 --data " .. process.quote(made_up_data(part)) or "--limit 12800",
    process.quote(runs), words or "--device cuda")
end

function small.run(part, words, options) return part:json(small.words(part, words), options) end

-- What remains of a command line that could not be: one line, whole, and nothing of Lua's insides.
function small.refused(r, pattern)
  local line = r.err:match "^cnnlua: ([^\n]+)\n$"
  local ok = r.status == 1 and line and line:find(pattern) and not line:find "lua/cnn/"
  return ok and true or false, line or process.ending(r)
end

return small
