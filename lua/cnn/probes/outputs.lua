-- outputs.lua - an observer (calls.observe) of what the layers of a net give.
--
--   outputs(visit, enter)     visit(node, y, x, entered) after each call, in the order in which the
--                             outputs come; entered is what enter(x) gave before the call
--
-- Surprising: a module that only hands on what a layer inside it gave, as a Sequential does, is not
-- visited: its output is that layer's.

return function(visit, enter)
  local open = {}
  return {
    enter = function(_, depth, x) open[depth] = { x = x, entered = enter and enter(x) } end,
    leave = function(node, depth, y)
      local call = open[depth]
      if depth > 1 then open[depth - 1].last = y end
      if call.last ~= nil and rawequal(call.last, y) then return end
      visit(node, y, call.x, call.entered)
    end,
  }
end
