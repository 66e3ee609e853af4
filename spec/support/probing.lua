-- probing.lua - what the specs of net:get, net:probe, net:tap and the like share: a small net, what
-- is printed, and all of a net that probing may not change.

local cnn = require "cnn"
local engine = require "spec.support.engine"

local nn, C = cnn.nn, engine.C

local probing = {}

-- What f(...) printed, and its results after pcall.
function probing.printed(f, ...)
  local lines, was = {}, print
  _G.print = function(line) lines[#lines + 1] = tostring(line) end
  local results = { pcall(f, ...) }
  _G.print = was
  return table.concat(lines, "\n"), unpack(results)
end

function probing.quietly(net, name, x, options)
  options = options or {}
  options.quiet = true
  return net[name](net, x, options)
end

local Twice = nn.module "Twice" -- a block with an addition of its own and a layer called twice

function Twice:init() self.conv = nn.Conv2d(2, 2, 3, { padding = 1 }) end

function Twice:forward(x) return (self.conv(self.conv(x)) + x):relu() end

function probing.small()
  local net = nn.Sequential()
  net:add("stem", nn.Conv2d(1, 2, 3))
  net:add("body", nn.Sequential(nn.BatchNorm2d(2), Twice(), nn.Dropout(0.5)))
  net:add(nn.Flatten())
  net:add(nn.Linear(2 * 4 * 4, 3))
  return net
end

function probing.fill(x, value) cnn.no_grad(x.fill, x, value) end

-- All that training goes on from, as a table that can be compared.
function probing.state_of(net)
  local state = { stream = tonumber(C.cnn_rng_stream()), grad = cnn.is_grad_enabled() }
  for name, node in net:named_modules() do state[name .. " training"] = node.training end
  for name, p in net:named_parameters() do
    state[name] = engine.list(p)
    state[name .. " grad"] = p.grad and engine.list(p.grad) or "none"
  end
  for name, buffer in net:named_buffers() do state[name] = engine.list(buffer) end
  return state
end

return probing
