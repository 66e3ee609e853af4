-- bench.lua - the work of scripts/bench, which says how to use it.
--
-- Each runner is a process that stays alive between its bursts (bench-ours.lua, bursts.py). In a
-- round each has one burst, so that all see the same moments of a noisy machine, and ratios are
-- taken round by round.
--
-- Surprising: the modes of a peer are raced before they are measured, one burst each, and only the
-- fastest takes part in the rounds. A mode that does not start is named and left out.

local json = require "cjson"
local process = require "scripts.gpu.process"

local PATIENCE = 3600 -- seconds that a runner may live

local NETS = {
  "alexnet", "vgg", "nin", "googlenet", "bn_lenet", "bn_lenet_scratch", "resnet", "densenet",
}

-- What each peer does besides prediction in fp32, which they all do.
local PEERS = {
  { name = "PyTorch", modes = { "eager", "channels_last", "compile" }, trains = true, bf16 = true },
  { name = "ONNX Runtime", modes = { "onnxruntime" }, exported = true },
  { name = "OpenVINO", modes = { "openvino-latency", "openvino-throughput" }, exported = true,
    bf16 = true },
}

local MODES = "eager,channels_last,compile,onnxruntime,openvino-latency,openvino-throughput"

local function parse()
  local parser = require "argparse"("scripts/bench", "cnnlua and its peers in turns.")
  parser:argument("net", "nets of the chapter; all when none is given"):args "*"
  parser:option("--python", "an interpreter that has the peers", "python3")
  parser:option("--cnnlua", "the program", os.getenv "CNNLUA" or "build/cnnlua")
  parser:option("--rounds", "bursts of each", "5"):convert(tonumber)
  parser:option("--seconds", "length of a burst", "5"):convert(tonumber)
  parser:option("--batch", "images a step; 0: as many as the recipe has", "0"):convert(tonumber)
  local threads = os.getenv "OMP_NUM_THREADS" or "2"
  parser:option("--threads", "threads of each", threads):convert(tonumber)
  parser:option("--only", "what is measured", "train"):choices { "train", "predict" }
  parser:option("--precision", "of each", "fp32"):choices { "fp32", "bf16" }
  parser:option("--modes", "modes of the peers", MODES)
  local options = parser:parse(arg)
  if #options.net == 0 then options.net = NETS end
  return options
end

local function median(list)
  local sorted = { unpack(list) }
  table.sort(sorted)
  local n = #sorted
  return (sorted[math.floor((n + 1) / 2)] + sorted[math.floor(n / 2) + 1]) / 2, sorted[1], sorted[n]
end

-- ----------------------------------------------------------------------------------- the runners

local Runner = {}
Runner.__index = Runner

local scratch

-- What it answers; where it has ended, an error that says why.
function Runner:ask(line)
  local answer, why = self.server:ask(line)
  return answer and json.decode(answer) or error(why, 0)
end

function Runner:burst(seconds) return self:ask("go " .. seconds).images_per_s end

-- Its memory, and no more of it.
function Runner:close()
  local memory = self:ask "memory"
  self.server:close()
  return memory
end

-- Starts a process that is to take part; an error where it does not get ready.
local function start(who, mode, command)
  local server = process.serve(mode or who, command, scratch, PATIENCE)
  local runner = setmetatable({ who = who, mode = mode, server = server }, Runner)
  runner:ask "ready"
  return runner
end

local function start_ours(options, net)
  return start("cnnlua", nil, ("%s scripts/bench-ours.lua %s %s %d %s %d"):format(
    process.quote(options.cnnlua), net, options.only, options.batch, options.precision,
    options.threads))
end

local function python(options, words, ...)
  return process.quote(options.python) .. " scripts/" .. words:format(...)
end

local function of_net(options, net)
  return ("--net %s%s"):format(net, options.batch > 0 and " --batch " .. options.batch or "")
end

-- The net as a file for those that read one; written when it is first wanted.
local function exported(options, net)
  local file = ("%s/%s.onnx"):format(scratch, net)
  if process.read(file) == "" then
    local r = process.run(python(options, "bench-peers.py %s --export %s", of_net(options, net),
      process.quote(file)), { scratch = scratch, seconds = PATIENCE })
    if r.status ~= 0 then error("no " .. file .. ": " .. process.ending(r), 0) end
  end
  return file
end

local function start_peer(options, net, peer, mode)
  local how = ("--mode %s --precision %s --threads %d"):format(mode, options.precision,
    options.threads)
  if peer.exported then
    return start(peer.name, mode, python(options, "bench-runtimes.py --onnx %s %s",
      process.quote(exported(options, net)), how))
  end
  return start(peer.name, mode, python(options, "bench-peers.py %s --what %s %s",
    of_net(options, net), options.only, how))
