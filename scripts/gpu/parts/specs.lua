-- specs.lua - the specs in which a card's kernels take part, run by busted inside of cnnlua.
--
-- In them "cuda", "cublas" and "cudnn" are further variants beside the CPU's, each compared with
-- generic in every op, layout and gradient, on poisoned memory (spec/support/engine.lua). A file of
-- specs is a check here.

local files = {
  { "ops", "every op in every variant agrees with generic" },
  { "card", "tensors, steps as graphs, batches of the card" },
  { "card_memory", "the card's memory: enough, and little" },
  { "bf16", "every op with bf16 activations agrees with generic" },
  { "card_mixed", "bf16 in rows that begin anywhere, of weights and of pictures" },
  { "concatenation", "concatenation in place" },
  { "card_program", "the program on a card" },
  { "kernels", "the real layers of the eight nets agree in every variant" },
  { "optim", "optimizers and schedules" },
  { "autograd", "autograd" },
  { "nn", "layers" },
}

-- What the double runs: a filter.
local HOST = { ops = "relu", card_memory = "a card's memory", bf16 = "relu" }

local function name_of(file) return ("%s (spec/%s_spec.lua)"):format(file[2], file[1]) end

local function run(part)
  local specs = require "scripts.gpu.specs"
  for _, file in ipairs(files) do
    local name, check = file[1], name_of(file)
    if part.host and not HOST[name] then
      part:skipped(check, "in small on the host double; make test runs it")
    elseif part:left() < 3 then
      part:skipped(check, "no time was left")
    else
      part:check(check, specs.run(part, name, HOST[name] and part.host and HOST[name] or nil))
    end
  end
end

local checks = {}
for i, file in ipairs(files) do checks[i] = name_of(file) end

return {
  about = "specs with the card's kernels",
  seconds = 95, card = true, checks = checks, run = run }
