-- cli.lua - the command line: which of the program's ways of running is meant.
--
-- cli.main(arg) returns the exit status: 0, 1 for a failed run, 2 for a usage error, 130 after
-- Ctrl-C; the last three come with one line on stderr, never a traceback. Without a command word
-- the program is a Lua interpreter (-e, -l, -i, -, FILE), except that a FILE that returns a recipe
-- is trained.
--
-- Surprising: modules are loaded when they are needed, because `cnnlua -e` has to start in no time;
-- a plain Lua script never loads the engine's bindings unless it asks for them.

local host = require "cnn.host"
local arguments = require "cnn.arguments"
local fail = require "cnn.fail"

local cli = {}

local help = [[
cnnlua                          a prompt
cnnlua FILE [options]           trains the recipe that FILE returns; runs any other Lua file
%s
cnnlua -e CODE, -l NAME, -      as luajit: a line of Lua, a module, standard input
cnnlua --version, --help        cnnlua train --help lists the options of train

A script's options come after its name: cnnlua models/vgg.lua --set ratio=1 --epochs 3
]]

local function rest(words, first)
  local list = {}
  for i = first, #words do list[#list + 1] = words[i] end
  return list
end

-- The global `arg` of a script, as luajit makes it: [0] its name, 1.. its arguments.
local function set_arg(words, script)
  local list = {}
  for i = 0, #words do list[i - script] = words[i] end
  _G.arg = list
end

-- The doctor comes also where the option parser is what is missing.
local function run_command(name, words)
  local bare = name == "doctor" and #words == 0
  local options = bare and {} or arguments.parse(name, words)
  if options.file then set_arg({ [0] = name, options.file }, 1) end
  return require(arguments.module(name))[name](options) or 0
end

local function run_file(words, place)
  set_arg(words, place)
  local value, options = require "cnn.script".run("train", words[place], rest(words, place + 1))
  if options then require "cnn.train".run(value, options) end
  return 0
end

local function run_chunk(chunk, why, ...)
  if not chunk then fail.run("%s", why) end
  chunk(...)
end

-- The prompt, of the script at `place` if there is one.
local function prompt(words, place)
  local file = words[place]
  if file and file:match "^%-" then
    arguments.parse("-i", rest(words, place))
    fail.usage "-i: the options come after FILE"
  end
  if file then set_arg(words, place) end
  return require "cnn.repl".run(file, rest(words, place + 1))
end

-- luajit's options, in their order, then a script or the prompt.
local function run_lua(words)
  local i, ran = 1, false
  while words[i] do
    local word = words[i]
    local letter, attached = word:match "^%-([el])(.*)$"
    if letter then
      if attached == "" then
        i = i + 1
        attached = words[i]
        if not attached then fail.usage("-%s takes an argument", letter) end
      end
      if letter == "e" then
        run_chunk(loadstring(attached, "=(command line)"))
      else
        _G[attached] = require(attached)
      end
      ran = true
    elseif word == "-i" then
      return prompt(words, i + 1)
    elseif word == "-" then
      set_arg(words, i)
      local chunk, why = loadfile()
      run_chunk(chunk, why, unpack(rest(words, i + 1)))
      return 0
    elseif word == "--" then
      if words[i + 1] then return run_file(words, i + 1) end
      return 0
    elseif word:match "^%-" then
      fail.usage("unknown option '%s'; cnnlua --help lists what there is", word)
    else
      return run_file(words, i)
    end
    i = i + 1
  end
  if ran then return 0 end
  return prompt(words, i)
end

local function dispatch(words)
  local first = words[1]
  require "cnn.path"
  require "cnn.reload.sources"
  if first == "--help" or first == "-h" then
    io.write(help:format(arguments.help()))
    return 0
  elseif first == "--version" or first == "-v" then
    print("cnnlua " .. require "cnn".version)
    return 0
  elseif arguments.module(first) then
    return run_command(first, rest(words, 2))
  end
  return run_lua(words)
end

function cli.main(words)
  local ok, result = host.guard(dispatch, words)
  io.stdout:flush()
  if ok then return result end
  io.stderr:write("cnnlua: ", fail.line(result), "\n")
  if host.interrupted() then return 130 end
  return fail.is_usage(result) and 2 or 1
end

return cli
