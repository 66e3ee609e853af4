-- source.lua - an input as a function: an expression gives its values, statements give none.
--
--   source.compile(text) -> chunk, or nil and source.UNFINISHED, or nil and Lua's message
--
-- An expression may have "=" or "return" before it. The chunk is called with a function that takes
-- the values, if there are any.
--
-- Surprising: an expression is compiled as an argument of that function. `return f()` would be a
-- tail call, and errors in f would have no line. Each text ends with its line, or a string without
-- its quote would pass for an unfinished one.

local locals = require "cnn.prompt.locals"

local NAME = "=stdin"

local source = { UNFINISHED = "unfinished" }

local function is_unfinished(why)
  return why ~= nil and why:find "'<eof>'$" ~= nil
end

function source.compile(text)
  local expression = text:gsub("^%s*=", ""):gsub("^%s*return%f[^%w_]", "")
  local value, value_why = loadstring("return " .. expression .. "\n", NAME)
  if value then
    local ending = expression:find("--", 1, true) and "\n)" or ")"
    return loadstring("(...)(" .. expression .. ending, NAME) or value
  end
  local chunk, why = loadstring(locals.to_globals(text) .. "\n", NAME)
  if chunk then return chunk end
  if is_unfinished(value_why) or is_unfinished(why) then return nil, source.UNFINISHED end
  return nil, why
end

return source
