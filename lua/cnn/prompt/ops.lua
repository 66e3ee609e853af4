-- ops.lua - what core/cnn.h does not say of an op: which mistakes it answers, and a line to try.
--
-- A table by the op's name: { errors =, example = }. Formulas and shapes are the header's alone.
--
-- Surprising: a spec runs every example and compares what it prints.

local ops = {}

-- examples: by name, for ops that answer the same mistakes.
local function family(errors, examples)
  for name, example in pairs(examples) do ops[name] = { errors = errors, example = example } end
end

family("shapes that do not broadcast, both are named; tensors on two devices", {
  add = "cnn.arange(3):add(10) --> f32[3] cpu 11 12 13",
  sub = "cnn.arange(3):sub(1) --> f32[3] cpu 0 1 2",
  mul = "cnn.arange(3):mul(cnn.tensor { 2, 2, 0 }) --> f32[3] cpu 2 4 0",
  div = "cnn.arange(3):div(2) --> f32[3] cpu 0.5 1 1.5",
  pow = "cnn.arange(3):pow(cnn.tensor { 2, 1, 0 }) --> f32[3] cpu 1 2 1",
  maximum = "cnn.arange(3):maximum(2) --> f32[3] cpu 2 2 3",
  minimum = "cnn.arange(3):minimum(2) --> f32[3] cpu 1 2 2",
  eq = "cnn.arange(3):eq(2) --> f32[3] cpu 0 1 0",
  ne = "cnn.arange(3):ne(2) --> f32[3] cpu 1 0 1",
  lt = "cnn.arange(3):lt(2) --> f32[3] cpu 1 0 0",
  le = "cnn.arange(3):le(2) --> f32[3] cpu 1 1 0",
  gt = "cnn.arange(3):gt(2) --> f32[3] cpu 0 0 1",
  ge = "cnn.arange(3):ge(2) --> f32[3] cpu 0 1 1",
  where = "cnn.where(cnn.tensor { 1, 0 }, cnn.tensor { 5, 5 }, -1) --> f32[2] cpu 5 -1",
  mse = "cnn.tensor({ 1, 3 }):mse(cnn.tensor { 1, 1 }):item() --> 2",
})

family("no tensor before the colon, or a dot in the colon's place", {
  neg = "cnn.arange(3):neg() --> f32[3] cpu -1 -2 -3",
  exp = "cnn.tensor({ 0, 1 }):exp() --> f32[2] cpu 1 2.718",
  log = "cnn.tensor({ 1, 10 }):log() --> f32[2] cpu 0 2.303",
  sqrt = "cnn.tensor({ 4, 9 }):sqrt() --> f32[2] cpu 2 3",
  abs = "cnn.tensor({ -2, 3 }):abs() --> f32[2] cpu 2 3",
  sign = "cnn.tensor({ -2, 0, 3 }):sign() --> f32[3] cpu -1 0 1",
  tanh = "cnn.tensor({ 0, 1 }):tanh() --> f32[2] cpu 0 0.7616",
  sigmoid = "cnn.tensor({ 0, 2 }):sigmoid() --> f32[2] cpu 0.5 0.8808",
  relu = "cnn.tensor({ -1, 2 }):relu() --> f32[2] cpu 0 2",
  gelu = "cnn.tensor({ -1, 2 }):gelu() --> f32[2] cpu -0.1587 1.954",
  silu = "cnn.tensor({ -1, 2 }):silu() --> f32[2] cpu -0.2689 1.762",
  power = "cnn.arange(3):power(2) --> f32[3] cpu 1 4 9",
  affine = "cnn.arange(3):affine(2, 1) --> f32[3] cpu 3 5 7",
  contiguous = "cnn.zeros(2, 3):transpose(1, 2):contiguous():is_contiguous() --> true",
  clone = "x:clone():shape() == x:shape() --> true",
  detach = "net(x):detach().requires_grad --> false",
})

family("a slope that is not finite", {
  leaky_relu = "cnn.tensor({ -1, 2 }):leaky_relu(0.1) --> f32[2] cpu -0.1 2",
})

family("lo above hi", {
  clamp = "cnn.tensor({ -1, 2, 7 }):clamp(0, 5) --> f32[3] cpu 0 2 5",
})

family("an axis that x has not; an axis given twice", {
  sum = "cnn.ones(2, 3):sum(2) --> f32[2x1] cpu 3 3",
  mean = "x:mean { 1, 3, 4 } :shape() --> 1x1x1x1",
  var = "cnn.tensor({ 1, 3 }):var():item() --> 1",
  norm = "cnn.tensor({ 3, 4 }):norm():item() --> 5",
})

family("an axis that x has not, or given twice; no element to choose from", {
  max = "cnn.tensor({ { 1, 5 }, { 7, 2 } }):max(2) --> f32[2x1] cpu 5 7",
  min = "cnn.tensor({ 4, 2, 8 }):min():item() --> 2",
})

family("no axis, or one that x has not; no element to choose from", {
  argmax = "cnn.tensor({ { 1, 5 }, { 7, 2 } }):argmax(2) --> i32[2x1] cpu 2 1",
})

family("no axis, or one that x has not", {
  softmax = "cnn.tensor({ { 0, 0 } }):softmax(2) --> f32[1x2] cpu 0.5 0.5",
  log_softmax = "cnn.tensor({ { 0, 0 } }):log_softmax(2) --> f32[1x2] cpu -0.6931 -0.6931",
})

family("a label that is no whole number from 1 to C; another number of labels than rows", {
  cross_entropy = "cnn.zeros(2, 10):cross_entropy(cnn.tensor { 1, 10 }) --> f32[] cpu: 2.303",
})

