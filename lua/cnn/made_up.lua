-- made_up.lua - a batch of made-up pictures and labels that fit a net, for bench and check.
--
-- made_up.batch(net, input, count) returns x, count x C x H x W in [0, 1) and channels-last, and y,
-- labels 1 2 ... classes 1 2 ...; input is a recipe's { C, H, W }. made_up.output(net, input) says
-- what shape the net gives for one picture. Surprising: how many classes there are is asked of the
-- net, with one black picture; that also makes the weights of its layers whose input size was left
-- open. It is left in prediction mode.

local cnn = require "cnn"
local err = require "cnn.error"
local fail = require "cnn.fail"

local made_up = {}

-- The shape, as text, of what the net gives for one black picture.
function made_up.output(net, input)
  net:eval()
  local y = cnn.no_grad(function() return net(cnn.zeros { 1, unpack(input) }) end)
  return cnn.is_tensor(y) and tostring(y:shape()) or err.got(y)
end

function made_up.batch(net, input, count)
  local shape = made_up.output(net, input)
  local classes = tonumber(shape:match "^1x(%d+)$")
  if not classes then
    fail.run("the net gives %s for one image; one number a class is wanted, 1 x classes", shape)
  end
  local labels = {}
  for i = 1, count do labels[i] = (i - 1) % classes + 1 end
  return cnn.rand(count, unpack(input)):channels_last(), cnn.tensor(labels)
end

return made_up
