-- parameters.lua - the names of a function's parameters, as it was written.
--
--   parameters(fn, first) -> { "a", "b", "..." }     from number `first` (1) on
--
-- Surprising: a function of C's has none to tell, and takes any number.

return function(fn, first)
  local info, names = debug.getinfo(fn, "u"), {}
  for i = first or 1, info.nparams or 0 do names[#names + 1] = debug.getlocal(fn, i) or "?" end
  if info.isvararg then names[#names + 1] = "..." end
  return names
end
