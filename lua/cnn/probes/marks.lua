-- marks.lua - what is wrong with a layer, in words: the last column of net:probe.
--
--   not finite     a value of the output is NaN or infinite
--   dead           a relu's channels without a value other than zero: all, or so many of so many
--                  (from a tenth on)
--   all zeros, constant                 every value of the output is 0, or the same
--   saturated      half of a sigmoid's or tanh's values or more are within 0.001 of its bounds
--   exploding      the output's root mean square is over 1000, or over 10 and 100 times the input's
--   vanishing      it is under 0.00001
--   gradient ...   of the layer's own parameters: not finite, exploding (a norm over 100),
--                  vanishing (under 1/10,000 of the net's largest) or zero
--
-- Surprising: a dead share is no alarm where the batch is small, since a channel that answers to
-- sandals alone is silent for eight shirts. That is why it says how many.

local text = require "cnn.text"

local marks = {}

local DEAD, SATURATED = 0.1, 0.5
local EXPLODING, GROWN, NOTABLE, VANISHING = 1e3, 100, 10, 1e-5
local GRADIENT_EXPLODING, GRADIENT_VANISHING = 100, 1e-4

local function of_channels(row)
  if not row.dead or row.dead < DEAD then return nil end
  if row.dead == 1 then return "dead" end
  return ("%s of %s dead"):format(text.commas(row.dead * row.channels),
    text.commas(row.channels))
end

local function of_size(row, input)
  if not row.rms then return nil end
  if row.zeros == 1 then return not row.dead and "all zeros" or nil end
  local grown = input.rms and row.rms > GROWN * input.rms and row.rms > NOTABLE
  if row.rms > EXPLODING or grown then return "exploding" end
  if row.rms < VANISHING then return "vanishing" end
  return row.std == 0 and row.count > 1 and "constant" or nil
end

local function of_gradient(norm, largest)
  if not norm then return nil end
  if norm - norm ~= 0 then return "gradient not finite" end
  if norm == 0 then return "gradient zero" end
  if norm > GRADIENT_EXPLODING then return "gradient exploding" end
  return norm < GRADIENT_VANISHING * largest and "gradient vanishing" or nil
end

-- row and input: statistics of a layer's output and input; largest: of the net's gradient norms.
function marks.of(row, input, largest)
  local words = {}
  local function add(word) words[#words + 1] = word or nil end
  add(row.non_finite and row.non_finite > 0 and "not finite")
  add(of_channels(row))
  add(row.saturated and row.saturated >= SATURATED and "saturated")
  add(of_size(row, input))
  add(of_gradient(row.gradient, largest))
  return table.concat(words, ", ")
end

return marks
