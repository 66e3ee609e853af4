-- LeNet with batch normalization. LeCun et al.: Gradient-Based Learning Applied to Document
-- Recognition, 1998, and Ioffe, Szegedy: Batch Normalization, 2015. What it taught: a normalization
-- between each layer and its activation lets even a sigmoid net of 1998 learn at a rate of 1.0.
--
-- Its block is convolution -> BatchNorm -> sigmoid -> 2x2 average pooling. bn_lenet_scratch.lua
-- writes the layer out; the library's runs as one op and keeps an unbiased running variance.

local nn = require "cnn".nn

local net = nn.Sequential(
  nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6), nn.Sigmoid(),
  nn.AvgPool2d(2, { stride = 2 }),
  nn.Conv2d(6, 16, 5), nn.BatchNorm2d(16), nn.Sigmoid(),
  nn.AvgPool2d(2, { stride = 2 }),
  nn.Flatten(),
  nn.Linear(16 * 4 * 4, 120), nn.BatchNorm1d(120), nn.Sigmoid(),
  nn.Linear(120, 84), nn.BatchNorm1d(84), nn.Sigmoid(),
  nn.Linear(84, 10))

return {
  name  = "bn_lenet",
  input = { 1, 28, 28 },
  net   = net,
  train = { batch = 256, lr = 1.0, epochs = 10 },
}
