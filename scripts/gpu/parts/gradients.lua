-- gradients.lua - backward on the card against differences of the card's own forward.
--
-- Every case of every op (spec/support/catalogue.lua) under every kernel variant of the card, as
-- spec/ops_spec.lua does it with generic; then blocks of layers, index by index (cnn.gradcheck).
-- All in fp32: differences of tf32 results are mostly its rounding.

local OPS, BLOCKS = "every op, every variant of the card: backward agrees with differences",
  "blocks of layers on the card pass cnn.gradcheck"

local HOST = { relu = true, conv2d = true, batch_norm = true } -- the ops that the double tries

-- Pairs of numbers that agreed; wrong: a list of lines.
local function check_op(name, row, variant, wrong)
  local engine = require "spec.support.engine"
  local harness = require "spec.support.harness"
  local compared = 0
  for _, case in ipairs(row.cases) do
    local values = harness.values_of(case, "dense")
    local results = engine.with(variant, harness.run, name, row, case, values, "dense")
    for _, result in ipairs(results) do
      local which = tonumber(result.what:match "^the gradient of input (%d+)$")
      if which then
        local numeric, analytic, norm = engine.with(variant, harness.gradient_pair, name, row, case,
          which, result)
        compared = compared + 1
        if not (math.abs(numeric - analytic) <= 4e-3 * norm + 2e-4) then
          wrong[#wrong + 1] = ("%s, %s, input %d: backward says %.7g, differences %.7g"):format(
            variant, harness.describe(name, case), which, analytic, numeric)
        end
      end
    end
  end
  return compared
end

local function check_ops(part)
  local engine = require "spec.support.engine"
  local catalogue = require "spec.support.catalogue"
  assert(engine.has_card, "no card")
  local compared, wrong = 0, {}
  for _, op in ipairs(require "cnn.bind".list) do
    local row = catalogue[op.name]
    if row and row.grad ~= false and (HOST[op.name] or not part.host) then
      for _, variant in ipairs(engine.card_variants) do
        local ok, n = pcall(check_op, op.name, row, variant, wrong)
        if ok then
          compared = compared + n
        else
          wrong[#wrong + 1] = ("%s, %s: %s"):format(variant, op.name, tostring(n))
        end
      end
    end
  end
  for _, line in ipairs(wrong) do print(line) end
  if #wrong > 0 then error(("%d of %d wrong; %s"):format(#wrong, compared, wrong[1]), 0) end
  return ("%d gradients, variants %s"):format(compared, table.concat(engine.card_variants, " "))
end

local function blocks()
  local nn = require "cnn".nn
  return {
    { nn.Sequential(nn.Conv2d(3, 4, 3, { padding = 1 }), nn.BatchNorm2d(4), nn.Sigmoid(),
      nn.AvgPool2d(2)), { 2, 3, 6, 6 } },
    { nn.Sequential(nn.Conv2d(3, 4, 3, { stride = 2 }), nn.Tanh(), nn.Flatten(), nn.Linear(nil, 5)),
      { 2, 3, 7, 7 } },
    { nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 4), nn.GELU()), { 5, 6 } },
  }
end

local function check_blocks()
  local cnn = require "cnn"
  local count = 0
  for i, block in ipairs(blocks()) do
    local net, shape = unpack(block)
    cnn.manual_seed(i)
    local x = cnn.randn(unpack(shape))
    net:train()
    net(x)
    net:to "cuda"
    local ok, why = cnn.gradcheck(net, { x:to "cuda" }, { rtol = 0.03, atol = 5e-3 })
    if not ok then error(("block %d: %s"):format(i, why), 0) end
    count = count + 1
  end
  return ("%d blocks"):format(count)
end

local function run(part)
  require "cnn".cuda.precision "fp32"
  part:try(OPS, check_ops, part)
  part:try(BLOCKS, check_blocks)
end

return {
  about = "gradients against differences on the card",
  seconds = 25, card = true, checks = { OPS, BLOCKS },
  run = run,
}
