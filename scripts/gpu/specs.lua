-- specs.lua - runs spec files inside of cnnlua, by busted, and says how they went.
--
--   local ok, text = specs.run(part, "ops", filter)    spec/ops_spec.lua; filter: a Lua pattern
--
-- The text is the last line, the time, and the names of the first specs that failed; the rest is in
-- the log.

local process = require "scripts.gpu.process"
local text = require "cnn.text"

local specs = {}

function specs.run(part, name, filter)
  local words = filter and " --filter=" .. process.quote(filter) or ""
  local r = part:cnnlua(("scripts/gpu/busted.lua --output=spec/report.lua%s spec/%s_spec.lua")
    :format(words, name))
  io.write(r.out, r.err)
  local passed, failed, skipped = r.out:match "\n(%d+) passed, (%d+) failed, (%d+) skipped%s*$"
  if not passed then return false, process.ending(r) end
  local names = {}
  for place, why in r.out:gmatch "\nFAILED ([^\n]+)\n +([^\n]+)" do
    names[#names + 1] = place .. ": " .. why
  end
  local line = ("%s passed, %s failed, %s skipped (%.0f s)"):format(passed, failed, skipped,
    r.seconds)
  if #names > 0 then line = ("%s; %s"):format(line, text.some(names, 2)) end
  return r.status == 0 and tonumber(passed) > 0, line
end

return specs
