-- plans.lua - cnnlua doctor --cudnn-plans: which of cuDNN's engines takes each convolution of the
-- models, with how much workspace.
--
-- A table a model: a row a convolution, computation and precision, a column a card. The three
-- directions, and what cuDNN may compute together with the forward one; convolutions of the same
-- sizes once. Exit status 1 where a direction has no plan. Takes some minutes.
--
-- Surprising: no card is needed, nor a driver: cuDNN plans for one that is described to it. What is
-- shown is that there is a plan, not that it is right or fast.

local ffi = require "ffi"
local C = require "cnn.ffi".C
local autograd = require "cnn.autograd"
local calls = require "cnn.calls"
local conv_sizes = require "cnn.conv_sizes"
local create = require "cnn.create"
local fail = require "cnn.fail"
local recipe = require "cnn.recipe"
local text = require "cnn.text"

local cards = { "sm_80", "sm_90", "sm_100" }

-- As kernels/device.h numbers them.
local BIAS, RELU, STATISTICS, NORMED = 1, 2, 4, 8

-- name, direction, what is joined to it, precisions. cuDNN joins batch norm on tensor cores alone.
local all, tensor_cores = { "fp32", "tf32", "bf16" }, { "tf32", "bf16" }
local computations = {
  { "forward", 0, 0, all }, { "data gradient", 1, 0, all }, { "weight gradient", 2, 0, all },
  { "forward, bias", 0, BIAS, all }, { "forward, bias, relu", 0, BIAS + RELU, all },
  { "forward, statistics", 0, STATISTICS, tensor_cores },
  { "normed, forward, statistics", 0, NORMED + STATISTICS, tensor_cores },
}

-- ----------------------------------------------------------------------------- the convolutions

-- The directory of the models: here, beside the sources, or where they were installed.
local function models()
  local f = io.popen [[exe=$(dirname "$(readlink /proc/$PPID/exe)")
    for d in models "$exe/../models" "$exe/../share/cnnlua/models"; do
      [ -d "$d" ] && ls "$d"/*.lua && exit
    done 2>/dev/null]]
  local list = {}
  for path in f:lines() do list[#list + 1] = path end
  f:close()
  if #list == 0 then fail.run "--cudnn-plans: no models/*.lua is found" end
  return list
end

-- The convolutions of a model that are not in `known` yet: { path, layer, input, sizes }.
local function collect(loaded, known)
  local net, paths, list = loaded.net, text.paths("", loaded.net), {}
  local inputs, observer = {}, {}
  function observer.enter(_, depth, x) inputs[depth] = x end
  function observer.leave(node, depth, y)
    if node.kind ~= "Conv2d" then return end
    local sizes = conv_sizes.of(node, inputs[depth], y)
    local key = table.concat(sizes, " ")
    if known[key] then return end
    known[key] = true
    list[#list + 1] = { path = paths[node], layer = node:describe(),
      input = tostring(inputs[depth]:shape()), sizes = ffi.new("int64_t[18]", sizes) }
  end
  local x = create.zeros({ loaded.train.batch, unpack(loaded.input) }, { device = "meta" })
  autograd.no_grad(calls.observe, observer, calls.call, net, x)
  return list
end

-- ------------------------------------------------------------------------------------- the plans

local line = ffi.new "char[512]"

-- The engine's line, and whether there is one.
local function plan(conv, computation, precision, card)
  local rc = C.cnn_cuda_plan(conv.sizes, computation[2], computation[3], precision, card, line,
    ffi.sizeof(line))
  if rc ~= 0 then fail.run("--cudnn-plans: %s", ffi.string(C.cnn_error())) end
  local answer = ffi.string(line)
  return answer, answer:match "^engine" ~= nil
end

local function add_row(rows, conv, computation, precision, count)
  local row = { conv.path, conv.layer, conv.input, computation[1], precision }
  for _, card in ipairs(cards) do
    local answer, found = plan(conv, computation, precision, card)
    count.asked = count.asked + 1
    if not found then count.none = count.none + 1 end
    row[#row + 1] = answer
  end
  rows[#rows + 1] = row
end

local function show(list, alone, joined)
  local rows = { { "name", "layer", "input", "computation", "precision", unpack(cards) } }
  for _, conv in ipairs(list) do
    for _, computation in ipairs(computations) do
      for _, precision in ipairs(computation[4]) do
        add_row(rows, conv, computation, precision, computation[3] == 0 and alone or joined)
      end
    end
  end
  print(text.columns(rows, #rows[1]))
end

return function()
  local known, count = {}, 0
  local alone, joined = { asked = 0, none = 0 }, { asked = 0, none = 0 }
  for _, file in ipairs(models()) do
    local loaded = recipe.load(file, {})
    local list = collect(loaded, known)
    count = count + #list
    print(("%s, batch %d: %s not seen before"):format(loaded.name, loaded.train.batch,
      text.counted(#list, "convolution")))
    if #list > 0 then show(list, alone, joined) end
    io.stdout:flush()
  end
  print(("%s: %s, %s without; joined with what follows or precedes: %s, %s without"):format(
    text.counted(count, "convolution"), text.counted(alone.asked, "plan"), text.commas(alone.none),
    text.counted(joined.asked, "plan"), text.commas(joined.none)))
  return alone.none > 0 and 1 or 0
end
