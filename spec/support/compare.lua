-- compare.lua - arrays of doubles against each other; nil, or one line about the worst element.

local compare = {}

local function root_mean_square(values, n)
  local sum = 0
  for i = 0, n - 1 do
    local v = values[i]
    if v == v and math.abs(v) < math.huge then sum = sum + v * v end
  end
  return n > 0 and math.sqrt(sum / n) or 0
end

local function same(a, b) return a == b or (a ~= a and b ~= b) end

local TINY = 1e-12 -- what is left where everything cancels

-- |got - expected| <= tolerance * (|expected| + floor * rms(expected)) + TINY; NaN only for NaN.
function compare.close(got, expected, n, tolerance, floor)
  local base = floor * root_mean_square(expected, n)
  local worst, at = 1, nil
  for i = 0, n - 1 do
    local a, b = got[i], expected[i]
    if not same(a, b) then
      local ratio = math.abs(a - b) / (tolerance * (math.abs(b) + base) + TINY)
      if not (ratio <= worst) then
        worst, at = ratio, i
        if ratio ~= ratio then break end
      end
    end
  end
  if not at then return nil end
  return ("element %d of %d: got %.9g, expected %.9g, %.3g times the tolerance %g")
    :format(at + 1, n, got[at], expected[at], worst, tolerance)
end

-- The same bits (NaN equals NaN).
function compare.equal(got, expected, n)
  for i = 0, n - 1 do
    if not same(got[i], expected[i]) then
      return ("element %d of %d: got %.17g, expected %.17g"):format(i + 1, n, got[i], expected[i])
    end
  end
end

-- No NaN, infinity or value of poisoned memory.
function compare.clean(got, n)
  for i = 0, n - 1 do
    if not (math.abs(got[i]) < 1e30) then
      return ("element %d of %d is %g, a value of the memory before"):format(i + 1, n, got[i])
    end
  end
end

return compare
