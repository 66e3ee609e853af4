-- band.lua - what the eight nets reach after ten epochs in the book, and what they cost.
--
-- Source: the notebooks' published builds, 2021-05 to 2023-08 (the git history of
-- d2l-ai/d2l-zh-pytorch-slides, 73 to 85 builds a net, on one V100): least and most of the last
-- epoch's train loss and train accuracy, NaN runs left out; test accuracy and the book's
-- examples/s are medians. Last-epoch test accuracy of the batch-norm nets is noisy at these rates,
-- so nothing is decided by it.
--
-- Surprising: NiN's band reaches up to 2.303, which is guessing: one run in ten does not leave it,
-- in the book too.

-- name, million multiply-adds an image, train loss, train accuracy, test accuracy, examples/s
local rows = {
  { "bn_lenet",          0.28, { .242, .285 },  { .895, .911 }, .843, 60220 },
  { "bn_lenet_scratch",  0.28, { .241, .278 },  { .897, .911 }, .846, 34500 },
  { "densenet",         129.1, { .139, .166 },  { .938, .950 }, .882, 5513 },
  { "googlenet",        276.1, { .233, .773 },  { .713, .912 }, .888, 3471 },
  { "resnet",           318.7, { .004, .023 },  { .993, 1.00 }, .913, 4684 },
  { "vgg",              512.2, { .167, .220 },  { .918, .938 }, .919, 2553 },
  { "nin",              762.3, { .317, 2.303 }, { .100, .882 }, .844, 3200 },
  { "alexnet",          938.1, { .323, .334 },  { .877, .882 }, .881, 4145 },
}

local band = {}

-- In the order of what a run costs, the cheapest first.
for i, row in ipairs(rows) do
  local name, macs, loss, acc, test_acc, rate = unpack(row)
  band[i] = { name = name, macs = macs * 1e6, loss = loss, acc = acc, test_acc = test_acc,
              examples_per_s = rate }
end

-- The least and the most of some 75 runs: of sixteen further figures a few would lie just outside,
-- so the band is widened at both ends by this share of its width.
local SLACK = 0.25

local function within(value, range)
  local slack = SLACK * (range[2] - range[1])
  return value >= range[1] - slack and value <= range[2] + slack
end

-- true, or false and why.
function band.holds(net, loss, acc)
  local ok = within(loss, net.loss) and within(acc, net.acc)
  return ok, ("train loss %.3f of [%.3f, %.3f], train acc %.3f of [%.3f, %.3f]"):format(loss,
    net.loss[1], net.loss[2], acc, net.acc[1], net.acc[2])
end

return band
