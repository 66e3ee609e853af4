-- tally.lua - loss and right answers summed where the net lies, and read when somebody looks.
--
--   local sums = tally.new(device)
--   sums:add(loss, right, count)        -- inside a recorded step
--   local loss, acc, count = sums:read() -- the means since the last read; count 0: nothing new
--   tally.right(out, y)                 -- how many of a batch are right
--
-- Surprising: the sums are float32, so they are read and begun anew a few times a second; what is
-- kept for longer is Lua's.

local cnn = require "cnn"
local handle = require "cnn.handle"

local Tally = {}
Tally.__index = Tally

local function add(sum, value) sum:copy(sum + value) end

function Tally:add(loss, right, count)
  cnn.no_grad(function()
    add(self.loss, loss * count)
    add(self.right, right)
  end)
end

-- `count` images are in the sums: said outside the step, when it was asked for.
function Tally:counted(count) self.count = self.count + count end

function Tally:read()
  local count = self.count
  if count == 0 then return 0, 0, 0 end
  local loss, right = self.loss:item() / count, self.right:item() / count
  self:clear()
  return loss, right, count
end

function Tally:clear()
  self.count = 0
  self.loss:fill(0)
  self.right:fill(0)
end

local tally = {}

-- How many of a batch the net's scores have right.
function tally.right(out, y) return out:argmax(2):eq(y:view(-1, 1)):sum() end

function tally.new(device)
  local function zero() return handle.keep(cnn.zeros({}, { device = device })) end
  return setmetatable({ loss = zero(), right = zero(), count = 0 }, Tally)
end

return tally
