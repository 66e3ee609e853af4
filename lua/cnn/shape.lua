-- shape.lua - a tensor's sizes: a plain list that prints as 4x3x6x6.
--
-- Shapes can be compared with ==, put into text with .., and given back to cnn.zeros and x:view.

local Shape = {}
Shape.__index = Shape

function Shape.__tostring(shape)
  if #shape == 0 then return "()" end
  return table.concat(shape, "x")
end

function Shape.__concat(a, b) return tostring(a) .. tostring(b) end

function Shape.__eq(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i] ~= b[i] then return false end
  end
  return true
end

function Shape:numel()
  local n = 1
  for i = 1, #self do n = n * self[i] end
  return n
end

return function(sizes) return setmetatable(sizes, Shape) end
