-- compile.lua - the same beside torch.compile, which takes up to minutes before a net's first step:
-- so it comes last, with what is left of the time, the nets one after the other.

local band = require "scripts.gpu.band"

local CHECK = "training in tf32 and bf16 beside torch.compile"
local LEAST = 15 -- seconds that a net is begun with

local function run(part)
  if part.host then return part:skip_rest "in small on the host double" end
  local race = require "scripts.gpu.turns".open(part, { "compile" })
  if not race.torch then return part:skip_rest(race.without) end
  local done = 0
  for _, precision in ipairs { "tf32", "bf16" } do
    for _, net in ipairs(band) do
      part:skipped(CHECK, ("%d measured; no time was left from %s %s on"):format(done, net.name,
        precision)) -- stands where this net is the one that is cut off
      if part:left() < LEAST then return race:close() end
      part:row("rates", race:run(net.name, "train", precision))
      done = done + 1
    end
  end
  race:close()
  part:passed(CHECK, done .. " measured")
end

return {
  about = "images/s beside torch.compile's, as far as the time goes",
  seconds = 15, card = true, cut = true, checks = { CHECK },
  tables = {
    { name = "rates", title = "images/s beside torch.compile",
      columns = { "net", "what", "precision", "cnnlua", "compile", "ratio" } },
  },
  run = run,
}
