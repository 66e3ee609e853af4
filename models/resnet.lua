-- ResNet-18. He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, 2015. What it
-- taught: a deeper net must be able to contain the shallower one. If a block learns the difference
-- f(x) - x and adds x back, doing nothing is easy (weights of zero), gradients pass through the
-- sum, and nets of a hundred layers train.
--
--   Residual:   x -> 3x3 -> BN -> ReLU -> 3x3 -> BN -> + -> ReLU
--               `----------- (1x1 convolution) --------'
--
-- The 1x1 convolution is there where the block changes the channels or, by its stride, the size.

local nn = require "cnn".nn

local Residual = nn.module "Residual"

function Residual:init(in_channels, channels, opt)
  opt = opt or {}
  self.conv1 = nn.Conv2d(in_channels, channels, 3, { padding = 1, stride = opt.strides })
  self.bn1   = nn.BatchNorm2d(channels)
  self.conv2 = nn.Conv2d(channels, channels, 3, { padding = 1 })
  self.bn2   = nn.BatchNorm2d(channels)
  if opt.use_1x1conv then
    self.conv3 = nn.Conv2d(in_channels, channels, 1, { stride = opt.strides })
  end
end

function Residual:forward(x)
  local y = self.bn1(self.conv1(x)):relu()
  y = self.bn2(self.conv2(y))
  if self.conv3 then x = self.conv3(x) end
  return (y + x):relu()
end

-- Two residual blocks; the first halves height and width, except right after the pooling of b1.
local function resnet_block(in_channels, channels, opt)
  local first = opt and opt.first
  return nn.Sequential(
    Residual(in_channels, channels, not first and { use_1x1conv = true, strides = 2 } or nil),
    Residual(channels, channels))
end

local net = nn.Sequential()

net:add("b1", nn.Sequential(
  nn.Conv2d(1, 64, 7, { stride = 2, padding = 3 }), nn.BatchNorm2d(64), nn.ReLU(),
  nn.MaxPool2d(3, { stride = 2, padding = 1 })))
net:add("b2", resnet_block(64, 64, { first = true }))
net:add("b3", resnet_block(64, 128))
net:add("b4", resnet_block(128, 256))
net:add("b5", resnet_block(256, 512))
net:add(nn.AdaptiveAvgPool2d(1))
net:add(nn.Flatten())
net:add(nn.Linear(512, 10))

return {
  name  = "resnet",
  input = { 1, 96, 96 },
  net   = net,
  train = { batch = 256, lr = 0.05, epochs = 10 },
  Residual = Residual,
  resnet_block = resnet_block,
}
