-- plans.lua - cnnlua doctor --cudnn-plans: which of cuDNN's engines takes each convolution of the
-- models, with how much workspace.
--
-- A row a convolution, computation and precision; a column a card. The three directions, and what
-- cuDNN may compute together with the forward one. Exit status 1 where a direction has no plan.
--
-- Surprising: no card is needed, nor a driver: cuDNN plans for one that is described to it. What is
-- shown is that there is a plan, not that it is right or fast.

local ffi = require "ffi"
local C = require "cnn.ffi".C
local autograd = require "cnn.autograd"
local calls = require "cnn.calls"
local create = require "cnn.create"
local fail = require "cnn.fail"
local recipe = require "cnn.recipe"
local text = require "cnn.text"

local cards = { "sm_80", "sm_90", "sm_100" }

local precisions = { "fp32", "tf32", "bf16" }

-- As kernels/device.h numbers them.
local BIAS, RELU, STATISTICS, NORMED = 1, 2, 4, 8

-- name, direction, what is joined to it
local computations = {
  { "forward", 0, 0 }, { "data gradient", 1, 0 }, { "weight gradient", 2, 0 },
  { "forward, bias", 0, BIAS }, { "forward, bias, relu", 0, BIAS + RELU },
  { "forward, statistics", 0, STATISTICS }, { "normed, forward", 0, NORMED },
  { "normed, forward, statistics", 0, NORMED + STATISTICS },
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

-- The numbers of k_conv in kernels/kernels.h, in its order, all arrays dense.
local function numbers(layer, x, y)
  local n, c, h, w = x:size(1), x:size(2), x:size(3), x:size(4)
  local o, oh, ow = y:size(2), y:size(3), y:size(4)
  return { n, h, w, c, c, oh, ow, o, o, layer.kh, layer.kw, layer.sh, layer.sw, layer.ph, layer.pw,
    layer.dh, layer.dw, layer.groups }
end

-- Adds the model's convolutions to `list`: { model, path, layer, sizes }, each kind once.
local function collect(file, list, known)
  local loaded = recipe.load(file, {})
  local net, paths = loaded.net, text.paths("", loaded.net)
  local inputs, observer = {}, {}
  function observer.enter(_, depth, x) inputs[depth] = x end
  function observer.leave(node, depth, y)
    if node.kind ~= "Conv2d" then return end
    local sizes = numbers(node, inputs[depth], y)
    local key = table.concat(sizes, " ")
    if known[key] then return end
    known[key] = true
    list[#list + 1] = { model = loaded.name, path = paths[node], layer = node:describe(),
      input = tostring(inputs[depth]:shape()), sizes = ffi.new("int64_t[18]", sizes) }
  end
  local x = create.zeros({ loaded.train.batch, unpack(loaded.input) }, { device = "meta" })
  autograd.no_grad(calls.observe, observer, calls.call, net, x)
end

-- ------------------------------------------------------------------------------------- the plans

local line = ffi.new "char[512]"

-- The engine's line and whether there is one.
local function plan(conv, computation, precision, card)
  local rc = C.cnn_cuda_plan(conv.sizes, computation[2], computation[3], precision, card, line,
    ffi.sizeof(line))
  if rc ~= 0 then fail.run("--cudnn-plans: %s", ffi.string(C.cnn_error())) end
  local answer = ffi.string(line)
  return answer, answer:match "^engine" ~= nil
end

-- What was asked, what had no plan, of those that stand alone and of those that are joined.
local function tally()
  return { [true] = { asked = 0, none = 0 }, [false] = { asked = 0, none = 0 } }
end

local function rows_of(conv, counts, rows)
  for _, computation in ipairs(computations) do
    local count = counts[computation[3] == 0]
    for _, precision in ipairs(precisions) do
      local row = { conv.model, conv.path, conv.layer, conv.input, computation[1], precision }
      for _, card in ipairs(cards) do
        local answer, found = plan(conv, computation, precision, card)
        count.asked = count.asked + 1
        if not found then count.none = count.none + 1 end
        row[#row + 1] = answer
      end
      rows[#rows + 1] = row
    end
  end
end

return function()
  local list, known, counts = {}, {}, tally()
  for _, file in ipairs(models()) do collect(file, list, known) end
  local rows = { { "model", "name", "layer", "input", "computation", "precision", unpack(cards) } }
  for _, conv in ipairs(list) do rows_of(conv, counts, rows) end
  print(text.columns(rows, #rows[1]))
  local alone, joined = counts[true], counts[false]
  print(("%s: %s of them alone, %s without a plan; %s joined, %s without"):format(
    text.counted(#list, "convolution") .. ", " .. text.counted(alone.asked + joined.asked, "plan"),
    text.commas(alone.asked), text.commas(alone.none), text.commas(joined.asked),
    text.commas(joined.none)))
  return alone.none > 0 and 1 or 0
end
