-- repl.lua - the prompt: reads Lua, prints the values of an expression, survives every error.
--
-- Locals of one input are there in the next; _ is the last value and _1, _2 ... those before it;
-- ?name is help; input that is not finished is asked on; Ctrl-C stops what runs and Ctrl-D ends.
-- Where standard input is no terminal it is a filter without prompts and without a line editor.
--
-- Surprising: a `local` at the top level of an input is rewritten to an assignment to the prompt's
-- own environment. It shadows globals but never changes them, so `local string = 1` breaks nothing.

local ffi = require "ffi"
local fail = require "cnn.fail"
local files = require "cnn.files"
local guard = require "cnn.guard"
local inputs = require "cnn.prompt.inputs"
local screen = require "cnn.terminal.screen"
local session = require "cnn.prompt.session"

ffi.cdef "int siginterrupt(int number, int flag);"

local SIGINT, FAILED = 2, 1
local print = print -- a script may overwrite the global

local repl = {}

-- --------------------------------------------------------------------------------------- reading

-- For who types, wherever what is printed goes.
local function tell(text)
  local stream = files.is_terminal(1) and io.stdout or io.stderr
  stream:write(text)
  stream:flush()
end

-- A line, or nil and "end" or "interrupted", of standard input as it is.
local function read_plain(prompt)
  io.stdout:flush()
  if prompt then tell(prompt) end
  local line = io.stdin:read "*l"
  if not guard.interrupted() then return line, "end" end
  guard.clear(true)
  return nil, "interrupted"
end

-- Whether a script that is watched has been loaded again, and told so by `say`.
local function poll_scripts(say)
  local watch = package.loaded["cnn.watch"]
  return watch and watch.poll(say)
end

-- In place of the prompt, which is drawn again after it.
local function say_over_prompt(line)
  io.write(screen.is_plain() and "\n" or "\r\27[K", line, "\n")
  io.flush()
end

local docs_read = false

-- The docstrings are read before the first Tab asks for them.
local function while_idle()
  if not docs_read then require("cnn.help").names() end
  docs_read = true
  return poll_scripts(say_over_prompt)
end

-- The function that reads: reader(prompt). Tab is told the lines of an input that is not finished.
local function new_reader(environment, editor, waiting)
  if not editor then return read_plain end
  local complete = require "cnn.prompt.complete"
  return function(prompt)
    return editor:read(prompt, {
      idle = while_idle,
      complete = function(line, point)
        local before = waiting:is_empty() and "" or waiting:text() .. "\n"
        local list, start = complete(before .. line, #before + point, environment)
        return list, start and start - #before
      end,
    })
  end
end

-- Reads inputs of one or more lines and evaluates them, until the end.
local function loop(prompt, editor, terminal)
  local waiting = inputs.new()
  local read = new_reader(prompt.environment, editor, waiting)
  while not prompt.ended do
    local line, why = read(terminal and (waiting:is_empty() and "> " or ">> "))
    if line then
      poll_scripts(print)
      waiting:add(line)
      for text in waiting:complete() do
        if editor then editor:remember(text) end
        if not prompt:run(text) then waiting:drop() end
      end
    elseif why == "interrupted" then
      waiting:drop()
      if terminal then tell "\n" end
    else
      if not waiting:is_empty() then
        fail.complain "the input ends in the middle of a statement"
      end
      break
    end
  end
  if terminal and not prompt.ended then tell "\n" end
end

-- --------------------------------------------------------------------------------------- starting

local function open_editor()
  local editor = require "cnn.prompt.editor".open()
  if not editor then
    print "no line editing without readline (apt-get install libreadline8)"
  elseif editor.problem then
    print("what is typed is not kept: " .. editor.problem)
  end
  return editor
end

local function greet(environment)
  local names = rawget(environment, "recipe") and "cnn, nn, net, recipe, data" or "cnn, nn"
  print(("cnnlua %s: %s are at hand; ? says more, Ctrl-D ends"):format(environment.cnn.version,
    names))
end

-- file: a script or nil; words: its arguments, which for a recipe are options. The status is that
-- of the script: a failed one leaves its point of failure to be looked at.
function repl.run(file, words)
  local terminal = files.is_terminal(0)
  local prompt = session.new()
  local whole = not file or prompt:load(file, words)
  guard.hold(true)
  ffi.C.siginterrupt(SIGINT, 1) -- so that it ends a read that waits for somebody, here and there
  local editor
  if terminal and files.is_terminal(1) then
    editor = open_editor()
    greet(prompt.environment)
  end
  loop(prompt, editor, terminal)
  return whole and 0 or FAILED
end

return repl
