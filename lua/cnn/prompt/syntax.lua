-- syntax.lua - where a piece of Lua stops making sense: the line, and a caret under the word.
--
--   syntax.caret("x = = 3", 1) ->   "  x = = 3\n      ^"
--
-- syntax.caret(text, line): the line that Lua's message names, with a caret below, or nil where
-- nothing can be shown, as of a text that compiles. Surprising: Lua tells the word but not the
-- column. It is the first word that makes the text wrong whatever might follow, so what goes as far
-- as each word is compiled.

local tokens = require "cnn.prompt.tokens"

local syntax = {}

local LONGEST = 76 -- characters of the line that are shown

local function is_hopeless(text)
  local chunk, why = loadstring(text .. "\n", "=")
  return not chunk and not why:find "'<eof>'$"
end

-- The first and last position of a line in the text.
local function bounds(text, number)
  local first = 1
  for _ = 2, number do
    local newline = text:find("\n", first, true)
    if not newline then return nil end
    first = newline + 1
  end
  return first, (text:find("\n", first, true) or #text + 1) - 1
end

-- The position of the first word from `first` on that cannot stand there, or nil. What is hopeless
-- stays so whatever follows; a pasted line may have very many words, so they are halved.
local function wrong_word(text, first, last)
  local starts, ends = {}, {}
  for at, stop, kind in tokens.each(text) do
    if at > last then break end
    if at >= first and kind ~= "space" and kind ~= "comment" then
      starts[#starts + 1], ends[#ends + 1] = at, stop
    end
  end
  local low, high = 1, #starts + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_hopeless(text:sub(1, ends[middle])) then high = middle else low = middle + 1 end
  end
  return starts[low]
end

-- The part of a line around a position, and the position in it.
local function window(line, at)
  line = line:gsub("%s", " ")
  if #line <= LONGEST then return line, at end
  local first = math.max(1, math.min(at - LONGEST / 2, #line - LONGEST + 1))
  return line:sub(first, first + LONGEST - 1), at - first + 1
end

function syntax.caret(text, number)
  local first, last = bounds(text, number)
  if not first or not is_hopeless(text) then return nil end
  local at = wrong_word(text, first, last)
  if not at or text:sub(first, last):find "[%z\1-\8\14-\31\127]" then return nil end
  local line, column = window(text:sub(first, last), at - first + 1)
  return ("  %s\n  %s^"):format(line, (" "):rep(column - 1))
end

return syntax
