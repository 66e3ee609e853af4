-- GoogLeNet. Szegedy et al.: Going Deeper with Convolutions, 2014. What it taught: do not choose
-- between window sizes, use them side by side, and pay for it with 1x1 convolutions that cut the
-- channels first. It is better than VGG for a fraction of the arithmetic.
--
--   Inception:   x -> 1x1 ------------------.
--                x -> 1x1 -> 3x3 ------------+-> concatenated along the channels
--                x -> 1x1 -> 5x5 ------------+
--                x -> 3x3 max pool -> 1x1 ---'        (each convolution followed by ReLU)
--
-- The numbers of channels were found by trying. The paper's two auxiliary losses are left out.

local cnn = require "cnn"
local nn = cnn.nn

local Inception = nn.module "Inception"

-- c1, c2, c3, c4: the channels of the four paths; two numbers where there are two convolutions
function Inception:init(in_channels, c1, c2, c3, c4)
  self.p1_1 = nn.Conv2d(in_channels, c1, 1)
  self.p2_1 = nn.Conv2d(in_channels, c2[1], 1)
  self.p2_2 = nn.Conv2d(c2[1], c2[2], 3, { padding = 1 })
  self.p3_1 = nn.Conv2d(in_channels, c3[1], 1)
  self.p3_2 = nn.Conv2d(c3[1], c3[2], 5, { padding = 2 })
  self.p4_1 = nn.MaxPool2d(3, { stride = 1, padding = 1 })
  self.p4_2 = nn.Conv2d(in_channels, c4, 1)
end

function Inception:forward(x)
  local p1 = self.p1_1(x):relu()
  local p2 = self.p2_2(self.p2_1(x):relu()):relu()
  local p3 = self.p3_2(self.p3_1(x):relu()):relu()
  local p4 = self.p4_2(self.p4_1(x)):relu()
  return cnn.cat({ p1, p2, p3, p4 }, 2)
end

local net = nn.Sequential()

net:add("b1", nn.Sequential(
  nn.Conv2d(1, 64, 7, { stride = 2, padding = 3 }), nn.ReLU(),
  nn.MaxPool2d(3, { stride = 2, padding = 1 })))

net:add("b2", nn.Sequential(
  nn.Conv2d(64, 64, 1), nn.ReLU(),
  nn.Conv2d(64, 192, 3, { padding = 1 }), nn.ReLU(),
  nn.MaxPool2d(3, { stride = 2, padding = 1 })))

net:add("b3", nn.Sequential(
  Inception(192, 64, { 96, 128 }, { 16, 32 }, 32),
  Inception(256, 128, { 128, 192 }, { 32, 96 }, 64),
  nn.MaxPool2d(3, { stride = 2, padding = 1 })))

net:add("b4", nn.Sequential(
  Inception(480, 192, { 96, 208 }, { 16, 48 }, 64),
  Inception(512, 160, { 112, 224 }, { 24, 64 }, 64),
  Inception(512, 128, { 128, 256 }, { 24, 64 }, 64),
  Inception(512, 112, { 144, 288 }, { 32, 64 }, 64),
  Inception(528, 256, { 160, 320 }, { 32, 128 }, 128),
  nn.MaxPool2d(3, { stride = 2, padding = 1 })))

net:add("b5", nn.Sequential(
  Inception(832, 256, { 160, 320 }, { 32, 128 }, 128),
  Inception(832, 384, { 192, 384 }, { 48, 128 }, 128),
  nn.AdaptiveAvgPool2d(1),
  nn.Flatten()))

net:add(nn.Linear(1024, 10))

return {
  name  = "googlenet",
  input = { 1, 96, 96 },
  net   = net,
  train = { batch = 128, lr = 0.1, epochs = 10 },
  Inception = Inception,
}
