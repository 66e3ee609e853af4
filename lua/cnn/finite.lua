-- finite.lua - where a loss that is not a number came from.
--
-- finite.explain(net, x, forward) says in a few words which parameter, input or layer is the first
-- with a value that is not finite. It runs the net once more, one layer after the other, so it
-- wants the weights from before the step. finite.refuse(net, what) ends what cannot go on with such
-- an output. Surprising: a value is tested by multiplying by zero,
-- which leaves infinities and NaN as NaN and needs no op of its own.

local cnn = require "cnn"
local calls = require "cnn.calls"
local fail = require "cnn.fail"
local text = require "cnn.text"

local finite = {}

function finite.is_finite(tensor)
  local zero = cnn.no_grad(function() return (tensor:detach() * 0):sum():item() end)
  return zero == 0
end

-- The first tensor of an iterator over name, tensor that is not finite: its name, or nil.
function finite.first(...)
  for name, tensor in ... do
    if not finite.is_finite(tensor) then return name end
  end
  return nil
end

-- Calls forward() while every layer's output is looked at; what is said of the first bad one, or
-- nil. A layer inside another ends before it, so the innermost one is named.
local function first_layer(net, forward)
  local paths, found = text.paths("net", net), nil
  local function leave(module, _, y)
    if not found and cnn.is_tensor(y) and not finite.is_finite(y) then
      found = (paths[module] or "net") .. " " .. module:describe()
    end
  end
  calls.observe({ leave = leave }, forward)
  return found
end

-- What is said of the first parameter or buffer that is not finite, or nil.
local function first_weight(net)
  local name = finite.first(net:named_parameters())
  if name then return "the parameter " .. name .. " is not finite" end
  name = finite.first(net:named_buffers())
  return name and "the buffer " .. name .. " is not finite"
end

function finite.refuse(net, what)
  local why = first_weight(net)
  fail.run("the net's output for %s is not finite%s", what, why and ": " .. why or "")
end

function finite.explain(net, x, forward)
  if not finite.is_finite(x) then return "the images themselves are not finite" end
  local weight = first_weight(net)
  if weight then return weight end
  local layer = first_layer(net, forward)
  if layer then return "first in the output of " .. layer end
  return "every layer's output is finite, the loss of them is not"
end

return finite