end

-- -------------------------------------------------------------------------------------- the races

-- The fastest of a peer's modes, alive; nil where none starts.
local function fastest(options, net, peer)
  local best
  for _, mode in ipairs(peer.modes) do
    local started, runner = pcall(start_peer, options, net, peer, mode)
    if not started then
      print(("%-17s %s takes no part: %s"):format(net, mode, runner))
      runner = nil
    else
      runner.rate = runner:burst(options.seconds)
      if not best or runner.rate > best.rate then best, runner = runner, best end
    end
    if runner then runner:close() end
  end
  return best
end

-- What the options leave of the peers.
local function peers_of(options)
  local wanted, list = {}, {}
  for mode in options.modes:gmatch "[^,]+" do wanted[mode] = true end
  for _, peer in ipairs(PEERS) do
    local modes = {}
    for _, mode in ipairs(peer.modes) do
      if wanted[mode] then modes[#modes + 1] = mode end
    end
    local fits = (peer.trains or options.only == "predict")
      and (peer.bf16 or options.precision == "fp32")
    if fits and #modes > 0 then
      list[#list + 1] = { name = peer.name, modes = modes, exported = peer.exported }
    end
  end
  return list
end

-- A burst of each.
local function one_round(runners, seconds)
  local rates = {}
  for i, runner in ipairs(runners) do rates[i] = runner:burst(seconds) end
  return rates
end

-- Of numbers that f makes of each round: the median, the lowest, the highest.
local function over(rounds, f)
  local list = {}
  for i, rates in ipairs(rounds) do list[i] = f(rates) end
  return median(list)
end

local function ratio_text(ratio, low, high)
  return ("%6.2f  (%.2f to %.2f)"):format(ratio, low, high)
end

local function line(net, who, mode, rate, ratio, memory)
  local text = ("%-17s %-13s %-19s %10s %-22s %8s %6s"):format(net, who, mode or "", rate or "",
    ratio or "", memory and ("%.0f"):format(memory.peak_mb) or "",
    memory and memory.base_mb and ("%.0f"):format(memory.base_mb) or "")
  print((text:gsub(" +$", "")))
  io.flush()
end

local function show(net, runners, rounds)
  for i, runner in ipairs(runners) do
    local function rate(rates) return rates[i] end
    local ratio = i > 1 and ratio_text(over(rounds, function(r) return r[1] / r[i] end))
    line(i == 1 and net or "", runner.who, runner.mode, ("%.1f"):format((over(rounds, rate))),
      ratio, runner:close())
  end
  local function best(rates) return rates[1] / math.max(unpack(rates, 2)) end
  if #runners > 2 then line("", "the best", nil, nil, ratio_text(over(rounds, best))) end
  return #runners > 1 and over(rounds, best) or nil
end

local function race(options, net)
  local runners = { false }
  for _, peer in ipairs(peers_of(options)) do
    runners[#runners + 1] = fastest(options, net, peer)
  end
  runners[1] = start_ours(options, net)
  local rounds = {}
  for i = 1, options.rounds do rounds[i] = one_round(runners, options.seconds) end
  return show(net, runners, rounds)
end

local function summary(ratios)
  local names, words = {}, {}
  for net in pairs(ratios) do names[#names + 1] = net end
  table.sort(names, function(a, b) return ratios[a] < ratios[b] end)
  for i, net in ipairs(names) do words[i] = ("%s %.2f"):format(net, ratios[net]) end
  if #words > 1 then print("cnnlua / the best of its peers: " .. table.concat(words, ", ")) end
end

local function main()
  local options = parse()
  print(("%s, %s, %s, %d threads; images/s: medians of %d bursts of %g s; cnnlua / peer;\n"
    .. "peak memory in MB, and that before the net was made"):format(options.only,
    options.precision, options.batch > 0 and "batch " .. options.batch or "the recipe's batch",
    options.threads, options.rounds, options.seconds))
  print(("%-17s %-13s %-19s %10s %-22s %8s %6s"):format("net", "who", "mode", "images/s",
    " ratio  (spread)", "peak", "before"))
  local ratios = {}
  for _, net in ipairs(options.net) do ratios[net] = race(options, net) end
  summary(ratios)
end

scratch = process.line "mktemp -d"
local ended, why = pcall(main)
os.execute("rm -rf " .. process.quote(scratch))
if not ended then
  io.stderr:write("scripts/bench: ", tostring(why), "\n")
  os.exit(1)
end
