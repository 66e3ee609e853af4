-- Batch normalization from scratch. Ioffe, Szegedy: Batch Normalization: Accelerating Deep Network
-- Training by Reducing Internal Covariate Shift, 2015. What it taught: subtract each channel's mean
-- over the batch, divide by its deviation, and give the net two numbers a channel to undo it; then
-- deep nets train, and at learning rates that were out of reach (1.0 here).
--
--   BatchNorm:   y = gamma * (x - mean) / sqrt(var + eps) + beta
--
-- mean and var are the batch's while training and moving averages when predicting. The averages are
-- buffers: saved and moved with the net. Their variance is biased, nn.BatchNorm2d's is not: that is
-- the one difference between this script and bn_lenet.lua.

local cnn = require "cnn"
local nn = cnn.nn

local BatchNorm = nn.module "BatchNorm"

-- dims: 2 after a fully connected layer, 4 after a convolution
function BatchNorm:init(features, dims)
  local shape = dims == 2 and { 1, features } or { 1, features, 1, 1 }
  self.gamma = nn.Parameter(cnn.ones(unpack(shape)))
  self.beta = nn.Parameter(cnn.zeros(unpack(shape)))
  self:buffer("moving_mean", cnn.zeros(unpack(shape)))
  self:buffer("moving_var", cnn.ones(unpack(shape)))
end

local function moving_average(average, batch)
  average:copy(0.9 * average + 0.1 * batch:detach())
end

function BatchNorm:forward(x)
  local mean, var = self.moving_mean, self.moving_var
  if self.training and cnn.is_grad_enabled() then
    local axes = x:dim() == 2 and { 1 } or { 1, 3, 4 } -- all but the features
    mean = x:mean(axes)
    var = ((x - mean) ^ 2):mean(axes)
    moving_average(self.moving_mean, mean)
    moving_average(self.moving_var, var)
  end
  return self.gamma * (x - mean) / (var + 1e-5):sqrt() + self.beta
end

local net = nn.Sequential(
  nn.Conv2d(1, 6, 5), BatchNorm(6, 4), nn.Sigmoid(),
  nn.AvgPool2d(2, { stride = 2 }),
  nn.Conv2d(6, 16, 5), BatchNorm(16, 4), nn.Sigmoid(),
  nn.AvgPool2d(2, { stride = 2 }),
  nn.Flatten(),
  nn.Linear(16 * 4 * 4, 120), BatchNorm(120, 2), nn.Sigmoid(),
  nn.Linear(120, 84), BatchNorm(84, 2), nn.Sigmoid(),
  nn.Linear(84, 10))

return {
  name  = "bn_lenet_scratch",
  input = { 1, 28, 28 },
  net   = net,
  train = { batch = 256, lr = 1.0, epochs = 10 },
  BatchNorm = BatchNorm,
}