family("sizes along K that differ; fewer than 2 axes (unsqueeze a vector)", {
  matmul = "cnn.ones(2, 3):matmul(cnn.ones(3, 4)):shape() --> 2x4",
})

family("x with another number of features than w", {
  linear = "cnn.ones(2, 3):linear(cnn.ones(4, 3)):shape() --> 2x4",
})

family("sizes that are not for x's number of elements; -1 twice", {
  view = "cnn.arange(6):view(2, -1) --> f32[2x3] cpu 1 2 3 4 5 6",
  reshape = "cnn.arange(6):reshape(3, 2):shape() --> 3x2",
})

family("an axis that x has not", {
  transpose = "cnn.zeros(2, 3, 4):transpose(1, 3):shape() --> 4x3x2",
  unsqueeze = "cnn.arange(3):unsqueeze(1):shape() --> 1x3",
})

family("not every axis once", {
  permute = "cnn.zeros(2, 3, 4):permute(3, 1, 2):shape() --> 4x2x3",
})

family("an axis that x has not; start and length that leave 1 .. x:size(axis)", {
  narrow = "cnn.arange(5):narrow(1, 2, 3) --> f32[3] cpu 2 3 4",
})

family("an axis that x has not; an index of 0, or one beyond the axis", {
  select = "cnn.tensor({ { 1, 2 }, { 3, 4 } }):select(2, 1) --> f32[2] cpu 1 3",
})

family("an axis that x has not; an index that is not in 1 .. x:size(axis)", {
  index_select = "cnn.arange(5):index_select(1, cnn.tensor { 5, 1 }) --> f32[2] cpu 5 1",
})

family("a size that x's does not stretch to; fewer sizes than axes", {
  expand = "cnn.ones(1, 3):expand(2, -1):shape() --> 2x3",
})

family("an axis whose size is not 1", {
  squeeze = "cnn.ones(1, 3, 1):squeeze(1):shape() --> 3x1",
})

family("sizes that differ in another axis too; tensors on two devices; an empty list", {
  cat = "cnn.cat({ cnn.ones(2, 3), cnn.zeros(2, 1) }, 2):shape() --> 2x4",
})

family("tensors of different shapes, or on two devices; an empty list", {
  stack = "cnn.stack { cnn.ones(3), cnn.zeros(3) } :shape() --> 2x3",
})

family("more pairs than axes; a number below 0", {
  pad = "cnn.ones(2):pad { 1, 2 } --> f32[5] cpu 0 1 1 0 0",
})

family("x without 4 axes", {
  channels_last = "cnn.zeros(2, 3, 4, 4):channels_last():is_contiguous() --> false",
})

family("a dtype or device that is not known; a device that is not there", {
  to = 'cnn.tensor({ 1.5 }):to "u8".dtype --> "u8"',
})

family("a source that does not stretch to x; a tensor that requires a gradient (do it inside "
  .. "cnn.no_grad)", {
  copy = "cnn.zeros(2):copy(cnn.arange(2)) --> f32[2] cpu 1 2",
})

family("a tensor that requires a gradient (do it inside cnn.no_grad)", {
  fill = "cnn.zeros(2):fill(7) --> f32[2] cpu 7 7",
})

family("channels that do not fit w and groups; a picture that is too small for the window", {
  conv2d = "x:conv2d(cnn.ones(8, 1, 3, 3), nil, 1, 1, 1, 1, 1, 1, 1):size(2) --> 8",
})

family("a picture that is too small for the window; padding above half the kernel", {
  max_pool2d = "cnn.ones(1, 1, 6, 6):max_pool2d(2, 2, 2, 2, 0, 0):shape() --> 1x1x3x3",
  avg_pool2d = "cnn.ones(1, 1, 6, 6):avg_pool2d(3, 3, 3, 3, 0, 0):shape() --> 1x1x2x2",
})

family("x without 4 axes; an output without a pixel", {
  adaptive_avg_pool2d = "cnn.ones(1, 2, 7, 5):adaptive_avg_pool2d(1, 1):shape() --> 1x2x1x1",
})

family("x with other axes; gamma, beta, mean or var of other sizes than C; in training one value a "
  .. "channel", {
  batch_norm = "cnn.tensor({ { 1 }, { 3 } }):batch_norm(nil, nil, nil, nil, 1, 0.1, 0)"
    .. " --> f32[2x1] cpu -1 1",
})

family("more axes than x has; gamma or beta of another shape than the last axes", {
  layer_norm = "cnn.tensor({ { 1, 3 } }):layer_norm(1, nil, nil, 0) --> f32[1x2] cpu -1 1",
})

family("groups that do not divide C; gamma or beta of another size than C", {
  group_norm = "cnn.ones(2, 4, 3, 3):group_norm(2, nil, nil, 1e-5):shape() --> 2x4x3x3",
})

family("p outside of [0, 1)", {
  dropout = "cnn.ones(1000):dropout(0.5):max():item() --> 2",
})

family("no gradient (call backward first); buffers of another shape, dtype or order; a rate that "
  .. "is negative or not finite", {
  sgd = "p = cnn.zeros(2)\np.grad = cnn.ones(2)\np:sgd(nil, 0.1, 0, 0, 0, 0)"
    .. " --> f32[2] cpu -0.1 -0.1",
  adam = "p = cnn.zeros(2)\np.grad = cnn.ones(2)\n"
    .. "p:adam(cnn.zeros(2), cnn.zeros(2), 0.1, 0.9, 0.999, 1e-8, 0, 0, 1)"
    .. " --> f32[2] cpu -0.1 -0.1",
})

return ops
