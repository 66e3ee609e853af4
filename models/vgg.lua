-- VGG. Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition,
-- 2014. What it taught: think in blocks, not in layers. Two 3x3 windows see as far as a 5x5 one,
-- for less arithmetic and with a nonlinearity more, so deep and narrow beats shallow and wide.
--
--   vgg_block:   [ 3x3 convolution, padding 1 -> ReLU ] x convs -> 2x2 max pooling
--
-- Each block halves height and width and doubles the channels. VGG-11 has eight convolutions and
-- three fully connected layers; its channels are divided by `ratio` here (--set ratio=1: VGG-11).

local cnn = require "cnn"
local nn = cnn.nn

local opt = cnn.options { ratio = 4 }

local function vgg_block(convs, in_channels, channels)
  local block = nn.Sequential()
  for _ = 1, convs do
    block:add(nn.Conv2d(in_channels, channels, 3, { padding = 1 }))
    block:add(nn.ReLU())
    in_channels = channels
  end
  block:add(nn.MaxPool2d(2, { stride = 2 }))
  return block
end

-- convolutions and channels of each block
local arch = { { 1, 64 }, { 1, 128 }, { 2, 256 }, { 2, 512 }, { 2, 512 } }

local function vgg(ratio)
  local net, in_channels = nn.Sequential(), 1
  for _, block in ipairs(arch) do
    local channels = math.floor(block[2] / ratio)
    net:add(vgg_block(block[1], in_channels, channels))
    in_channels = channels
  end
  for _, layer in ipairs {
    nn.Flatten(),
    nn.Linear(in_channels * 7 * 7, 4096), nn.ReLU(), nn.Dropout(0.5),
    nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5),
    nn.Linear(4096, 10),
  } do
    net:add(layer)
  end
  return net
end

return {
  name  = "vgg",
  input = { 1, 224, 224 },
  net   = vgg(opt.ratio),
  train = { batch = 128, lr = 0.05, epochs = 10 },
  vgg_block = vgg_block,
}
