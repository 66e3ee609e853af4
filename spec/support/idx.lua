-- idx.lua - small data sets in LeCun's IDX format, right ones and wrong ones.

local program = require "spec.support.program"
local engine = require "spec.support.engine"

local idx = {}

idx.names = {
  "train-images-idx3-ubyte", "train-labels-idx1-ubyte",
  "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
}

function idx.word(n)
  return string.char(math.floor(n / 2 ^ 24) % 256, math.floor(n / 2 ^ 16) % 256,
    math.floor(n / 2 ^ 8) % 256, n % 256)
end

-- n pictures of h x w; every picture has its own bytes.
function idx.images(n, h, w, seed)
  local random, bytes = engine.random(seed or 1), {}
  for i = 1, n * h * w do bytes[i] = string.char(math.floor(random() * 256)) end
  return "\0\0\8\3" .. idx.word(n) .. idx.word(h) .. idx.word(w) .. table.concat(bytes)
end

-- Labels 0 1 2 ... 9 0 1 ...
function idx.labels(n)
  local bytes = {}
  for i = 1, n do bytes[i] = string.char((i - 1) % 10) end
  return "\0\0\8\1" .. idx.word(n) .. table.concat(bytes)
end

-- A directory with the four files; `changes` replaces the text of some (false: no such file).
function idx.directory(name, changes)
  local dir = program.file(name)
  os.execute("mkdir -p " .. program.quote(dir))
  local texts = {
    idx.images(20, 28, 28, 1), idx.labels(20), idx.images(10, 28, 28, 2), idx.labels(10),
  }
  for i, file in ipairs(idx.names) do
    local text = texts[i]
    if changes and changes[i] ~= nil then text = changes[i] end
    if text then program.write(dir .. "/" .. file, text) end
  end
  return dir
end

function idx.gzip(text)
  local plain = program.file("to-gzip", text)
  local status, out = program.shell(("gzip -c %s >%s.gz"):format(program.quote(plain),
    program.quote(plain)))
  assert(status == 0, out)
  return program.read(plain .. ".gz")
end

return idx
