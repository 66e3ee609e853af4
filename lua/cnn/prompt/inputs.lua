-- inputs.lua - cuts what is typed, pasted or piped in into inputs: pieces of Lua that stand alone.
--
--   local waiting = inputs.new()
--   waiting:add(line)                         a line, or several in one text (a paste)
--   for text in waiting:complete() do ... end    the inputs that are whole by now, in order
--   waiting:text()                            what is left over: an unfinished input, or nil
--
-- An input ends where it is a statement or an expression, or hopelessly wrong. Of pasted lines one
-- that begins with an operator (`:relu()`, `+ 1`, `or x`) goes on with the line before.
--
-- Surprising: whether it ends is asked of Lua's compiler, but only where no block, bracket or
-- string is open, or a pasted megabyte would be compiled again with each of its lines.

local scanner = require "cnn.prompt.scanner"
local source = require "cnn.prompt.source"

local inputs = {}

local Inputs = {}
Inputs.__index = Inputs

local ALWAYS = 64 -- lines: so short an input is tried whatever seems open, so errors come at once

function inputs.new()
  return setmetatable({ lines = {}, next = 1, parts = {}, scan = nil }, Inputs)
end

function Inputs:is_empty() return #self.parts == 0 end

function Inputs:text()
  return #self.parts > 0 and table.concat(self.parts, "\n") or nil
end

-- Forgets what was added and has not been taken.
function Inputs:drop()
  self.lines, self.next, self.parts, self.scan = {}, 1, {}, nil
end

function Inputs:add(text)
  if not text:find("\n", 1, true) then
    self.lines[#self.lines + 1] = text
    return
  end
  for line in (text .. "\n"):gmatch "(.-)\r?\n" do self.lines[#self.lines + 1] = line end
end

local function goes_on(line)
  if not line then return false end
  local text = line:match "^%s*(.*)$"
  if text:find "^%-%-" then return false end
  return text:find "^[.:+*/%%^<>~=,)%]}]" ~= nil or text:find "^and%f[^%w_]" ~= nil
    or text:find "^or%f[^%w_]" ~= nil
end

-- Whether what has been collected ends here, be it right or wrong.
local function ends(self, open)
  if open > 0 and #self.parts > ALWAYS then return false end
  if goes_on(self.lines[self.next]) then return false end
  local chunk, why = source.compile(self:text())
  return chunk ~= nil or why ~= source.UNFINISHED
end

local function take(self)
  local text = self:text()
  self.parts, self.scan = {}, nil
  return text
end

local function next_input(self)
  while self.lines[self.next] do
    local line = self.lines[self.next]
    self.next = self.next + 1
    self.scan = self.scan or scanner.new()
    self.parts[#self.parts + 1] = line
    if ends(self, self.scan:feed(line)) then return take(self) end
  end
  self.lines, self.next = {}, 1
  return nil
end

function Inputs:complete()
  return next_input, self
end

return inputs
