-- robust.lua - what may go wrong on a card does so in one line, and leaves the card as it was.

local process = require "scripts.gpu.process"
local small = require "scripts.gpu.small"

local SYNC, OWN, BITS = "CNN_SYNC=1 gives the same loss",
  "the kernels of our own alone give that loss, too (CNN_CUDA_KERNELS=cuda)",
  "--deterministic gives the same loss twice"
local INDEX, TENSOR, LABEL = "--device cuda:99 is refused in one line",
  "a tensor on cuda:99 is refused in one line", "a label that is none is named"
local STOP, HIDDEN = "Ctrl-C ends a run with one line, and the card works on",
  "without a visible card the CPU trains, and --device cuda says why it cannot"

local NEAR = 2e-2 -- relative, of a loss after an epoch in another order of sums, tf32 or not

local function losses(part)
  local first = small.run(part)
  local function like(words, env, tolerance)
    return function()
      local loss = small.run(part, words, { env = env }).loss
      local off = math.abs(loss - first.loss)
      local text = ("loss %.7g and %.7g"):format(loss, first.loss)
      if not (off <= tolerance * first.loss) then error(text, 0) end
      return text
    end
  end
  part:try(SYNC, like(nil, { CNN_SYNC = 1 }, NEAR))
  part:try(OWN, like(nil, { CNN_CUDA_KERNELS = "cuda" }, NEAR))
  part:try(BITS, function()
    local words = "--device cuda --deterministic"
    local one, two = small.run(part, words).loss, small.run(part, words).loss
    local text = ("loss %.9g and %.9g"):format(one, two)
    if one ~= two then error(text, 0) end
    return text
  end)
end

local function refusals(part)
  part:check(INDEX, small.refused(part:cnnlua(small.words(part, "--device cuda:99")), "cuda:99"))
  local code = [[require "cnn".zeros(2, { device = "cuda:99" })]]
  part:check(TENSOR, small.refused(part:cnnlua("-e " .. process.quote(code)), "cuda:99"))
  code = [[
    local cnn = require "cnn"
    local x, y = cnn.rand({ 2, 3 }, { device = "cuda" }), cnn.tensor({ 1, 2 }):to "cuda"
    local function loss() return cnn.step(function() return cnn.nn.CrossEntropyLoss()(x, y) end) end
    for _ = 1, 3 do loss():item() end
    y:copy(cnn.tensor { 1, 9 })
    loss():item()]]
  part:check(LABEL, small.refused(part:cnnlua("-e " .. process.quote(code)),
    "label 9 at position 2 is not in 1 .. 3"))
end

-- Stopped in the midst of many epochs.
local function stopped(part)
  local words = small.words(part):gsub("%-%-epochs 1", "--epochs 1000000")
  local r = part:run(("timeout --foreground -s INT %s %s %s"):format(part.host and 3 or 4,
    process.quote(part.program), words), { seconds = 20 })
  local line = (process.last(r.err) or ""):match "^cnnlua: (interrupted.*)"
  local again = part:cnnlua("-e " .. process.quote
    [[assert(require "cnn".ones({ 3 }, { device = "cuda" }):sum():item() == 3)]])
  part:check(STOP, (r.status == 130 or r.status == 124) and line ~= nil and again.status == 0,
    again.status ~= 0 and process.ending(again) or line or process.ending(r))
end

local function hidden(part)
  if part.host then return part:skipped(HIDDEN, "the host double is always there") end
  local env = { CUDA_VISIBLE_DEVICES = "" }
  local trained = part:cnnlua(small.words(part, "--device auto"), { env = env })
  local ok, text = small.refused(part:cnnlua(small.words(part, "--device cuda"), { env = env }),
    "cpu")
  part:check(HIDDEN, ok and trained.status == 0, trained.status ~= 0 and process.ending(trained)
    or text)
end

local function run(part)
  local ok, why = pcall(losses, part)
  refusals(part)
  stopped(part)
  hidden(part)
  if not ok then error(why, 0) end
end

return {
  about = "what goes wrong goes wrong in one line",
  seconds = 30, card = true,
  checks = { SYNC, OWN, BITS, INDEX, TENSOR, LABEL, STOP, HIDDEN }, run = run,
}
