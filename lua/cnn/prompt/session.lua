-- session.lua - what the prompt knows: its environment, the values so far, the script it is about.
--
--   local prompt = session.new()
--   prompt:load("models/resnet.lua", words)   net, recipe, data; false when the script failed
--   prompt:run(text)                          one input; false when Ctrl-C stopped it
--   prompt.ended                              after `exit`
--
-- Errors are one line on stderr; a syntax error has the line and a caret below it. Ctrl-C strikes
-- in what is loaded and in what was typed; around it, it is held (cnn.guard).
--
-- Surprising: an input that is nothing but _ or _1 shows that value and leaves the others in their
-- places; any other one moves them on.

local fail = require "cnn.fail"
local files = require "cnn.files"
local guard = require "cnn.guard"
local report = require "cnn.probes.report"
local source = require "cnn.prompt.source"
local some = require "cnn.text".some

local print = print -- the script may overwrite the global

local session = {}

local Session = {}
Session.__index = Session

local KEPT = 10       -- values: _ and _1 to _9
local MOST_NAMES = 12 -- of locals, in a line

-- ------------------------------------------------------------------------------------ environment

-- Names of the prompt's own come before globals; `late` are those made when they are first named,
-- in the metatable for completion to see.
local function new_environment()
  local cnn = require "cnn"
  local environment = { cnn = cnn, nn = cnn.nn }
  local late = {}
  setmetatable(environment, { late = late, __index = function(self, name)
    local make = late[name]
    if not make then return _G[name] end
    late[name] = nil
    local value = make()
    rawset(self, name, value)
    return value
  end })
  return environment, late
end

function session.new()
  local environment, late = new_environment()
  return setmetatable({ environment = environment, late = late, values = {} }, Session)
end

-- ----------------------------------------------------------------------------------------- errors

-- For a syntax error: the line and a caret. text_of(name) is the text that the message calls so.
local function caret_of(why, text_of)
  local name, line = fail.line(why):match "^(.-):(%d+): "
  local text = name and text_of(name)
  return text and require "cnn.prompt.syntax".caret(text, tonumber(line))
end

local function complain(why, caret)
  if type(why) == "table" and not debug.getmetatable(why) then
    why = "a table was thrown: " .. require "cnn.prompt.printing".text(why)
  end
  fail.complain(why)
  if caret then io.stderr:write(caret, "\n") end
end

-- --------------------------------------------------------------------------------------- printing

function Session:keep(value)
  if value == nil then return end
  local values, environment = self.values, self.environment
  table.insert(values, 1, value)
  values[KEPT + 1] = nil
  rawset(environment, "_", values[1])
  for i = 2, #values do rawset(environment, "_" .. i - 1, values[i]) end
end

-- A report may have printed itself already.
local function show(value)
  if report.was_printed(value) then return end
  print(require "cnn.prompt.printing".text(value, {
    width = require "cnn.terminal.screen".columns(),
  }))
end

local function taker(self, text)
  local looks_back = text:find "^%s*_[_%d%s,]*$"
  return function(...)
    for i = 1, select("#", ...) do
      local value = select(i, ...)
      show(value)
      if not looks_back then self:keep(value) end
    end
  end
end

-- -------------------------------------------------------------------------------------- evaluating

-- Typed loops stay interpreted: compiled ones would not notice Ctrl-C.
local function evaluate(self, chunk, text)
  setfenv(chunk, self.environment)
  jit.off(chunk, true)
  local ok, why = guard.free(chunk, taker(self, text))
  local stopped = guard.interrupted()
  if stopped then guard.clear(true) end
  if not ok then complain(why) end
  io.stdout:flush()
  return not stopped
end

local function is_farewell(self, text)
  local word = text:match "^%s*(%a+)%s*%(?%s*%)?%s*;?%s*$"
  return (word == "exit" or word == "quit") and rawget(self.environment, word) == nil
    and rawget(_G, word) == nil
end

local function help(self, topic)
  local ok, text = guard.free(require("cnn.help").show, topic, self.environment)
  if guard.interrupted() then guard.clear(true) end
  if ok then print(text) else complain(text) end
  io.stdout:flush()
end

function Session:run(text)
  report.forget()
  local topic = text:match "^%s*%?%s*(.-)%s*$"
  if topic then
    help(self, topic)
  elseif is_farewell(self, text) then
    self.ended = true
  else
    local chunk, why = source.compile(text)
    if chunk then return evaluate(self, chunk, text) end
    complain(why, caret_of(why, function(name) return name == "stdin" and text end))
  end
  return true
end

-- ------------------------------------------------------------------------------------- the script

-- net, recipe and data of a script's recipe, with the options put in; data is read when it is first
-- named.
local function take_recipe(self, value, options, file, words)
  local recipe = require "cnn.recipe"
  local environment = self.environment
  environment.net, environment.recipe = value.net, value
  local checked = recipe.check(value, options)
  environment.net, environment.recipe = checked.net, checked
  recipe.set_prompt_options(checked, options)
  checked.net:to((recipe.device(options)))
  require "cnn.reload".script = {
    file = file, words = words, options = options, recipe = checked,
  }
  function self.late.data()
    return require "cnn.data".open(checked.data, {
      batch = checked.train.batch, height = checked.input[2], width = checked.input[3],
      limit = options.limit, seed = options.seed, dir = options.data,
    })
  end
end

-- What was there where the script failed comes under its names.
local function take_point(self, point)
  for name, value in pairs(point.scope) do rawset(self.environment, name, value) end
  local where = point.name and ("in %s, at %s"):format(point.name, point.place)
    or "at " .. point.place
  print(("stopped %s%s"):format(where,
    #point.locals > 0 and "; here are " .. some(point.locals, MOST_NAMES) or ""))
end

local function load(self, file, words)
  require "cnn.recipe".interpreted = true
  local value, options = require "cnn.script".run("-i", file, words)
  if options then take_recipe(self, value, options, file, words) end
end

-- As Lua's messages call a file.
local function name_of(file)
  return debug.getinfo(loadstring("", "@" .. file), "S").short_src
end

-- What is wrong with the words, or with the file's name, leaves nothing to look at. After a Ctrl-C
-- somebody has to be there who wants to look.
function Session:load(file, words)
  local failure = require "cnn.prompt.failure"
  local ok, why, point = failure.catch(load, self, file, words)
  if ok then return true end
  local nobody = guard.interrupted() and not files.is_terminal(0)
  if nobody or fail.is_usage(why) or not files.read(file) then error(why, 0) end
  if guard.interrupted() then guard.clear(true) end
  complain(why, caret_of(why, function(name)
    return files.read(name == name_of(file) and file or name)
  end))
  if point then take_point(self, point) end
  return false
end

return session
