-- DenseNet. Huang, Liu, van der Maaten, Weinberger: Densely Connected Convolutional Networks, 2016.
-- What it taught: where ResNet adds, concatenate. Every layer sees the outputs of all before it, so
-- each needs to contribute only a few channels of its own, and few parameters go a long way.
--
--   conv_block:         BN -> ReLU -> 3x3 convolution
--   DenseBlock:         x -> [x, f1(x)] -> [x, f1(x), f2([x, f1(x)])] -> ...   (f: conv_block)
--   transition_block:   BN -> ReLU -> 1x1 convolution -> 2x2 average pooling
--
-- A block of four adds 4 * 32 channels, 32 being the growth rate; a transition halves the channels
-- and the picture.

local cnn = require "cnn"
local nn = cnn.nn

local function conv_block(in_channels, channels)
  return nn.Sequential(
    nn.BatchNorm2d(in_channels), nn.ReLU(),
    nn.Conv2d(in_channels, channels, 3, { padding = 1 }))
end

local DenseBlock = nn.module "DenseBlock"

function DenseBlock:init(convs, in_channels, growth)
  self.net = nn.Sequential()
  for i = 1, convs do
    self.net:add(conv_block(in_channels + (i - 1) * growth, growth))
  end
end

function DenseBlock:forward(x)
  for _, block in self.net:iter() do
    x = cnn.cat({ x, block(x) }, 2)
  end
  return x
end

local function transition_block(in_channels, channels)
  return nn.Sequential(
    nn.BatchNorm2d(in_channels), nn.ReLU(),
    nn.Conv2d(in_channels, channels, 1),
    nn.AvgPool2d(2, { stride = 2 }))
end

local net = nn.Sequential()

net:add("b1", nn.Sequential(
  nn.Conv2d(1, 64, 7, { stride = 2, padding = 3 }), nn.BatchNorm2d(64), nn.ReLU(),
  nn.MaxPool2d(3, { stride = 2, padding = 1 })))

local channels, growth = 64, 32
local dense = { 4, 4, 4, 4 } -- convolutions in each dense block

for i, convs in ipairs(dense) do
  net:add(DenseBlock(convs, channels, growth))
  channels = channels + convs * growth
  if i < #dense then
    net:add(transition_block(channels, channels / 2))
    channels = channels / 2
  end
end

net:add(nn.BatchNorm2d(channels))
net:add(nn.ReLU())
net:add(nn.AdaptiveAvgPool2d(1))
net:add(nn.Flatten())
net:add(nn.Linear(channels, 10))

return {
  name  = "densenet",
  input = { 1, 96, 96 },
  net   = net,
  train = { batch = 256, lr = 0.1, epochs = 10 },
  DenseBlock = DenseBlock,
  conv_block = conv_block,
  transition_block = transition_block,
}
