-- check.lua - the work of scripts/gpu-check, which says how to use it: parts one after the other.
--
-- Each part runs in a process of its own (part.lua) under `timeout`, so one that crashes, hangs or
-- leaves the card with an error is reported and the next one goes on. The parts and their order are
-- in parts/order.lua. Surprising: a part's limit is a place in the whole schedule, not a length:
-- what the parts before it did not use is its own.

local cjson = require "cjson"
local C = require "cnn.ffi".C
local process = require "scripts.gpu.process"
local report = require "scripts.gpu.report"

local LEAST_SECONDS = 1 -- a part with less to go is not begun

-- ---------------------------------------------------------------------------------------- options

local function list_of(words)
  local list = {}
  for word in (words or ""):gmatch "[^,%s]+" do list[#list + 1] = word end
  return list
end

local function parse()
  local parser = require "argparse"("gpu-check", "What a GPU shows, in one command.")
  parser:option("--minutes", "for all parts together", "9"):convert(tonumber)
  parser:option("--only", "these parts alone: a,b,..."):convert(list_of)
  parser:option("--nets", "these nets alone: a,b,..."):convert(list_of)
  parser:option("--parts", "directory of the parts", "scripts/gpu/parts")
  parser:flag("--host", "on the host double, in small, which tries the checks themselves")
  parser:flag("--list", "print what is checked, and check nothing")
  return parser:parse(arg)
end

local function load_parts(options)
  local wanted, parts = {}, {}
  for _, name in ipairs(options.only or {}) do wanted[name] = true end
  for _, name in ipairs(dofile(options.parts .. "/order.lua")) do
    if wanted[name] or not options.only then
      local spec = dofile(("%s/%s.lua"):format(options.parts, name))
      spec.name, wanted[name] = name, nil
      parts[#parts + 1] = spec
    end
  end
  local unknown = next(wanted)
  if unknown then
    io.stderr:write(("gpu-check: there is no part '%s'; --list shows them\n"):format(unknown))
    os.exit(2)
  end
  return parts
end

local function list_parts(parts)
  for _, spec in ipairs(parts) do
    print(("%-10s %s"):format(spec.name, spec.about))
    for _, check in ipairs(spec.checks or {}) do print("    " .. check) end
  end
end

-- ----------------------------------------------------------------------------------------- a part

-- The part in a process group of its own, all of which is ended with it.
local GROUP = [[
timeout -k 5 %.1f %s scripts/gpu/part.lua %s >%s 2>&1 </dev/null &
pid=$!
trap 'kill -KILL -- -$pid' INT TERM
wait $pid
status=$?
kill -KILL -- -$pid 2>/dev/null
echo $status]]

local function settings_of(run, spec, seconds)
  return { -- seconds: until the part should be at its end by itself
    name = spec.name, directory = run.options.parts, seconds = seconds, host = run.options.host,
    nets = run.options.nets, program = run.program, scratch = run.scratch,
    results_file = ("%s/%s.results"):format(run.scratch, spec.name),
  }
end

local function read_results(file)
  local entries = {}
  for line in process.read(file):gmatch "[^\n]+" do
    local ok, entry = pcall(cjson.decode, line) -- the last one may be cut off
    if ok then entries[#entries + 1] = entry end
  end
  return entries
end

local function gather(entries, spec)
  local found = { checks = {}, figures = {}, rows = {} }
  for _, e in ipairs(entries) do
    if e.kind == "check" then
      found.checks[e.name] = { name = e.name, status = e.status, text = e.text }
    elseif e.kind == "figure" then
      table.insert(found.figures, { name = e.name, value = e.value, unit = e.unit })
    elseif e.kind == "row" then
      found.rows[e.table] = found.rows[e.table] or {}
      table.insert(found.rows[e.table], e.row)
    else
      found[e.kind] = e
    end
  end
  found.tables = {}
  for _, t in ipairs(spec.tables or {}) do
    if found.rows[t.name] then
      table.insert(found.tables, {
        name = t.name, title = t.title, columns = t.columns, most = t.most,
        rows = found.rows[t.name],
      })
    end
  end
  return found
end

-- nil where the part ran to its end, or may be cut off; else what ended it.
local function ending_of(spec, found, status, seconds, log)
  if found.error then return found.error.text end
  if found["end"] and status == 0 then return nil end
  if spec.cut and status == process.OUT_OF_TIME then return nil end
  local r = { status = status, seconds = seconds, out = log, err = "" }
  return process.ending(r)
end

local function status_of(counts, broken)
  if broken or counts.failed > 0 then return "failed" end
  return counts.passed > 0 and "passed" or "skipped"
end

local function none_empty(t) return next(t) and t or nil end

local function result_of(spec, found, seconds, limit, broken)
  local checks, counts = {}, { passed = 0, failed = 0, skipped = 0 }
  for i, name in ipairs(spec.checks or {}) do
    checks[i] = found.checks[name] or { name = name, status = "skipped", text = "not reached" }
    counts[checks[i].status] = counts[checks[i].status] + 1
  end
  return {
    name = spec.name, about = spec.about, status = status_of(counts, broken), seconds = seconds,
    limit = limit, reason = broken, checks = none_empty(checks),
    figures = none_empty(found.figures), tables = none_empty(found.tables), counts = counts,
  }
end

local function skipped(spec, why)
  local found = { checks = {}, figures = {}, tables = {} }
  for _, name in ipairs(spec.checks or {}) do
    found.checks[name] = { name = name, status = "skipped", text = why }
  end
  return result_of(spec, found, 0, 0)
end

local function run_part(run, spec, limit)
  if spec.card and run.without then return skipped(spec, "no card: " .. run.without) end
  if limit < LEAST_SECONDS then return skipped(spec, "no time was left") end
  local settings = settings_of(run, spec, limit - math.min(1, limit / 10))
  local file = ("%s/%s.json"):format(run.scratch, spec.name)
  local log = ("%s/%s.log"):format(run.scratch, spec.name)
  process.write(file, cjson.encode(settings))
  local started = C.cnn_seconds()
  local status = tonumber(process.line(GROUP:format(limit, process.quote(run.program),
    process.quote(file), process.quote(log)))) or -1
  local seconds, said = C.cnn_seconds() - started, process.read(log)
  local found = gather(read_results(settings.results_file), spec)
  run.log:write(("==== %s, status %d\n%s\n"):format(spec.name, status, said))
  return result_of(spec, found, seconds, limit, ending_of(spec, found, status, seconds, said))
end

-- --------------------------------------------------------------------------------------- the whole

local function add_up(whole, result)
  for status, n in pairs(result.counts) do whole[status] = whole[status] + n end
  if result.status == "failed" and result.counts.failed == 0 then
    whole.failed = whole.failed + 1 -- the part itself
  end
  result.counts = nil
  table.insert(whole.parts, result)
end

local function machine_line(options)
  local card = options.host and "the host double of a card" or process.line("nvidia-smi "
    .. "--query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit "
    .. "--format=csv,noheader") or "no nvidia-smi"
  return ("%s; %s, %s threads"):format(card, require "ffi".string(C.cnn_cpu()),
    process.line "nproc" or "?")
end

-- nil where a card can be used, else why not. Another process looks, since one that has opened a
-- card holds a piece of it.
local function no_card(run)
  local r = process.run(process.quote(run.program) .. [[ -e ]]
    .. process.quote [[require "cnn".ones({ 2 }, { device = "cuda" }):sum():item()]],
    { scratch = run.scratch, seconds = 60 })
  return r.status ~= 0 and (process.ending(r):gsub("^.-cnn%.ones: ", "")) or nil
end

local function check_all(options, parts)
  local run = {
    options = options, program = os.getenv "CNNLUA", scratch = os.getenv "GPU_CHECK_SCRATCH",
  }
  run.without = no_card(run)
  local folder = os.getenv "GPU_CHECK_OUT"
  run.log = assert(io.open(folder .. "/log.txt", "w"))
  local total, started = options.minutes * 60, C.cnn_seconds()
  local whole = {
    host = options.host, started = os.date "!%Y-%m-%dT%H:%M:%SZ", minutes = options.minutes,
    machine = machine_line(options), passed = 0, failed = 0, skipped = 0, parts = {},
  }
  local shares, scheduled = 0, 0
  for _, spec in ipairs(parts) do shares = shares + spec.seconds end
  for _, spec in ipairs(parts) do
    scheduled = scheduled + spec.seconds / shares * (total - 3)
    local result = run_part(run, spec, scheduled - (C.cnn_seconds() - started))
    add_up(whole, result)
    print(report.part_text(result):match "[^\n]+")
    io.flush()
    whole.seconds = C.cnn_seconds() - started
    report.write(whole, folder) -- what is known so far, should this very process be ended
  end
  run.log:close()
  print("\n" .. report.text(whole))
  print("the report: " .. folder .. "/report.txt, report.json; what the parts printed: log.txt")
  return whole.failed == 0 and whole.passed > 0
end

local options = parse()
local parts = load_parts(options)
if options.list then return list_parts(parts) end
os.exit(check_all(options, parts) and 0 or 1)
