-- tokens.lua - a piece of Lua as tokens, for the prompt.
--
--   tokens.next(text, at) -> kind, last, closing     the token that begins at `at` ends at `last`
--   for first, last, kind, closing in tokens.each(text) do ... end
--   tokens.go_on(text, closing) -> last, closing     the rest of a token that began before `text`
--   tokens.keywords, tokens.is_name(word)            is_name: of ASCII letters, and no keyword
--
-- kind: "space", "comment", "string", "number", "name", "keyword" or "symbol". `closing` is what is
-- still missing where the text ends inside of a token: the quote, "]==]", or "\n" of a comment.
--
-- Surprising: nothing is an error here. A string that its line ends has `closing`, too, but ends
-- before the end of the text; a character that Lua does not know is a symbol.

local tokens = {}

local keywords = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat
  return then true until while]]):gmatch "%l+" do
  keywords[word] = true
end
tokens.keywords = keywords

-- LuaJIT takes every byte from 128 on for a letter.
local NAME, NUMBER = "^[%a_\128-\255][%w_\128-\255]*", "^[%w_.\128-\255]+"

function tokens.is_name(word)
  return type(word) == "string" and word:find("^[%a_][%w_]*$") ~= nil and not keywords[word]
end

local starts = {} -- byte -> what may begin with it
for byte = 0, 255 do
  local c = string.char(byte)
  starts[byte] = c:find "%s" and "space" or c:find "%d" and "number" or c:find(NAME) and "name"
    or c:find "[\"']" and "string" or "symbol"
end

-- ------------------------------------------------------------------------ strings and comments

local stops = { ['"'] = '["\\\r\n]', ["'"] = "['\\\r\n]" }

local function quoted(text, at, quote)
  local stop = stops[quote]
  while true do
    local found = text:find(stop, at)
    if not found then return #text, quote end
    local c = text:sub(found, found)
    if c == quote then return found end
    if c ~= "\\" then return found - 1, quote end
    local _, escaped = text:find("^z%s*", found + 1) -- skips white space, lines too
    if not escaped then _, escaped = text:find("^\r\n", found + 1) end
    at = (escaped or found + 1) + 1
    if at > #text then return #text, quote end
  end
end

local function long(text, at, closing)
  local last = select(2, text:find(closing, at, true))
  if last then return last end
  return #text, closing
end

local function comment(text, at)
  local level = text:match("^%-%-%[(=*)%[", at)
  if level then return long(text, at + 4 + #level, "]" .. level .. "]") end
  local newline = text:find("\n", at, true)
  if newline then return newline - 1 end
  return #text, "\n"
end

function tokens.go_on(text, closing)
  if stops[closing] then return quoted(text, 1, closing) end
  return long(text, 1, closing)
end

-- ----------------------------------------------------------------------------------- the others

local double = { ["=="] = true, ["~="] = true, ["<="] = true, [">="] = true, ["::"] = true,
                 [".."] = true }

-- A minus or plus belongs to a number right after its exponent's letter.
local function number(text, at)
  local exponent = text:find("^0[xX]", at) and "^[pP][+-]" or "^[eE][+-]"
  local last = select(2, text:find(NUMBER, at))
  while text:find(exponent, last) do
    last = select(2, text:find(NUMBER, last + 2)) or last + 1
  end
  return last
end

local function symbol(text, at)
  local two = text:sub(at, at + 1)
  if two == "--" then return "comment", comment(text, at) end
  local level = text:match("^%[(=*)%[", at)
  if level then return "string", long(text, at + 2 + #level, "]" .. level .. "]") end
  if text:find("^%.%d", at) then return "number", number(text, at) end
  if text:find("^%.%.%.", at) then return "symbol", at + 2 end
  return "symbol", double[two] and at + 1 or at
end

function tokens.next(text, at)
  local kind = starts[text:byte(at)]
  if kind == "name" then
    local last = select(2, text:find(NAME, at))
    return keywords[text:sub(at, last)] and "keyword" or "name", last
  end
  if kind == "space" then return kind, select(2, text:find("^%s+", at)) end
  if kind == "number" then return kind, number(text, at) end
  if kind == "string" then return kind, quoted(text, at + 1, text:sub(at, at)) end
  return symbol(text, at)
end

function tokens.each(text)
  local at = 1
  return function()
    local first = at
    if first > #text then return nil end
    local kind, last, closing = tokens.next(text, first)
    at = last + 1
    return first, last, kind, closing
  end
end

return tokens
