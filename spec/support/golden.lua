-- golden.lua - reads spec/golden/*.json (made by scripts/oracle.py, which says what is in them) and
-- puts nets into the state that they were made from.
--
-- Surprising: weights are not in the files. Both sides draw them from Philox, a stream for each
-- parameter, so 47 million numbers cost five small integers.

local ffi = require "ffi"
local cnn = require "cnn"
local cjson = require "cjson"
local engine = require "spec.support.engine"

local C = engine.C
local golden = {}

golden.nets = {
  "alexnet", "vgg", "nin", "googlenet", "bn_lenet_scratch", "bn_lenet", "resnet", "densenet",
}

function golden.read(name)
  local f = assert(io.open("spec/golden/" .. name .. ".json"))
  local text = f:read "*a"
  f:close()
  return cjson.decode(text)
end

-- Numbers in [0, 1) of a Philox stream.
function golden.uniform(seed, stream, sizes)
  C.cnn_manual_seed(seed)
  C.cnn_set_rng_stream(stream)
  return cnn.rand(sizes)
end

-- lo + (hi - lo) * u in double, rounded to f32 once.
local function parameter_values(seed, spec)
  local x = golden.uniform(seed, spec.stream, spec.shape)
  local values = ffi.cast("float *", C.cnn_data(x))
  local lo, range = spec.lo, spec.hi - spec.lo
  for i = 0, spec.count - 1 do values[i] = lo + range * values[i] end
  return x
end

-- A net with the golden's weights and without dropout (p = 0, as a user would switch it off).
function golden.prepare(net, g)
  for _, layer in net:named_modules() do
    if layer.kind == "Dropout" then layer.p = 0 end
  end
  cnn.no_grad(function()
    for i, p in ipairs(net:parameters()) do p:copy(parameter_values(g.seed, g.parameters[i])) end
  end)
  return net:train()
end

-- The golden's batches, by way of the library's own loader.
function golden.batches(g)
  local data = cnn.data.fashion_mnist_test { batch = g.batch, resize = { g.input[2], g.input[3] } }
  local list = {}
  for x, y in data.test:batches { shuffle = false, skip = (g.first - 1) / g.batch } do
    list[#list + 1] = { x, y }
    if #list == g.batches then break end
  end
  return list
end

-- Flat positions (from 1, logical order) of a tensor.
function golden.at(x, positions)
  local values, picked = engine.values(x), {}
  for i, position in ipairs(positions) do picked[i] = values[position - 1] end
  return picked
end

function golden.norm(x)
  local values, n = engine.values(x)
  local sum = 0
  for i = 0, n - 1 do sum = sum + values[i] * values[i] end
  return math.sqrt(sum)
end

return golden
