-- scanner.lua - whether a text of many lines is certainly unfinished, line by line.
--
--   local scan = scanner.new()
--   local open = scan:feed(line)      without its newline; for each line in turn
--
-- open counts what waits for its end: blocks, brackets, a string or comment of several lines, and
-- an operator or comma at the end of all. Above 0 the text is no statement yet; at 0 it may be one,
-- and the compiler has to be asked. Each line costs what it is long.
--
-- Surprising: where something is closed that was not open, as in `x = )`, open is 0 from then on,
-- since only the compiler can say what is wrong.

local tokens = require "cnn.prompt.tokens"

local scanner = {}

local Scanner = {}
Scanner.__index = Scanner

-- what opens -> what has to follow; `then` and the `do` of a loop are followed by an `end` in turn
local follows = {
  ["("] = ")", ["["] = "]", ["{"] = "}", ["function"] = "end", ["repeat"] = "until",
  ["if"] = "then", ["then"] = "end", ["elseif"] = "then", ["while"] = "do", ["for"] = "do",
  ["do"] = "end",
}

-- what closes -> what it has to be the end of
local ends = {
  [")"] = ")", ["]"] = "]", ["}"] = "}", ["until"] = "until", ["then"] = "then",
  ["end"] = "end", ["elseif"] = "end",
}

-- What no statement ends with.
local dangling = {}
for word in ("+ - * / % ^ # == ~= <= >= < > = , . : .. and or not in local until"):gmatch "%S+" do
  dangling[word] = true
end

function scanner.new()
  return setmetatable({ waiting = {}, closing = nil, dangles = false, wrong = false }, Scanner)
end

local function take(self, word)
  local waiting = self.waiting
  local n = #waiting
  if ends[word] or word == "do" and waiting[n] == "do" then
    if waiting[n] ~= (ends[word] or "do") then
      self.wrong = true
      return
    end
    waiting[n] = nil
    n = n - 1
  end
  waiting[n + 1] = follows[word]
  self.dangles = dangling[word] or false
end

-- The position behind a string or comment that began in an earlier line.
local function leave(self, text)
  if not self.closing then return 1 end
  local last
  last, self.closing = tokens.go_on(text, self.closing)
  return last + 1
end

function Scanner:feed(line)
  if self.wrong then return 0 end
  local text = line .. "\n"
  local at = leave(self, text)
  while at <= #text do
    local kind, last, closing = tokens.next(text, at)
    if kind == "keyword" or kind == "symbol" then
      take(self, text:sub(at, last))
    elseif kind ~= "space" and kind ~= "comment" then
      self.dangles = false
    end
    if closing and last == #text then
      self.closing = closing
    elseif closing then
      self.wrong = true -- the line ended before its string
    end
    at = last + 1
  end
  if self.wrong then return 0 end
  return #self.waiting + (self.closing and 1 or 0) + (self.dangles and 1 or 0)
end

return scanner
