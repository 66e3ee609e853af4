-- repl.lua - the prompt: reads Lua, prints the value of an expression, survives every error.
--
-- Locals of one input are there in the next; input that is not finished is asked on; Ctrl-C stops
-- what runs and Ctrl-D ends. Where standard input is no terminal it is a filter without prompts.
--
-- Surprising: a `local` at the top level of an input is rewritten to an assignment to the prompt's
-- own environment. It shadows globals but never changes them, so `local string = 1` breaks nothing.

local ffi = require "ffi"
local fail = require "cnn.fail"
local files = require "cnn.files"
local guard = require "cnn.guard"
local lexer = require "cnn.locals"

ffi.cdef "int siginterrupt(int number, int flag);"

local SIGINT = 2

local repl = {}

-- ------------------------------------------------------------------------------------ evaluation

local function is_unfinished(why)
  return why ~= nil and why:find "'<eof>'$" ~= nil
end

-- A chunk from what was typed; nil and true when more is needed, nil and a message when it is
-- wrong. It is given the function for its values: `return f()` would be a tail call, and errors
-- in f would have no line.
local function compile(text)
  local expression = text:gsub("^%s*=", "")
  local value, value_why = loadstring("return " .. expression, "=stdin")
  if value then
    local ending = expression:find("--", 1, true) and "\n)" or ")"
    return loadstring("(...)(" .. expression .. ending, "=stdin") or value
  end
  local chunk, why = loadstring(lexer.to_globals(text), "=stdin")
  if chunk then return chunk end
  if is_unfinished(value_why) or is_unfinished(why) then return nil, true end
  return nil, why
end

local function show(value)
  if type(value) == "table" and not getmetatable(value) then
    return require "cnn.text".value(value)
  end
  return tostring(value)
end

local function print_values(...)
  local n = select("#", ...)
  local parts = {}
  for i = 1, n do parts[i] = show((select(i, ...))) end
  if n > 0 then print(table.concat(parts, "\t")) end
end

local function complain(why)
  io.stdout:flush()
  io.stderr:write(fail.line(why), "\n")
end

-- Typed loops stay interpreted: compiled ones would not notice Ctrl-C.
local function evaluate(chunk, environment)
  setfenv(chunk, environment)
  jit.off(chunk, true)
  local ok, why = guard.call(chunk, print_values)
  if guard.interrupted() then guard.clear() end
  if not ok then complain(why) end
  io.stdout:flush()
end

-- --------------------------------------------------------------------------------------- reading

-- A line, or nil at the end; and whether Ctrl-C came instead.
local function read(prompt)
  if prompt then
    io.write(prompt)
    io.flush()
    ffi.C.siginterrupt(SIGINT, 1)
  end
  local ok, line = guard.call(io.read, "*l")
  if prompt then ffi.C.siginterrupt(SIGINT, 0) end
  if guard.interrupted() then
    guard.clear()
    io.write "\n"
    return nil, true
  end
  return ok and line or nil, false
end

-- Reads inputs of one or more lines and evaluates them, until the end.
local function loop(environment, terminal)
  local text
  while true do
    local line, interrupted = read(terminal and (text and ">> " or "> ") or nil)
    if interrupted then
      text = nil
    elseif not line then
      if text then complain "the input ends in the middle of a statement" end
      break
    else
      text = text and text .. "\n" .. line or line
      local chunk, more = compile(text)
      if chunk then
        evaluate(chunk, environment)
        text = nil
      elseif more ~= true then
        complain(more)
        text = nil
      end
    end
  end
  if terminal then io.write "\n" end
end

-- ------------------------------------------------------------------------------------- what is in

local function new_environment()
  local cnn = require "cnn"
  local environment = { cnn = cnn, nn = cnn.nn }
  local late = {} -- name -> a function that makes it when it is first named
  setmetatable(environment, { __index = function(self, name)
    local make = late[name]
    if not make then return _G[name] end
    late[name] = nil
    local value = make()
    rawset(self, name, value)
    return value
  end })
  return environment, late
end

-- net, recipe and data of a script, with the options put in; data is read when it is first named.
local function load_script(environment, late, file, words)
  local value, options = require "cnn.script".run("-i", file, words)
  if not options then return end
  local recipe = require "cnn.recipe"
  local checked = recipe.check(value, options)
  checked.net:to((recipe.device(options)))
  environment.net, environment.recipe = checked.net, checked
  function late.data()
    return require "cnn.data".open(checked.data, {
      batch = checked.train.batch, height = checked.input[2], width = checked.input[3],
      limit = options.limit, seed = options.seed, dir = options.data,
    })
  end
end

-- file: a script or nil; words: its arguments, which for a recipe are options.
function repl.run(file, words)
  local environment, late = new_environment()
  local terminal = files.is_terminal(0)
  if file then load_script(environment, late, file, words) end
  if terminal then
    print(("cnnlua %s; cnn and nn are at hand%s; Ctrl-D ends"):format(environment.cnn.version,
      environment.net and ", and so are net, recipe and data" or ""))
  end
  loop(environment, terminal)
  return 0
end

return repl
