-- augment.lua - train.augment by name: what is done to a batch of pictures before the net sees it.
--
--   "flip"   each picture mirrored, left to right, with probability 1/2
--   "crop"   each picture moved by up to 1/8 of its height and width, zeros coming in: padded, and
--            a window of its size cut out at random, as torchvision's RandomCrop(size, padding)
--
-- augment[name](x, y) takes pictures x, N x C x H x W, and labels y, and returns both: a new x of
-- the same shape, channels-last, and y itself. All is ops, for the step that trains to record.
--
-- Surprising: chance is the engine's (cnn.rand), keyed by seed and step like dropout's. That is why
-- a resumed run, and one on other threads, sees the same pictures; Lua's math.random would not do.

local cnn = require "cnn"

local augment = {}

local PART = 8 -- of height and width, that a picture is moved by at most

--- cnn.augment.flip(x, y)
-- Each picture mirrored, left to right, with probability 1/2; train = { augment = "flip" }.
-- Shapes: x NxCxHxW, y any -> both as they were
-- Errors: x without 4 axes
-- Example: cnn.augment.flip(x, y):shape() == x:shape() --> true
-- See: cnn.augment.crop, cnn.train
function augment.flip(x, y)
  local mirrored = x:index_select(4, cnn.arange(x:size(4), 1, -1, { device = x.device }))
  local coin = cnn.rand(x:size(1), 1, 1, 1, { device = x.device }):lt(0.5)
  return cnn.where(coin, mirrored, x):channels_last(), y
end

-- Of each picture's rows, `keep` in a row from a random one on. x: N x rows x R -> N x keep x R.
-- Rows are counted through the whole batch, in f32: exact for 2^24 of them.
local function window(x, keep)
  local n, rows = x:size(1), x:size(2)
  local on = { device = x.device }
  local start = (cnn.rand(n, 1, on) * (rows - keep + 1)):to "i32" -- 0 .. rows - keep
  local first = cnn.arange(0, n - 1, 1, on):view(n, 1) * rows + start
  local index = (first + cnn.arange(1, keep, 1, on):view(1, keep)):view(-1)
  return x:view(n * rows, -1):index_select(1, index):view(n, keep, -1)
end

--- cnn.augment.crop(x, y)
-- Each picture moved by up to 1/8 of its height and width, zeros coming in; as torchvision's
-- RandomCrop(size, padding). train = { augment = "crop" }.
-- Shapes: x NxCxHxW, y any -> both as they were
-- Errors: x without 4 axes
-- Example: cnn.augment.crop(x, y):shape() == x:shape() --> true
-- See: cnn.augment.flip, cnn.train
function augment.crop(x, y)
  local n, c, h, w = unpack(x:shape())
  local down, right = math.floor(h / PART), math.floor(w / PART)
  local padded = x:pad({ right, right, down, down }, 0):permute { 1, 3, 2, 4 } -- N H+ C W+
  local rows = window(padded:view(n, h + 2 * down, -1), h):view(n, h, c, -1)   -- N H C W+
  local turned = rows:permute { 1, 4, 2, 3 }                                   -- N W+ H C
  local columns = window(turned:view(n, w + 2 * right, -1), w):view(n, w, h, c)
  return columns:permute({ 1, 4, 3, 2 }):channels_last(), y
end

return augment
