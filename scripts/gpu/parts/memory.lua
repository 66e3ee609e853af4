-- memory.lua - the card's memory: none is lost over a thousand steps, too much is refused with
-- numbers, two processes share the card.

local process = require "scripts.gpu.process"
local small = require "scripts.gpu.small"

local STEPS, MOST, TWO = "1,000 steps take no more memory than the first hundred",
  "out of memory is one line with numbers, and the next op works",
  "two processes train at once, to the same loss"

-- Steps as the trainer's, of bn_lenet; the card's numbers after some and after many.
local function steps(part)
  local cnn = require "cnn"
  local step, _, tally = require "scripts.gpu.steps".training("bn_lenet", part.host and 2 or nil)
  local function after(count)
    for _ = 1, count do step() end
    tally:read()
    collectgarbage()
    collectgarbage()
    return cnn.cuda.memory()
  end
  local before = after(part.host and 5 or 100)
  local count = part.host and 25 or 1000
  local now = after(count)
  part:figure("held by tensors after the steps", now.in_use / 1e6, "MB")
  part:figure("taken from the card", now.held / 1e6, "MB")
  local text = ("%d steps: %d bytes in use and %d held, before %d and %d"):format(count,
    now.in_use, now.held, before.in_use, before.held)
  if now.in_use > before.in_use or now.held > before.held then error(text, 0) end
  return text
end

local function too_much()
  local cnn = require "cnn"
  local ok, why = pcall(function()
    return cnn.zeros({ 1e6, 1e6 }, { device = "cuda" })[1][1]:item()
  end)
  if ok then error("4 TB were given", 0) end
  local line = require "cnn.fail".line(why)
  if not line:find "out of memory on cuda:0: 4000000.0 MB more asked for" then error(line, 0) end
  if cnn.full({ 2 }, 3, { device = "cuda" })[2]:item() ~= 3 then error("wrong afterwards", 0) end
  return line
end

local function two(part)
  local outs, commands = {}, {}
  for i = 1, 2 do
    outs[i] = ("%s/two-%d"):format(part.scratch, i)
    commands[i] = ("%s %s >%s 2>&1 &"):format(process.quote(part.program), small.words(part),
      process.quote(outs[i]))
  end
  local started = part:run("sh -c " .. process.quote(table.concat(commands, " ") .. " wait"),
    { seconds = 60 })
  local losses = {}
  for i, out in ipairs(outs) do
    local ok, result = pcall(require "cjson".decode, process.last(process.read(out)) or "")
    if not ok then error(process.last(process.read(out)) or process.ending(started), 0) end
    losses[i] = result.loss
  end
  local text = ("losses %.7g and %.7g"):format(unpack(losses))
  if math.abs(losses[1] - losses[2]) > 0.02 * losses[1] then error(text, 0) end
  return text
end

local function run(part)
  part:try(STEPS, steps, part)
  part:try(MOST, too_much)
  part:try(TWO, two, part)
end

return {
  about = "memory: the pool over 1,000 steps, out of memory, two processes",
  seconds = 20, card = true, checks = { STEPS, MOST, TWO }, run = run,
}
