-- epochs.lua - ten epochs of each net's recipe on the card, beside the book's published builds.
--
-- First in the default precision, then in bf16. The cheapest net comes first; one that would not be
-- ready in time is left out by name, by what the one before it took for its multiply-adds.
--
-- Surprising: the whole run counts, reading data,
-- evaluation and pictures included; the book's examples/s leaves those out, so both are shown.

local band = require "scripts.gpu.band"
local small = require "scripts.gpu.small"
local process = require "scripts.gpu.process"

local MOST_SECONDS = 60 -- of a whole run

local function in_band(net, bf16)
  return ("%s: ten epochs%s land in the published band"):format(net.name, bf16 and " in bf16" or "")
end
local function in_time(net, bf16)
  return ("%s: the whole run%s takes less than 60 s"):format(net.name, bf16 and " in bf16" or "")
end

local function wanted(part, net)
  if part.host then return net.name == "bn_lenet" end
  if not part.nets then return true end
  for _, name in ipairs(part.nets) do
    if name == net.name then return true end
  end
  return false
end

local function skip(part, net, bf16, why)
  part:skipped(in_band(net, bf16), why)
  part:skipped(in_time(net, bf16), why)
end

local function train(part, net, bf16)
  if part.host then return small.run(part, bf16 and "--device cuda --precision bf16") end
  return part:json(("train models/%s.lua --device cuda%s --json --out %s"):format(net.name,
    bf16 and " --precision bf16" or "",
    process.quote(part.scratch .. "/" .. net.name .. (bf16 and "-bf16" or ""))),
    { seconds = 2 * MOST_SECONDS })
end

local function report(part, net, bf16, r)
  local ok, text = band.holds(net, r.loss, r.train_acc)
  if part.host then
    skip(part, net, bf16, "the host double trained one epoch of 20 pictures")
  else
    part:check(in_band(net, bf16), ok, text)
    part:check(in_time(net, bf16), r.seconds < MOST_SECONDS, ("%.1f s"):format(r.seconds))
  end
  part:row("runs", {
    net = net.name, precision = bf16 and "bf16" or "tf32", loss = r.loss,
    ["train acc"] = r.train_acc, ["test acc"] = r.test_acc,
    ["book's test"] = net.test_acc, seconds = r.seconds, ["images/s"] = r.examples_per_s,
    ["end to end"] = r.end_to_end_examples_per_s, ["book's V100"] = net.examples_per_s,
    ["outside steps %"] = 100 * (1 - r.end_to_end_examples_per_s / r.examples_per_s),
  })
end

local function run_all(part, bf16)
  local rate -- seconds of a whole run for a multiply-add of its image
  for _, net in ipairs(band) do
    local need = rate and rate * net.macs or 3
    if not wanted(part, net) then
      skip(part, net, bf16, part.host and "too large for the host double" or "not among --nets")
    elseif need > part:left() - 2 then
      skip(part, net, bf16,
        ("left out: about %.0f s needed, %.0f s left (--only epochs --nets %s)"):format(need,
          part:left(), net.name))
    else
      local ok, r = pcall(train, part, net, bf16)
      if ok then
        report(part, net, bf16, r)
        if net.macs > 1e7 then rate = r.seconds / net.macs end
      else
        part:failed(in_band(net, bf16), tostring(r))
        part:skipped(in_time(net, bf16), "the run failed")
      end
    end
  end
end

local function run(part)
  run_all(part, false)
  run_all(part, true)
end

local checks = {}
for _, bf16 in ipairs { false, true } do
  for _, net in ipairs(band) do
    checks[#checks + 1] = in_band(net, bf16)
    checks[#checks + 1] = in_time(net, bf16)
  end
end

return {
  about = "ten epochs of all eight nets against the published band",
  seconds = 190, card = true, checks = checks,
  tables = {
    {
      name = "runs", title = "whole runs; tf32: the default, which has it in convolutions",
      columns = { "net", "precision", "loss", "train acc", "test acc", "book's test", "seconds",
                  "images/s", "end to end", "outside steps %", "book's V100" },
    },
  },
  run = run,
}
