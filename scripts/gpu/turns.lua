-- turns.lua - cnnlua and PyTorch in turns: what the parts bench and compile have in common.
--
--   local race = turns.open(part, modes)      race.torch: its version, or race.without: why not
--   race:run(net, what, precision)            a row: rates as medians, PyTorch's best mode, ratio
--   race:close()
--
-- A round is a burst of cnnlua and one of each of PyTorch's modes, so that all see the same moments
-- of the card; the ratio is of medians over the rounds. Surprising: a mode that PyTorch cannot run
-- is no reason to stop: its error takes the place of its rate in the log, and the others count.

local cjson = require "cjson"
local process = require "scripts.gpu.process"

local ROUNDS, SECONDS = 3, 0.12

local Race = {}
Race.__index = Race

local turns = {}

function turns.median(list)
  local sorted, n = { unpack(list) }, #list
  table.sort(sorted)
  return (sorted[math.ceil(n / 2)] + sorted[math.floor(n / 2) + 1]) / 2
end

-- PyTorch's version where it is installed and sees the device, or nil and why not.
local function torch_version(device)
  local python = process.quote(os.getenv "PYTHON" or "python3")
  local r = process.line("timeout --foreground 60 " .. python
    .. " -c 'import torch; print(torch.__version__, torch.cuda.is_available())'")
  if not r then return nil, "PyTorch is not installed" end
  local version, sees = r:match "^(%S+) (%S+)$"
  if device == "cuda" and sees ~= "True" then
    return nil, ("PyTorch %s sees no card"):format(tostring(version))
  end
  return version
end

-- The answer, or nil and the error in words.
local function ask(server, ...)
  local line, why = server:ask((("%s "):rep(select("#", ...))):format(...))
  if not line then return nil, why end
  local ok, answer = pcall(cjson.decode, line)
  if not ok then return nil, "no JSON: " .. line:sub(1, 100) end
  if answer.error then return nil, answer.error end
  return answer
end

local function serve_ours(part)
  return part:serve("cnnlua", process.quote(part.program) .. " scripts/gpu/serve.lua")
end

function turns.open(part, modes)
  local race = setmetatable({ part = part, modes = modes, ours = serve_ours(part) }, Race)
  local device = part.host and "cpu" or "cuda"
  race.torch, race.without = torch_version(device)
  if race.torch then
    race.theirs = part:serve("PyTorch", ("%s scripts/gpu/peers.py --device %s"):format(
      process.quote(os.getenv "PYTHON" or "python3"), device))
  end
  return race
end

-- Both get ready; the names of PyTorch's modes that are.
function Race:make(net, what, precision)
  local batch = self.part.host and 2 or 0
  local ok, why = ask(self.ours, "make", "ours", net, "-", precision, what, batch)
  if not ok then error(("cnnlua, %s %s %s: %s"):format(net, what, precision, why), 0) end
  local ready = {}
  for _, mode in ipairs(self.theirs and self.modes or {}) do
    local made, problem = ask(self.theirs, "make", mode, net, mode, precision, what, batch)
    if made then
      ready[#ready + 1] = mode
    else
      print(("PyTorch %s, %s %s %s: %s"):format(mode, net, what, precision, problem))
    end
  end
  return ready
end

local function burst(server, id, rates)
  local answer, why = ask(server, "go", id, SECONDS)
  if not answer then error(why, 0) end
  table.insert(rates, answer.images_per_s)
end

local function measure(self, net, what, precision)
  local ready = self:make(net, what, precision)
  local mine, theirs = {}, {}
  for _, mode in ipairs(ready) do theirs[mode] = {} end
  for _ = 1, self.part.host and 1 or ROUNDS do
    burst(self.ours, "ours", mine)
    for _, mode in ipairs(ready) do burst(self.theirs, mode, theirs[mode]) end
  end
  ask(self.ours, "drop")
  if self.theirs then ask(self.theirs, "drop") end
  local row = { net = net, what = what, precision = precision, cnnlua = turns.median(mine) }
  for _, mode in ipairs(ready) do
    local rate = turns.median(theirs[mode])
    row[mode] = rate
    if not row.best or rate > row[row.best] then row.best = mode end
  end
  if row.best then row.ratio = row.cnnlua / row[row.best] end
  return row
end

-- A card's error stays with its process: the next net gets another one.
function Race:run(...)
  local ok, row = pcall(measure, self, ...)
  if ok then return row end
  self.ours:close()
  self.ours = serve_ours(self.part)
  error(row, 0)
end

function Race:close()
  self.ours:close()
  if self.theirs then self.theirs:close() end
end

return turns
