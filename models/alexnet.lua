-- AlexNet. Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural
-- Networks, 2012. What it taught: features need not be designed. Given a million pictures, a GPU,
-- ReLU instead of sigmoid and dropout against overfitting, LeNet's plan made ten times larger
-- learns better ones than people had drawn up by hand.
--
-- Its block is the bare layer: convolution, ReLU, now and then a pooling; windows shrink from
-- 11x11 to 3x3 while channels grow. Here the pictures have one channel and there are 10 classes
-- (the paper: 3 and 1000), and the first layer is padded by 1, so that Flatten gives 256*5*5.

local nn = require "cnn".nn

local net = nn.Sequential(
  -- a large window and a stride of 4: objects are large in 224x224 pixels
  nn.Conv2d(1, 96, 11, { stride = 4, padding = 1 }), nn.ReLU(),
  nn.MaxPool2d(3, { stride = 2 }),
  -- smaller windows, padded so that height and width stay, and more channels
  nn.Conv2d(96, 256, 5, { padding = 2 }), nn.ReLU(),
  nn.MaxPool2d(3, { stride = 2 }),
  -- three convolutions in a row
  nn.Conv2d(256, 384, 3, { padding = 1 }), nn.ReLU(),
  nn.Conv2d(384, 384, 3, { padding = 1 }), nn.ReLU(),
  nn.Conv2d(384, 256, 3, { padding = 1 }), nn.ReLU(),
  nn.MaxPool2d(3, { stride = 2 }),
  nn.Flatten(),
  -- 43 of the 47 million parameters are in these three layers; dropout keeps them from overfitting
  nn.Linear(6400, 4096), nn.ReLU(), nn.Dropout(0.5),
  nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5),
  nn.Linear(4096, 10))

return {
  name  = "alexnet",
  input = { 1, 224, 224 },
  net   = net,
  train = { batch = 128, lr = 0.01, epochs = 10 },
}
