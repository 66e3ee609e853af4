-- bench.lua - images/s of training and of prediction: cnnlua and PyTorch in turns, at the same
-- precision and batch, on pictures that are on the card already.

local band = require "scripts.gpu.band"

local MODES = { "eager", "channels_last", "graphs" } -- torch.compile is a part of its own

-- The order is that of what is asked for most; fp32 is cnnlua's alone.
local kinds = {
  { "train", "tf32" }, { "train", "bf16" }, { "predict", "tf32" }, { "predict", "bf16" },
  { "train", "fp32", alone = true }, { "predict", "fp32", alone = true },
}

local function name_of(kind)
  return ("%s in %s: every net%s"):format(kind[1], kind[2],
    kind.alone and ", cnnlua alone" or " beside PyTorch's best mode")
end

local function nets_of(part)
  if part.host then return { "bn_lenet" } end
  if part.nets then return part.nets end
  local list = {}
  for i, net in ipairs(band) do list[i] = net.name end
  return list
end

-- One kind for all nets: how many rows, their ratios, and the names of those without PyTorch and of
-- those that no time was left for, and what failed first. long: the most that a net took so far.
local function measure(part, race, kind, long)
  local all = { rows = 0, ratios = {}, alone = {}, left = {}, long = long }
  for _, net in ipairs(nets_of(part)) do
    local before = part:left()
    if before < all.long + 2 then
      table.insert(all.left, net)
    else
      local ok, row = pcall(race.run, race, net, kind[1], kind[2])
      if ok then
        part:row("rates", row)
        all.rows = all.rows + 1
        if row.ratio then table.insert(all.ratios, row.ratio) else table.insert(all.alone, net) end
      else
        all.failed = all.failed or ("%s: %s"):format(net, row)
      end
      all.long = math.max(all.long, before - part:left())
    end
  end
  return all
end

local function judge(part, race, kind, all)
  local check, text = name_of(kind), ("%d nets"):format(all.rows)
  if #all.ratios > 0 then
    text = ("%s; cnnlua / PyTorch: median %.2f, least %.2f"):format(text,
      require "scripts.gpu.turns".median(all.ratios), math.min(unpack(all.ratios)))
  end
  if all.failed then return part:failed(check, all.failed) end
  if #all.left > 0 then
    part:skipped(check, ("%s; no time was left for %s"):format(text, table.concat(all.left, ", ")))
  elseif not kind.alone and #all.alone > 0 then
    part:skipped(check, ("%s, without PyTorch: %s"):format(text, race.without or "see the log"))
  else
    part:passed(check, text)
  end
end

local function run(part)
  local race = require "scripts.gpu.turns".open(part, MODES)
  if race.torch then print("PyTorch " .. race.torch) end
  local long, theirs = 0, race.theirs
  for _, kind in ipairs(kinds) do
    if not part.host or kind[2] == "tf32" then
      race.theirs = not kind.alone and theirs or nil
      local all = measure(part, race, kind, long)
      judge(part, race, kind, all)
      long = all.long
    else
      part:skipped(name_of(kind), "in small on the host double")
    end
  end
  race.theirs = theirs
  race:close()
end

local checks = {}
for i, kind in ipairs(kinds) do checks[i] = name_of(kind) end

return {
  about = "images/s beside PyTorch's: eager, channels_last, graphs",
  seconds = 100, card = true, checks = checks,
  tables = {
    {
      name = "rates", title = "images/s, medians of bursts in turns; ratio: to PyTorch's best",
      most = 48,
      columns = { "net", "what", "precision", "cnnlua", "eager", "channels_last", "graphs",
                  "ratio" },
    },
  },
  run = run,
}
