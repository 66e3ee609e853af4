-- schedule.lua - cnn.optim.schedule: learning rates over time, as factors of the base rate.
--
--   local factor = schedule.warmup(5, schedule.cosine(95))
--   opt.lr = base * factor(epoch)
--
-- A schedule is a pure function of time, in epochs or steps, from 0, fractions allowed; the same
-- time always gives the same factor, so a resumed run needs no state.
--
-- Surprising: after a warm-up the next schedule starts at its own 0, as in PyTorch's SequentialLR.

local argument = require "cnn.argument"
local err = require "cnn.error"

local schedule = {}

-- There are no options; PyTorch's last_epoch = 3 and the like are not passed over in silence.
local function no_options(name, options) argument.options("schedule." .. name, options, {}) end

-- Times gamma every `size`: PyTorch's StepLR.
function schedule.step(size, gamma, options)
  no_options("step", options)
  argument.number("schedule.step", "size", size, 0)
  if size == 0 then err.raise("schedule.step: size: expected a number above 0, got 0") end
  gamma = argument.number("schedule.step", "gamma", gamma or 0.1, 0)
  return function(time) return gamma ^ math.floor(time / size) end
end

-- From 1 down to `least` (0) at `total`, along half a cosine, and there it stays.
function schedule.cosine(total, least, options)
  no_options("cosine", options)
  argument.number("schedule.cosine", "total", total, 0)
  least = argument.number("schedule.cosine", "least", least or 0, 0)
  return function(time)
    if time >= total then return least end
    return least + (1 - least) * (1 + math.cos(math.pi * time / total)) / 2
  end
end

function schedule.constant(options)
  no_options("constant", options)
  return function() return 1 end
end

-- Linearly from `start` (1/3, as PyTorch's LinearLR) to 1 in the first n, then `following`.
function schedule.warmup(n, following, start, options)
  no_options("warmup", options)
  argument.number("schedule.warmup", "n", n, 0)
  start = argument.number("schedule.warmup", "start", start or 1 / 3, 0)
  following = following or schedule.constant()
  if type(following) ~= "function" then
    err.raise("schedule.warmup: following: expected a schedule, got " .. err.got(following))
  end
  return function(time)
    if time >= n then return following(time - n) end
    return start + (1 - start) * time / n
  end
end

return schedule
