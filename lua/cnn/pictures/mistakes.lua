-- mistakes.lua - net:mistakes(data.test): the images that the net is most sure of and wrong about.
--
-- The result is a list of { index, label, prediction, probability, label_name, prediction_name },
-- the most probable wrong prediction first, which is also a picture. Fields: wrong, how many there
-- are in all; images, how many were looked at; not_finite; classes.
--
-- Surprising: an output that is not finite is a mistake too, but has no prediction to show: such
-- images are counted and said, not drawn.

local argument = require "cnn.argument"
local canvas = require "cnn.pictures.canvas"
local grid = require "cnn.pictures.grid"
local images = require "cnn.pictures.images"
local pass = require "cnn.pictures.pass"
local picture = require "cnn.pictures.picture"
local text = require "cnn.text"

local mistakes = {}

local WHO = "net:mistakes"

local Mistakes = picture.extend {}
Mistakes.__index = Mistakes

local splits = setmetatable({}, { __mode = "k" }) -- result -> where its pictures are

local function heading(m)
  local images_text = text.counted(m.images, "image")
  local line = "no mistakes in " .. images_text
  if m.wrong > 0 then line = ("%s of %s wrong"):format(text.commas(m.wrong), images_text) end
  if #m > 0 and #m < m.wrong - m.not_finite then
    line = ("%s; the %d most probable"):format(line, #m)
  end
  if m.not_finite == 0 then return line end
  return ("%s; %s not finite, not shown"):format(line,
    text.counted(m.not_finite, "output is", "outputs are"))
end

function Mistakes:__tostring()
  if #self == 0 then return heading(self) end
  local rows = { { "label", "prediction", "probability", "image" } }
  for i, row in ipairs(self) do
    rows[i + 1] = {
      row.label_name, row.prediction_name, ("%.4f"):format(row.probability), tostring(row.index),
    }
  end
  return heading(self) .. "\n" .. text.columns(rows, 2)
end

function Mistakes:draw()
  if #self == 0 then return images.message(heading(self)) end
  local list, labels, label_colors, x = {}, {}, {}, nil
  for i, row in ipairs(self) do
    x = splits[self]:take(row.index)
    list[i] = images.tiles(x)[1]
    labels[i] = ("✗ %s %.3f\nis %s"):format(row.prediction_name, row.probability, row.label_name)
    label_colors[i] = canvas.WRONG
  end
  local pixels, places = grid.draw(list, {
    labels = labels, label_colors = label_colors, title = heading(self),
    scale = images.scale(x:size(3), x:size(4), #list),
  })
  self.places = places
  return pixels
end

--- net:mistakes(split, { count = 16, limit = nil, batch = nil })
-- The images whose wrong prediction is the most probable, as a list of { index, label, prediction,
-- probability, label_name, prediction_name }. As text it is a table; :png(file) and :show() draw
-- the images with prediction, probability and label. m.wrong is the number of all mistakes,
-- m.images that of all images, m.not_finite that of outputs that are not finite.
-- Shapes: the images of the split as the net takes them, N x C x H x W -> N x classes
-- Options: count: how many at most; limit: the first so many images; batch: images at a time
-- Errors: images that do not fit the net name the layer; a net with fewer outputs than classes
-- Example: net:mistakes(data.test, { count = 9, limit = 500 }):png "mistakes.png"
-- See: net:confusion, cnn.image.batch
function mistakes.mistakes(net, split, options)
  local call
  options, call = pass.options(WHO, split, options, { "count" })
  local count = argument.optional_whole(WHO, "count", options.count) or 16
  local m = setmetatable({ wrong = 0, images = 0, not_finite = 0, classes = split.classes },
    Mistakes)
  pass.predict(call, net, split, function(labels, predictions, probabilities, first)
    for i, label in ipairs(labels) do
      local prediction, probability = predictions[i], probabilities[i]
      if probability ~= probability then
        m.not_finite, m.wrong = m.not_finite + 1, m.wrong + 1
      elseif prediction ~= label then
        m.wrong = m.wrong + 1
        pass.keep(m, count, "probability", {
          index = first + i - 1, label = label, prediction = prediction, probability = probability,
          label_name = pass.name(m.classes, label),
          prediction_name = pass.name(m.classes, prediction),
        })
      end
    end
    m.images = m.images + #labels
  end)
  splits[m] = split
  return m
end

return mistakes
