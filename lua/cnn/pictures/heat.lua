-- heat.lua - numbers as colours over a picture that stays visible, and results made of such.
--
--   heat.choose(who, scores, count, options)   rows { class, name, probability, prediction,
--                                              prediction_name }, one a picture; options: class,
--                                              classes
--   heat.over(tile, map, { map =, most = })    -> tile, how many values are not finite
--   heat.most(map)                             the largest finite value, at least 0
--   heat.result(rows, fields, draw)            a list that is a picture; draw(rows) -> pixels,
--                                              places, notes
--
-- tile: u8 1 or 3 x H x W; map: f32 H x W, from 0, where nothing is drawn over the picture, to
-- `most`; under the colours "diverging" from -most.
--
-- Surprising: the further from 0, the less of the picture shines through; where nothing was found
-- it is as it was, bit by bit. A value that is not finite hides it: magenta.

local argument = require "cnn.argument"
local colors = require "cnn.pictures.colors"
local err = require "cnn.error"
local images = require "cnn.pictures.images"
local pass = require "cnn.pictures.pass"
local picture = require "cnn.pictures.picture"

local heat = {}

local DENSEST = 0.75 -- the colour's share where the map is at its most
local BRIGHT = 2     -- the ends of "diverging" are too dark to be seen on black

-- --------------------------------------------------------------------------------- which class

local function name_of(classes, k) return classes and pass.name(classes, k) or "class " .. k end

-- A score that is not finite has no probability: NaN.
function heat.choose(who, scores, count, options)
  pass.check_scores(who, scores, count, 1)
  pass.check_classes(who, options.classes)
  local most, class, rows = scores:size(2), options.class, {}
  if class ~= nil and argument.whole(who, "class", class, 1) > most then
    err.raise(("%s: class: expected 1 to %d, got %d"):format(who, most, class))
  end
  local probability, prediction = scores:softmax(2):totable(), scores:argmax(2):totable()
  for i = 1, count do
    local said = prediction[i][1]
    local k = class or said
    rows[i] = {
      class = k, name = name_of(options.classes, k), probability = probability[i][k],
      prediction = said, prediction_name = name_of(options.classes, said),
    }
  end
  return rows
end

function heat.label(row)
  if row.probability ~= row.probability then return row.name .. ": not finite" end
  local said = row.prediction ~= row.class and ", predicted " .. row.prediction_name or ""
  return ("%s %.3f%s"):format(row.name, row.probability, said)
end

-- ------------------------------------------------------------------------------------ colours

function heat.most(map)
  local lo, hi = colors.range(map)
  return lo and math.max(0, hi) or 0
end

function heat.over(tile, map, options)
  local most = options.most > 0 and options.most or 1
  local diverging = options.map == "diverging"
  local hi = diverging and BRIGHT * most or most
  local lo = diverging and -hi or 0
  local painted, bad = colors.apply(map, { lo = lo, hi = hi, map = options.map })
  local finite = (map * 0):eq(0)
  local density = (finite:where(map, 0):abs() / most):clamp(0, 1) * DENSEST
  density = finite:where(density, 1):unsqueeze(1)
  tile, painted = images.color(tile):to "f32", images.color(painted):to "f32"
  return (tile * (1 - density) + painted * density + 0.5):to "u8", bad
end

-- ------------------------------------------------------------------------------------- results

local Result = picture.extend {}
Result.__index = Result

-- result -> { draw =, notes = }; what refers to its own key from here would never be collected.
local made = setmetatable({}, { __mode = "k" })

function Result:draw()
  local pixels, places, notes = made[self].draw(self)
  self.places, made[self].notes = places, notes
  return pixels
end

function Result:__tostring()
  local height, width = self:size()
  local lines = { ("%s: picture %dx%d (:show(), :png(file))"):format(self.title, width, height) }
  for i, row in ipairs(self) do lines[i + 1] = ("  %d: %s"):format(i, heat.label(row)) end
  for _, note in ipairs(made[self].notes) do lines[#lines + 1] = note end
  return table.concat(lines, "\n")
end

function heat.result(rows, fields, draw)
  for name, value in pairs(fields) do rows[name] = value end
  setmetatable(rows, Result)
  made[rows] = { draw = draw }
  return rows
end

-- What is said of outputs and of maps that are not finite.
function heat.notes(rows, bad)
  local outputs, notes = 0, {}
  for _, row in ipairs(rows) do
    if row.probability ~= row.probability then outputs = outputs + 1 end
  end
  if outputs > 0 then
    notes[1] = ("%d of %d outputs are not finite"):format(outputs, #rows)
  end
  if bad > 0 then
    notes[#notes + 1] = ("%d %s of the maps %s not finite (magenta)"):format(bad,
      bad == 1 and "value" or "values", bad == 1 and "is" or "are")
  end
  return notes
end

return heat
