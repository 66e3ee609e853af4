-- NiN. Lin, Chen, Yan: Network In Network, 2013. What it taught: a 1x1 convolution is a fully
-- connected layer over the channels of each pixel, and with the classes as the last channels a
-- global average replaces the fully connected layers, where AlexNet keeps 9 of 10 parameters.
--
--   nin_block:   k x k convolution -> ReLU -> [ 1x1 convolution -> ReLU ] x 2
--
-- About one seed in ten does not leave the loss of guessing, 2.303, at this learning rate: the
-- last ReLU can die in every class channel. The book's own builds fail as often.

local nn = require "cnn".nn

local function nin_block(in_channels, channels, kernel, opt)
  return nn.Sequential(
    nn.Conv2d(in_channels, channels, kernel, opt), nn.ReLU(),
    nn.Conv2d(channels, channels, 1), nn.ReLU(),
    nn.Conv2d(channels, channels, 1), nn.ReLU())
end

local net = nn.Sequential(
  nin_block(1, 96, 11, { stride = 4 }),
  nn.MaxPool2d(3, { stride = 2 }),
  nin_block(96, 256, 5, { padding = 2 }),
  nn.MaxPool2d(3, { stride = 2 }),
  nin_block(256, 384, 3, { padding = 1 }),
  nn.MaxPool2d(3, { stride = 2 }),
  nn.Dropout(0.5),
  -- ten channels for ten classes
  nin_block(384, 10, 3, { padding = 1 }),
  nn.AdaptiveAvgPool2d(1),
  nn.Flatten())

return {
  name  = "nin",
  input = { 1, 224, 224 },
  net   = net,
  train = { batch = 128, lr = 0.1, epochs = 10 },
  nin_block = nin_block,
}
