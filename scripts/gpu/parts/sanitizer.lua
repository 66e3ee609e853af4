-- sanitizer.lua - compute-sanitizer's memcheck and racecheck over every kernel of our own.
--
-- What it watches is every_op.lua. cuBLAS and cuDNN are not asked: what they do is NVIDIA's.

local process = require "scripts.gpu.process"

local MEMCHECK = "memcheck: no access beyond memory, no misuse, in small nets and every op"
local RACECHECK = "racecheck: no hazard in shared memory, in small nets and every op"

local START = 8 -- seconds that the tool takes before and after

local function find()
  return process.line [[
    for folder in "" "${CUDA_HOME:-/usr/local/cuda}/bin/" /usr/local/cuda/compute-sanitizer/; do
      command -v "${folder}compute-sanitizer" && break
    done]]
end

-- Its own summary: "ERROR SUMMARY: 3 errors" or "RACECHECK SUMMARY: 0 hazards displayed (...)".
local function verdict(r)
  local summary = r.out:match "=========[^\n]*SUMMARY: ([^\n]+)"
  if not summary then return false, process.ending(r) end
  local first = r.out:match "========= (%u[^\n]+)\n=========     at ([^\n]+)"
  local ran = r.out:match "(%d+ of %d+ cases of ops)" or "the program did not end"
  local ok = tonumber(summary:match "^%d+") == 0 and r.status == 0
  return ok, ("%s; %s, %.0f s%s"):format(summary, ran, r.seconds, first and "; " .. first or "")
end

local function watch(part, tool, path, check, seconds)
  local r = part:run(("%s --tool %s --error-exitcode 99 %s scripts/gpu/every_op.lua %.1f")
    :format(process.quote(path), tool, process.quote(part.program),
      math.max(1, seconds - START)), { seconds = seconds, env = { CNN_CUDA_KERNELS = "cuda" } })
  io.write(r.out:sub(1, 20000), r.err)
  part:check(check, verdict(r))
end

local function run(part)
  if part.host then -- what would be watched, unwatched
    local r = part:cnnlua("scripts/gpu/every_op.lua 5", { seconds = 30 })
    if r.status ~= 0 then error(process.ending(r), 0) end
    print(r.out)
    return part:skip_rest "a card's alone; what it would watch ran on the host double"
  end
  local path = find()
  if not path then
    return part:skip_rest "compute-sanitizer is neither in PATH nor in CUDA's folder"
  end
  watch(part, "memcheck", path, MEMCHECK, part:left() / 2)
  watch(part, "racecheck", path, RACECHECK, part:left() - 2)
end

return {
  about = "compute-sanitizer over the kernels of our own",
  seconds = 60, card = true, checks = { MEMCHECK, RACECHECK }, run = run,
}
