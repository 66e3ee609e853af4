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

--- cnn.optim.schedule.step(size, gamma = 0.1)
-- A schedule: a function of the time, in epochs or steps from 0, that gives a factor of the
-- learning rate. This one is multiplied by gamma every `size`, as PyTorch's StepLR.
-- Errors: a size that is not above 0; a gamma below 0; it has no options
-- Example: cnn.optim.schedule.step(30)(45) --> 0.1
-- See: cnn.optim.schedule.cosine, cnn.train
function schedule.step(size, gamma, options)
  no_options("step", options)
  argument.number("schedule.step", "size", size, 0)
  if size == 0 then err.raise("schedule.step: size: expected a number above 0, got 0") end
  gamma = argument.number("schedule.step", "gamma", gamma or 0.1, 0)
  return function(time) return gamma ^ math.floor(time / size) end
end

--- cnn.optim.schedule.cosine(total, least = 0)
-- From 1 down to `least` at time `total`, along half a cosine, and there it stays.
-- Errors: a total or least below 0; it has no options
-- Example: cnn.optim.schedule.cosine(10)(5) --> 0.5
-- Source: Loshchilov, Hutter 2017
-- See: cnn.optim.schedule.warmup
function schedule.cosine(total, least, options)
  no_options("cosine", options)
  argument.number("schedule.cosine", "total", total, 0)
  least = argument.number("schedule.cosine", "least", least or 0, 0)
  return function(time)
    if time >= total then return least end
    return least + (1 - least) * (1 + math.cos(math.pi * time / total)) / 2
  end
end

--- cnn.optim.schedule.constant()
-- 1 at any time.
-- Errors: it has no options
-- Example: cnn.optim.schedule.constant()(7) --> 1
-- See: cnn.optim.schedule.step
function schedule.constant(options)
  no_options("constant", options)
  return function() return 1 end
end

--- cnn.optim.schedule.warmup(n, following = schedule.constant(), start = 1/3)
-- Linearly from `start` to 1 in the first n, then the schedule `following`, which begins at its own
-- 0.
-- Errors: an n or start below 0; following that is no function; it has no options
-- Example: factor = cnn.optim.schedule.warmup(5, cnn.optim.schedule.cosine(95))
--   factor(5) --> 1
-- Source: Goyal et al. 2017
-- See: cnn.optim.schedule.cosine
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
