-- expression.lua - the tokens before the cursor, and what the expression in front of it is.
--
--   local words = expression.read(text)          tokens that mean something, in order
--   expression.value(words, i, scope)     what ends with token i; and the number of its first token
--   expression.name(words, i)             the same as a dotted text, "cnn.image.read", or nil
--   expression.enclosing(words, i)        the bracket that is open behind token i
--   expression.call(words, i)             what the place behind token i is an argument of
--
-- A token is { kind, text, first, last, closing }, as in tokens.lua. Names, fields, constant
-- indices and calls whose result is known are understood, everything else has the value nil.
--
-- Surprising: expressions are read backwards, since nothing is known of where they begin.

local tokens = require "cnn.prompt.tokens"
local values = require "cnn.prompt.values"

local expression = {}

function expression.read(text)
  local words = {}
  for first, last, kind, closing in tokens.each(text) do
    if kind ~= "space" and (kind ~= "comment" or closing) then
      words[#words + 1] = {
        kind = kind, text = text:sub(first, last), first = first, last = last, closing = closing,
      }
    end
  end
  return words
end

local function is(word, text) return word ~= nil and word.kind == "symbol" and word.text == text end

expression.is = is

-- ---------------------------------------------------------------------------------------- brackets

local openers = { [")"] = "(", ["]"] = "[", ["}"] = "{" }
local is_opener = { ["("] = true, ["["] = true, ["{"] = true }

-- The bracket that is open behind token i and the commas since then; nil where there is none.
local function enclosing(words, i)
  local depth, commas = 0, 0
  for at = i, 1, -1 do
    local text = words[at].kind == "symbol" and words[at].text
    if openers[text] then
      depth = depth + 1
    elseif is_opener[text] then
      if depth == 0 then return at, commas end
      depth = depth - 1
    elseif depth == 0 and (text == "," or text == ";") then
      commas = commas + 1
    end
  end
end

expression.enclosing = enclosing

local function ends_expression(word)
  if not word or word.closing then return false end
  return word.kind == "name" or word.kind == "string" or is(word, ")") or is(word, "]")
    or is(word, "}")
end

-- ------------------------------------------------------------------------------------------ values

local value_of

local function constant(word, scope)
  if word.kind == "number" then return tonumber(word.text) end
  if word.kind == "string" then return loadstring("return " .. word.text)() end
  if word.kind == "name" then return scope(word.text) end
end

local function value_of_name(words, i, scope)
  local before = words[i - 1]
  if not is(before, ".") and not is(before, ":") then return scope(words[i].text), i end
  local base, first = value_of(words, i - 2, scope)
  return values.index(base, words[i].text), first
end

-- f(...), f "..." or f { ... }, whose arguments begin with token `open`; or what else stands there.
local function value_of_call(words, open, scope)
  local fn, first = value_of(words, open - 1, scope)
  return values.result(fn), first
end

local function value_of_brackets(words, i, scope)
  local open = enclosing(words, i - 1)
  if not open or openers[words[i].text] ~= words[open].text then return nil, i end
  local called = ends_expression(words[open - 1])
  if words[i].text == "]" then
    if not called or open ~= i - 2 then return nil, i end
    local base, first = value_of(words, open - 1, scope)
    return values.index(base, constant(words[i - 1], scope)), first
  end
  if called then return value_of_call(words, open, scope) end
  local value, first = value_of(words, i - 1, scope)
  return words[i].text == ")" and first == open + 1 and value or nil, open
end

-- scope(name): the value of a variable.
function value_of(words, i, scope)
  local word = words[i]
  if not ends_expression(word) then return nil, i end
  if word.kind == "name" then return value_of_name(words, i, scope) end
  if word.kind == "symbol" then return value_of_brackets(words, i, scope) end
  if ends_expression(words[i - 1]) then return value_of_call(words, i, scope) end
  return constant(word), i
end

expression.value = value_of

function expression.name(words, i)
  local name = words[i] and words[i].kind == "name" and words[i].text
  while name and is(words[i - 1], ".") do
    i = i - 2
    name = words[i] and words[i].kind == "name" and words[i].text .. "." .. name
  end
  return name or nil
end

-- ------------------------------------------------------------------------------------------- calls

-- The last token of what is called, and which argument comes behind token i: f(a, | is f, 2, and
-- f | of f "text" or f { } is f, 1.
function expression.call(words, i)
  if ends_expression(words[i]) then return i, 1 end
  if not is(words[i], "(") and not is(words[i], ",") then return nil end
  local open, commas = enclosing(words, i)
  if not is(words[open], "(") or not ends_expression(words[open - 1]) then return nil end
  return open - 1, commas + 1
end

return expression
