-- losses.lua - twenty training steps of each net on the card beside PyTorch's in float64.
--
-- spec/golden_spec.lua checks logits, gradients and 20 losses in fp32 with the card's best kernels.
-- Here the same steps run once more as the trainer records them, forward to update in one, so that
-- from the third on they are replayed graphs; in fp32 these losses have to be right, too. For tf32
-- and bf16, where there is nothing to fail, the table says how far they are from float64's.

local band = require "scripts.gpu.band"

local FLOAT32 = 4 -- times as far from float64 as float32 PyTorch's losses may ours be

local OPS = "PyTorch's values of ops and optimizers, every variant (spec/golden_spec.lua)"
local function golden_of(net) return net.name .. ": logits, gradients, 20 losses in fp32" end
local function graphs_of(net) return net.name .. ": 20 losses of replayed graphs in fp32" end

-- The losses of the golden's steps, and the golden.
local function train(name, precision, most)
  local cnn = require "cnn"
  local golden = require "spec.support.golden"
  cnn.cuda.precision(precision)
  local g = golden.read(name)
  local net = golden.prepare(require "spec.support.scripts".recipe(name).net, g):to "cuda"
  local optimizer = cnn.optim.SGD(net:parameters(), { lr = g.lr })
  local criterion, batches, losses = cnn.nn.CrossEntropyLoss(), golden.batches(g), {}
  for _, batch in ipairs(batches) do batch[1], batch[2] = batch[1]:to "cuda", batch[2]:to "cuda" end
  for step = 1, math.min(g.steps, most) do
    local x, y = unpack(batches[(step - 1) % #batches + 1])
    losses[step] = cnn.step(function()
      optimizer:zero_grad()
      local loss = criterion(net(x), y)
      loss:backward()
      optimizer:step()
      optimizer:zero_grad()
      return loss:detach()
    end)
  end
  for i, loss in ipairs(losses) do losses[i] = loss:item() end
  collectgarbage()
  return losses, g
end

-- The furthest from float64, relative to the loss, and at which step.
local function furthest(losses, g)
  local most, at = 0, 0
  for i, loss in ipairs(losses) do
    local off = math.abs(loss - g.losses[i]) / math.max(1, g.losses[i])
    if not (off <= most) then most, at = off, i end
  end
  return most, at
end

local function graphs(name, most, row)
  local losses, g = train(name, "fp32", most)
  row.fp32 = furthest(losses, g)
  for i, loss in ipairs(losses) do
    local tolerance = FLOAT32 * g.loss_error32[i] + 5e-6 * math.max(1, g.losses[i])
    if not (math.abs(loss - g.losses[i]) <= tolerance) then
      error(("step %d: got %.9g, expected %.9g, tolerance %.3g"):format(i, loss, g.losses[i],
        tolerance), 0)
    end
  end
  return ("%d losses, the furthest %.2g off at step %d"):format(#losses, furthest(losses, g))
end

local function check_net(part, net)
  local specs = require "scripts.gpu.specs"
  part:check(golden_of(net), specs.run(part, "golden",
    ("beside PyTorch: %s has them on a card"):format(net.name)))
  local most, row = part.host and 4 or 1000, { net = net.name }
  if not part:try(graphs_of(net), graphs, net.name, most, row) or part.host then return end
  for _, precision in ipairs { "tf32", "bf16" } do
    if part:left() > 3 then row[precision] = furthest(train(net.name, precision, most)) end
  end
  part:row("precision", row)
end

local function skip(part, net, why)
  part:skipped(golden_of(net), why)
  part:skipped(graphs_of(net), why)
end

local function run(part)
  if part.host then
    part:skipped(OPS, "in small on the host double; make test runs it")
  else
    part:check(OPS, require "scripts.gpu.specs".run(part, "golden", "PyTorch's"))
  end
  for _, net in ipairs(band) do
    if part.host and net.name ~= "bn_lenet" then
      skip(part, net, "too large for the host double")
    elseif part:left() < 4 then
      skip(part, net, "no time was left")
    else
      check_net(part, net)
    end
  end
end

local checks = { OPS }
for _, net in ipairs(band) do
  checks[#checks + 1] = golden_of(net)
  checks[#checks + 1] = graphs_of(net)
end

return {
  about = "20 steps of each net beside PyTorch's goldens",
  seconds = 45, card = true, checks = checks,
  tables = {
    { name = "precision", title = "the furthest of 20 losses from float64's, relative",
      columns = { "net", "fp32", "tf32", "bf16" } },
  },
  run = run,
}
