-- batch.lua - cnn.image.batch(x, labels, { predictions = net(x) }): a batch with what it is said to
-- be, and what a net says.
--
-- Surprising: right and wrong are told apart three times, by colour, by a mark before the name and
-- by a thick frame around what is wrong: red and green alone are one colour to many people.

local argument = require "cnn.argument"
local autograd = require "cnn.autograd"
local canvas = require "cnn.pictures.canvas"
local err = require "cnn.error"
local grid = require "cnn.pictures.grid"
local handle = require "cnn.handle"
local images = require "cnn.pictures.images"
local pass = require "cnn.pictures.pass"
local picture = require "cnn.pictures.picture"
local text = require "cnn.text"
local tiles = require "cnn.pictures.tiles"

local batch = {}

local WHO = "cnn.image.batch"
local INK, RIGHT, WRONG = canvas.INK, { 0, 105, 62 }, canvas.WRONG

-- Whole numbers from 1 to `most` (nil: any), one for each image.
local function check_labels(name, list, count, most)
  if #list ~= count then
    err.raise(("%s: %s: expected %d, one for each image, got %d"):format(WHO, name, count, #list))
  end
  for i, label in ipairs(list) do
    if type(label) ~= "number" or label % 1 ~= 0 or label < 1 or most and label > most then
      err.raise(("%s: %s: expected whole numbers from 1%s, got %s for image %d"):format(WHO, name,
        most and " to " .. most or "", err.got(label), i))
    end
  end
  return list
end

local function numbers_of(name, values, count, most)
  if handle.is_tensor(values) then
    values = values:detach():contiguous():view(-1):totable()
  elseif type(values) ~= "table" then
    err.raise(("%s: %s: expected a tensor or a table, got %s"):format(WHO, name, err.got(values)))
  end
  return check_labels(name, values, count, most)
end

-- N x K scores with K > 1 -> their largest, false where they are not finite; else labels.
local function predictions_of(values, count, most)
  local scores = handle.is_tensor(values) and values:dim() == 2 and values:size(2) > 1
  if not scores then return numbers_of("predictions", values, count, most) end
  values = values:detach()
  local list = check_labels("predictions", values:argmax(2):view(-1):totable(), count)
  for i, probability in ipairs(values:softmax(2):max({ 2 }):view(-1):totable()) do
    if probability ~= probability then list[i] = false end
  end
  return list
end

local function label_of(classes, label, prediction)
  local name = label and pass.name(classes, label)
  if prediction == nil then return name, INK end
  local said = prediction and pass.name(classes, prediction) or "not finite"
  if not label then return said, prediction and INK or WRONG end
  if prediction == label then return "✓ " .. said, RIGHT end
  return ("✗ %s\nis %s"):format(said, name), WRONG
end

-- How many are right, for the title; nil without predictions or labels.
local function count_right(labels, predictions)
  if not labels or not predictions then return nil end
  local right = 0
  for i, label in ipairs(labels) do
    if predictions[i] == label then right = right + 1 end
  end
  return ("%d of %d right"):format(right, #labels)
end

local function draw(x, labels, predictions, options)
  local shown, left_out = tiles.first(x:size(1), tiles.most(x:size(3), x:size(4)), "images")
  local list, notes = images.tiles(x:narrow(1, 1, #shown))
  local texts, label_colors, marks, bad = {}, {}, {}, 0
  for i = 1, #list do
    local label, prediction = labels and labels[i], nil
    if predictions then prediction = predictions[i] end
    texts[i], label_colors[i] = label_of(options.classes, label, prediction)
    if label_colors[i] == WRONG then marks[i] = { color = WRONG, thick = 3 } end
    if prediction == false then bad = bad + 1 end
  end
  if bad > 0 then
    table.insert(notes, 1, ("%d of %d outputs are not finite"):format(bad, #list))
  end
  for _, note in ipairs(left_out) do notes[#notes + 1] = note end
  local pixels, places = grid.draw(list, {
    labels = #texts > 0 and texts or nil, label_colors = label_colors, marks = marks, gap = 8,
    title = count_right(labels, predictions), columns = options.columns,
    scale = images.scale(x:size(3), x:size(4), #list),
  })
  return picture.new(pixels, {
    notes = notes, text = text.counted(#list, "image"), places = places,
  })
end

function batch.draw(x, labels, options)
  options = argument.options(WHO, options, { "classes", "predictions", "columns" })
  argument.optional_whole(WHO, "columns", options.columns)
  local classes = pass.check_classes(WHO, options.classes)
  local most = classes and #classes
  return autograd.no_grad(function()
    x = images.batch(WHO, x)
    local count = x:size(1)
    labels = labels ~= nil and numbers_of("labels", labels, count, most) or nil
    local predictions = options.predictions
    if predictions ~= nil then predictions = predictions_of(predictions, count, most) end
    return draw(x, labels, predictions, options)
  end)
end

return batch
