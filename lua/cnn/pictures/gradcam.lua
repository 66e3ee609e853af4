-- gradcam.lua - net:gradcam(x): where in a picture a net sees the class that it names.
--
-- Selvaraju et al.: Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
-- Localization, ICCV 2017. A^k: channel k of a layer's output, y: the class's score before softmax;
-- the map is ReLU(sum over k of a_k A^k), a_k the mean over the pixels of dy / dA^k. On a net of
-- convolutions, global average pooling and one linear layer it is, but for a factor and the ReLU,
-- the class activation map of Zhou et al. (CVPR 2016).
--
-- Surprising: the layer's output is made a leaf of the graph while the net runs, so nothing before
-- that layer is differentiated. Parameters behind it do get gradients, which untouched.lua, that
-- every look at a net goes through, takes away again.

local C = require "cnn.ffi".C
local argument = require "cnn.argument"
local autograd = require "cnn.autograd"
local calls = require "cnn.calls"
local create = require "cnn.create"
local err = require "cnn.error"
local guard = require "cnn.guard"
local handle = require "cnn.handle"
local heat = require "cnn.pictures.heat"
local images = require "cnn.pictures.images"
local look = require "cnn.probes.look"
local pass = require "cnn.pictures.pass"

local gradcam = {}

local WHO = "net:gradcam"

-- ------------------------------------------------------------------------------------ the layer

local function gives_maps(y, count)
  return handle.is_tensor(y) and y:dim() == 4 and y:size(1) == count
end

-- The net's scores for x, and the last layer whose output has more than one pixel, else the last
-- with N x C x H x W, or nil.
local function watch(net, x)
  local layer, has_pixels
  local observer = {}
  function observer.leave(node, _, y)
    if node == net or not gives_maps(y, x:size(1)) then return end
    local pixels = y:size(3) * y:size(4) > 1
    if pixels or not has_pixels then layer, has_pixels = node, pixels end
  end
  return calls.observe(observer, net, x), layer
end

-- The layer that was asked for is none to map: what one is.
local function refuse(net, layer, gives, other)
  local hint = other and " (" .. pass.layer_title(net, other) .. " would do)" or ""
  err.raise(("%s: expected a layer that gives N x C x H x W, got %s, which %s%s"):format(WHO,
    pass.layer_title(net, layer), gives, hint))
end

-- ----------------------------------------------------------------------------------- the numbers

-- Calls net(x) while `layer` gives a leaf in place of its output; the scores and the leaf.
local function call_with_leaf(net, layer, x)
  local own, forward, leaf = rawget(layer, "forward"), layer.forward, nil
  local function cut(y, ...)
    leaf = y
    if gives_maps(y, x:size(1)) then
      leaf = y:detach():to "f32"
      leaf.requires_grad = true
    end
    return leaf, ...
  end
  rawset(layer, "forward", function(...) return cut(forward(...)) end)
  local ok, scores = guard.call(net, x)
  rawset(layer, "forward", own)
  if not ok then error(scores, 0) end
  return scores, leaf
end

-- d(the seeded scores) / d(the layer's output), and that output.
local function gradient_of(net, layer, x, seed)
  autograd.set_grad_enabled(true) -- pass.quietly sets it back
  local scores, leaf = call_with_leaf(net, layer, x)
  if scores.requires_grad then scores:backward(seed) end
  local gradient = handle.is_tensor(leaf) and leaf.grad
  autograd.set_grad_enabled(false)
  return gradient, leaf
end

-- N x H x W; only the last call of the layer counts. `other`: a layer that can be mapped.
local function maps_of(net, layer, x, seed, other)
  local gradient, leaf = gradient_of(net, layer, x, seed)
  if leaf == nil then refuse(net, layer, "is not called for this input", other) end
  if not gives_maps(leaf, x:size(1)) then
    local shape = handle.is_tensor(leaf) and tostring(leaf:shape()) or err.got(leaf)
    refuse(net, layer, "gives " .. shape, other)
  end
  if not gradient then
    err.raise(("%s: the scores do not depend on what %s gives"):format(WHO,
      pass.layer_title(net, layer)))
  end
  local weights = gradient:mean { 3, 4 }
  return (leaf:detach() * weights):sum({ 2 }):relu():squeeze(2)
end

local function one_hot(classes, count)
  local list = {}
  for i = 1, #classes * count do list[i] = 0 end
  for i, class in ipairs(classes) do list[(i - 1) * count + class] = 1 end
  return create.tensor(list, { #classes, count })
end

-- Bilinearly. Between equal sizes it would only carry what is not finite to the neighbours.
local function resized(maps, h, w)
  if maps:size(2) == h and maps:size(3) == w then return maps end
  return handle.wrap(C.cnn_resize(maps:unsqueeze(2), h, w)):squeeze(2)
end

-- What heat.choose says of each picture, with raw, the map as the layer has it, and map, as it is
-- laid over the picture.
local function compute(net, x, options)
  local scores, last = watch(net, x)
  local layer = options.layer or last
  if not layer then
    err.raise(WHO .. ": no layer of the net gives N x C x H x W: there is nothing to map")
  end
  local rows = heat.choose(WHO, scores, x:size(1), options)
  local classes = {}
  for i, row in ipairs(rows) do classes[i] = row.class end
  local seed = one_hot(classes, scores:size(2)):to(x.device)
  local raw = maps_of(net, layer, x, seed, last):to "cpu"
  local large = resized(raw, x:size(3), x:size(4))
  for i, row in ipairs(rows) do row.raw, row.map = raw[i], large[i] end
  return rows, look.path_of(net, layer), pass.layer_title(net, layer)
end

-- ------------------------------------------------------------------------------------ the method

-- How a row is drawn: its map, where that ends, and what to say.
local function look_of(row)
  local most, bad = heat.most(row.map)
  return row.map, most, most == 0 and bad == 0 and "nothing speaks for it" or nil
end

--- net:gradcam(x, { layer = nil, class = nil, classes = nil, columns = nil })
-- A heat map over each picture: where the net sees the class. The brighter, the more that place
-- speaks for the class, on each picture's own scale; without colour: it does not. The result is a
-- picture and a list: g[i].class, .name, .probability, .map (H x W, as drawn), .raw (as the layer
-- has it). The net, its gradients included, is left as it was.
-- Shapes: x: N x C x H x W or C x H x W, as the net takes it; u8 is divided by 255
-- Options: layer: a path, otherwise the last layer with N x C x H x W and more than one pixel;
--   class: a number from 1, otherwise the predicted one of each picture; classes: their names;
--   columns: pictures in a row
-- Errors: a layer without N x C x H x W, or of which the scores do not depend; an unknown path is
--   told with the nearest; a class out of range. Values that are not finite are magenta, and told
-- Example: net:gradcam(x, { class = 1 }):png "gradcam.png"
-- Source: Selvaraju et al.: Grad-CAM, ICCV 2017
-- See: net:occlusion, net:maps
function gradcam.gradcam(net, x, options)
  options = argument.options(WHO, options, { "layer", "class", "classes", "columns" })
  argument.optional_whole(WHO, "columns", options.columns)
  x = pass.input(WHO, net, images.batch(WHO, x))
  local layer = options.layer ~= nil and look.get(net, options.layer, WHO) or nil
  local rows, path, name = pass.quietly(net, x, compute, net, x, {
    layer = layer, class = options.class, classes = options.classes,
  })
  return heat.result(rows, { layer = path, title = "Grad-CAM at " .. name }, {
    x = x, look = look_of, map = "plasma", columns = options.columns,
  })
end

return gradcam
