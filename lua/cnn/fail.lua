-- fail.lua - errors of the program, as one line each.
--
-- fail.usage is for what was typed wrongly (exit status 2); everything else that goes wrong is a
-- failed run (1). Surprising: a run's error is a plain string, so that pcall in a user's script
-- sees what Lua's own functions would give it.

local quoting = require "cnn.prompt.quoting"

local pcall, tostring, type = pcall, tostring, type -- a script may overwrite the globals

local fail = {}

local Usage = {}
Usage.__index = Usage
function Usage:__tostring() return self.message end

-- Ends what is going on, because of an option or a command; does not return.
function fail.usage(format, ...)
  error(setmetatable({ message = format:format(...) }, Usage), 0)
end

function fail.run(format, ...)
  error(format:format(...), 0)
end

function fail.is_usage(err)
  return getmetatable(err) == Usage
end

local function text_of(err)
  local ok, text = pcall(tostring, err)
  return ok and text or "a " .. type(err) .. " was thrown, and its __tostring fails"
end

-- One line of text for whatever was thrown, safe on a terminal, without places inside the library.
-- Of a module that cannot be loaded the second line tells what is wrong in which file.
function fail.line(err)
  if err == nil then return "an error without a message" end
  local line = text_of(err):gsub("^error loading module [^\n]*\n%s*", ""):match "^[^\n]*"
  return quoting.visible((line:gsub("^%S*lua/cnn/[%w_/]+%.lua:%d+: ", ""):gsub(":$", "")))
end

-- Says so, on stderr, where the program goes on.
function fail.complain(err)
  io.stdout:flush()
  io.stderr:write(fail.line(err), "\n")
end

return fail
