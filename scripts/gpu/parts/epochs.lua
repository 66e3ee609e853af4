-- epochs.lua - ten epochs of each net's recipe on the card, beside the book's published builds.
--
-- The cheapest net comes first; one that would not be ready in time is left out by name, by what
-- the one before it took for its multiply-adds. Surprising: the whole run counts, reading data,
-- evaluation and pictures included; the book's examples/s leaves those out, so both are shown.

local band = require "scripts.gpu.band"
local small = require "scripts.gpu.small"
local process = require "scripts.gpu.process"

local MOST_SECONDS = 60 -- of a whole run

local function in_band(net) return net.name .. ": ten epochs land in the published band" end
local function in_time(net) return net.name .. ": the whole run takes less than 60 s" end

local function wanted(part, net)
  if part.host then return net.name == "bn_lenet" end
  if not part.nets then return true end
  for _, name in ipairs(part.nets) do
    if name == net.name then return true end
  end
  return false
end

local function skip(part, net, why)
  part:skipped(in_band(net), why)
  part:skipped(in_time(net), why)
end

local function train(part, net)
  if part.host then return small.run(part) end
  return part:json(("train models/%s.lua --device cuda --json --out %s"):format(net.name,
    process.quote(part.scratch .. "/" .. net.name)), { seconds = 2 * MOST_SECONDS })
end

local function report(part, net, r)
  local ok, text = band.holds(net, r.loss, r.train_acc)
  if part.host then
    skip(part, net, "the host double trained one epoch of 20 pictures")
  else
    part:check(in_band(net), ok, text)
    part:check(in_time(net), r.seconds < MOST_SECONDS, ("%.1f s"):format(r.seconds))
  end
  part:row("runs", {
    net = net.name, loss = r.loss, ["train acc"] = r.train_acc, ["test acc"] = r.test_acc,
    ["book's test"] = net.test_acc, seconds = r.seconds, ["images/s"] = r.examples_per_s,
    ["end to end"] = r.end_to_end_examples_per_s, ["book's V100"] = net.examples_per_s,
    ["outside steps %"] = 100 * (1 - r.end_to_end_examples_per_s / r.examples_per_s),
  })
end

local function run(part)
  local rate -- seconds of a whole run for a multiply-add of its image
  for _, net in ipairs(band) do
    local need = rate and rate * net.macs or 3
    if not wanted(part, net) then
      skip(part, net, part.host and "too large for the host double" or "not among --nets")
    elseif need > part:left() - 2 then
      skip(part, net, ("left out: about %.0f s needed, %.0f s left (--only epochs --nets %s)")
        :format(need, part:left(), net.name))
    else
      local ok, r = pcall(train, part, net)
      if ok then
        report(part, net, r)
        if net.macs > 1e7 then rate = r.seconds / net.macs end
      else
        part:failed(in_band(net), tostring(r))
        part:skipped(in_time(net), "the run failed")
      end
    end
  end
end

local checks = {}
for _, net in ipairs(band) do
  checks[#checks + 1] = in_band(net)
  checks[#checks + 1] = in_time(net)
end

return {
  about = "ten epochs of all eight nets against the published band",
  seconds = 140, card = true, checks = checks,
  tables = {
    {
      name = "runs", title = "whole runs, in the default precision (tf32 in convolutions)",
      columns = { "net", "loss", "train acc", "test acc", "book's test", "seconds", "images/s",
                  "end to end", "outside steps %", "book's V100" },
    },
  },
  run = run,
}
