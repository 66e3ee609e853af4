-- bench.lua - the work of scripts/bench, which says how to use it.
--
-- PyTorch's process stays alive between its bursts (bench-peers.py --serve): it reads "go" from a
-- named pipe and answers a line of JSON. Each of its bursts is followed by one of cnnlua, so that
-- both see the same moments of a noisy machine, and the ratio is taken burst by burst.
--
-- Surprising: modes are raced before they are measured, one burst each; only the fastest mode of a
-- net is then run against cnnlua for all rounds.

local json = require "cjson"

local NETS = {
  "alexnet", "vgg", "nin", "googlenet", "bn_lenet", "bn_lenet_scratch", "resnet", "densenet",
}

local function parse()
  local parser = require "argparse"("scripts/bench", "cnnlua and PyTorch in turns.")
  parser:argument("net", "nets of the chapter; all when none is given"):args "*"
  parser:option("--python", "an interpreter that has torch", "python3")
  parser:option("--rounds", "bursts of each", "5"):convert(tonumber)
  parser:option("--seconds", "length of a burst", "5"):convert(tonumber)
  local threads = os.getenv "OMP_NUM_THREADS" or "2"
  parser:option("--threads", "threads of each", threads):convert(tonumber)
  parser:option("--only", "what is measured", "train"):choices { "train", "predict" }
  parser:option("--modes", "PyTorch's modes", "eager,channels_last,compile")
  local options = parser:parse(arg)
  if #options.net == 0 then options.net = NETS end
  return options
end

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

local function median(list)
  local sorted = { unpack(list) }
  table.sort(sorted)
  local n = #sorted
  return (sorted[math.floor((n + 1) / 2)] + sorted[math.floor(n / 2) + 1]) / 2, sorted[1], sorted[n]
end

-- ------------------------------------------------------------------------------------ both sides

local function read_json(stream, who)
  local line = stream:read "*l"
  if not line then error(who .. " ended without an answer", 0) end
  return json.decode(line)
end

-- A PyTorch process that waits for "go".
local function serve(options, net, mode)
  local pipe = os.tmpname()
  os.remove(pipe)
  assert(os.execute("mkfifo " .. quoted(pipe)) == 0, "mkfifo failed")
  local command = ("%s scripts/bench-peers.py --serve --net %s --mode %s --what %s --threads %d "
    .. "<%s 2>/dev/null"):format(quoted(options.python), net, mode, options.only, options.threads,
    quoted(pipe))
  local out = io.popen(command, "r")
  local go = assert(io.open(pipe, "w"))
  os.remove(pipe)
  local ready = out:read "*l"
  if ready ~= "ready" then
    error(("PyTorch did not start; try: %s"):format(command:gsub(" 2>/dev/null", "")), 0)
  end
  local server = {}
  function server.burst(seconds)
    go:write(("go %g\n"):format(seconds))
    go:flush()
    return read_json(out, "PyTorch").images_per_s
  end
  function server.close()
    go:close()
    local last = read_json(out, "PyTorch")
    out:close()
    return last.peak_mb, last.base_mb
  end
  return server
end

local function ours(options, net)
  local command = ("build/cnnlua bench models/%s.lua --json --only %s --seconds %g --threads %d")
    :format(net, options.only, options.seconds, options.threads)
  local out = io.popen(command, "r")
  local result = read_json(out, "cnnlua")
  out:close()
  return result[options.only].images_per_s, result.peak_mb
end

-- ------------------------------------------------------------------------------------ the races

local function fastest(options, net)
  local modes, best, best_rate = {}, nil, 0
  for mode in options.modes:gmatch "[^,]+" do modes[#modes + 1] = mode end
  if #modes == 1 then return modes[1] end
  for _, mode in ipairs(modes) do
    local server = serve(options, net, mode)
    local rate = server.burst(options.seconds)
    server.close()
    if rate > best_rate then best, best_rate = mode, rate end
  end
  return best
end

local function race(options, net)
  local mode = fastest(options, net)
  local server = serve(options, net, mode)
  local mine, theirs, ratios, peak = {}, {}, {}, 0
  for i = 1, options.rounds do
    theirs[i] = server.burst(options.seconds)
    local rate, mb = ours(options, net)
    mine[i], peak = rate, math.max(peak, mb)
    ratios[i] = rate / theirs[i]
  end
  local torch_peak, torch_base = server.close()
  local ratio, low, high = median(ratios)
  print(("%-17s %10.1f %10.1f  %-13s %5.2f  (%.2f to %.2f) %8.0f %8.0f %6.0f"):format(net,
    (median(mine)), (median(theirs)), mode, ratio, low, high, peak, torch_peak, torch_base))
  io.flush()
end

local options = parse()
print(("%s, images/s, %d threads, medians of %d bursts of %g s; peak memory in MB, of PyTorch also "
  .. "before the net"):format(options.only, options.threads, options.rounds, options.seconds))
print(("%-17s %10s %10s  %-13s %5s  %-14s %8s %8s %6s"):format("net", "cnnlua", "PyTorch",
  "its best mode", "ratio", "(spread)", "cnnlua", "PyTorch", "base"))
for _, net in ipairs(options.net) do race(options, net) end
