-- errors.lua - errors of the library as its users see them: one line, at their own file and line.

local errors = {}

-- The message of the error that f(...) raises; fails when there is none, when it is not one line,
-- or when it points into the library.
function errors.message(f, ...)
  local ok, message = pcall(f, ...)
  if ok then error("expected an error, got none", 2) end
  message = tostring(message)
  if message:find "\n" or message:find "stack traceback" then
    error("expected one line, got: " .. message, 2)
  end
  if message:find("lua/cnn/", 1, true) or message:find("lua/cnn.lua", 1, true) then
    error("expected the user's file and line, got: " .. message, 2)
  end
  return message
end

-- f(...) fails in a spec's own file (a tail call leaves no line of its own) with a message that has
-- all the patterns; returns the message.
function errors.expect(patterns, f, ...)
  local message = errors.message(f, ...)
  if not message:find "^[./]*spec/[%w_/]+%.lua:%d+: " then
    error("expected the spec's file and line, got: " .. message, 2)
  end
  for _, pattern in ipairs(type(patterns) == "table" and patterns or { patterns }) do
    if not message:find(pattern) then
      error(("expected '%s' in: %s"):format(pattern, message), 2)
    end
  end
  return message
end

return errors
