-- meter.lua - running means and stop watches, with state that a resumed run takes up.
--
--   local loss = meter.mean()   loss:add(value, weight)   loss:value()   loss:reset()
--   local watch = meter.watch() watch:start() watch:stop() watch:seconds()
--
-- Surprising: state() is exact text ("%a"), because a resumed run must end with the same bits.

local C = require "cnn.ffi".C

local meter = {}

-- ------------------------------------------------------------------------------------------- mean

local Mean = {}
Mean.__index = Mean

function Mean:add(value, weight)
  self.sum = self.sum + value * weight
  self.weight = self.weight + weight
end

function Mean:value()
  return self.weight > 0 and self.sum / self.weight or 0 / 0
end

function Mean:reset()
  self.sum, self.weight = 0, 0
end

function Mean:state()
  return ("%a %a"):format(self.sum, self.weight)
end

function Mean:restore(state)
  local sum, weight = state:match "^(%S+) (%S+)$"
  self.sum, self.weight = tonumber(sum), tonumber(weight)
end

function meter.mean()
  return setmetatable({ sum = 0, weight = 0 }, Mean)
end

-- ------------------------------------------------------------------------------------------ watch

local Watch = {}
Watch.__index = Watch

function Watch:start()
  self.since = C.cnn_seconds()
end

function Watch:stop()
  self.total = self.total + (C.cnn_seconds() - self.since)
  self.since = nil
end

function Watch:seconds()
  return self.total + (self.since and C.cnn_seconds() - self.since or 0)
end

function meter.watch(total)
  return setmetatable({ total = total or 0 }, Watch)
end

return meter
