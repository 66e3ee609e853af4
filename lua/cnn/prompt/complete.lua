-- complete.lua - what Tab offers.
--
--   local complete = require "cnn.prompt.complete"
--   complete(line, point, environment) -> { text, ... }, start
--
-- line: what has been typed, of one or more lines; point: how many bytes of it are before the
-- cursor. Each text may stand in place of line:sub(start, point). They are sorted; where there is
-- one alone, the quote that ends its string is in it.
--
-- Surprising: nothing that is typed runs, and no __index function but the library's own, so that
-- Tab never computes, loads data or fails. Of calls a few are known by what they give: net(x).

local callee = require "cnn.prompt.callee"
local expression = require "cnn.prompt.expression"
local strings = require "cnn.prompt.strings"
local tokens = require "cnn.prompt.tokens"
local values = require "cnn.prompt.values"

local is = expression.is

local LONGEST = 2 ^ 14 -- bytes before the cursor that are looked at
local MOST = 500       -- candidates

-- ------------------------------------------------------------------------------------- candidates

local Candidates = {}
Candidates.__index = Candidates

local function new_candidates(word)
  return setmetatable({ word = word, seen = {}, count = 0, goes_on = false }, Candidates)
end

-- Of very many some are enough; the first and the last are among them, so that what they all begin
-- with is what all that there are begin with.
function Candidates:add(text, goes_on)
  if self.seen[text] then
    self.goes_on = self.goes_on or goes_on
    return
  end
  if self.count == 0 or text < self.least then self.least = text end
  if self.count == 0 or text > self.greatest then self.greatest = text end
  self.count = self.count + 1
  self.goes_on = goes_on
  if self.count <= MOST then self.seen[text] = true end
end

-- A name that begins as the word does; one with an underscore in front only where that was typed.
function Candidates:add_name(name, before)
  local word = self.word
  if name:sub(1, #word) ~= word or not tokens.is_name(name) then return end
  local is_hidden = name:sub(1, 1) == "_" and word == ""
  if not is_hidden then self:add((before or "") .. name) end
end

function Candidates:list()
  if self.count == 0 then return {} end
  self.seen[self.least], self.seen[self.greatest] = true, true
  local list = {}
  for text in pairs(self.seen) do list[#list + 1] = text end
  table.sort(list)
  return list
end

-- ------------------------------------------------------------------------------------- the cursor

-- visit(name, shadows) for the variables that the first tokens declare: those of `local` shadow
-- others from the next line on, where line_start is.
local function declared(words, last, line_start, visit)
  local function visit_list(i, shadows)
    while i <= last and words[i].kind == "name" do
      visit(words[i].text, shadows or words[i].first < line_start)
      if not is(words[i + 1], ",") then return end
      i = i + 2
    end
  end
  for i = 1, last do
    local text = words[i].kind == "keyword" and words[i].text
    if text == "local" or text == "for" then
      visit_list(i + 1, text == "for")
    elseif text == "function" then
      local open = is(words[i + 1], "(") and i + 1 or i + 2
      if open > i + 1 and is(words[open], "(") then visit_list(i + 1, false) end
      if is(words[open], "(") then visit_list(open + 1, true) end
    end
  end
end

-- The value of a variable; nil for those that the unfinished text declares.
local function scope_of(words, line_start, environment)
  local shadowed = {}
  declared(words, #words, line_start, function(name, shadows)
    shadowed[name] = shadowed[name] or shadows
  end)
  return function(name)
    if shadowed[name] then return nil end
    local value = values.index(environment, name)
    if value == nil then value = rawget(_G, name) end
    return value
  end
end

-- text ends at the cursor, rest is what comes behind. words: its tokens; word: the last of them, as
-- far as it is being typed, and `kind` what it is; before it is the token number `at`, the sign.
local function cursor_of(text, rest, environment)
  local words = expression.read(text)
  local last = words[#words]
  local typing = last ~= nil and last.last == #text and last.kind ~= "symbol"
  local at = typing and #words - 1 or #words
  local word = typing and last.text or ""
  local line_start = text:match "^.*\n()" or 1
  return {
    text = text, rest = rest, words = words, at = at, sign = words[at], word = word,
    kind = typing and last.kind, open = typing and last.closing, start = #text - #word + 1,
    environment = environment, scope = scope_of(words, line_start, environment),
    blank = not text:find("%S", line_start),
  }
end

-- ------------------------------------------------------------------------------ fields and methods

local function numbers_of(value, before, after)
  local list = {}
  for i, n in ipairs(values.numbers(value)) do list[i] = before .. n .. after end
  return list
end

-- Children without a name are indices, and a method that was written with a dot gets its colon.
local function after_dot(c)
  local value, dot = expression.value(c.words, c.at - 1, c.scope), c.sign.first
  local found = new_candidates(c.word)
  local numbers = c.word == "" and numbers_of(value, "[", "]") or {}
  local before = #numbers > 0 and "." or nil
  values.fields(value, function(name) found:add_name(name, before) end)
  if #numbers > 0 then
    local list = found:list()
    for _, number in ipairs(numbers) do list[#list + 1] = number end
    return list, dot
  end
  if found.count > 0 or c.word == "" then return found:list() end
  values.methods(value, function(name) found:add_name(name, ":") end)
  return found:list(), dot
end

local function after_colon(c)
  local value, found = expression.value(c.words, c.at - 1, c.scope), new_candidates(c.word)
  values.methods(value, function(name) found:add_name(name) end)
  return found:list()
end

local function in_brackets(c)
  local list = {}
  local closing = c.rest:sub(1, 1) == "]" and "" or "]"
  local value = expression.value(c.words, c.at - 1, c.scope)
  for _, number in ipairs(numbers_of(value, "", closing)) do
    if number:sub(1, #c.word) == c.word then list[#list + 1] = number end
  end
  return list
end

-- ----------------------------------------------------------------------------------- option names

-- The names that have a value in the table that is open before token `first`.
local function given(words, first)
  local has, depth = {}, 0
  for i = first, #words do
    local word = words[i]
    if word.kind == "symbol" then
      if word.text:find "^[({%[]$" then depth = depth + 1 end
      if word.text:find "^[)}%]]$" then depth = depth - 1 end
      if depth < 0 then break end
    elseif depth == 0 and word.kind == "name" and is(words[i + 1], "=") then
      has[word.text] = true
    end
  end
  return has
end

-- What has a default like { batch = 128, lr = 0.1 } may be a table with those names.
local function options_in(default)
  local list = {}
  for name in ((default or ""):match "^{(.*)}$" or ""):gmatch "([%a_][%w_]*) =" do
    list[#list + 1] = { name = name }
  end
  return list
end

local options_of

-- The options that may stand in the table which token `open` opens: those of the function that it
-- is an argument of, or of the option that it is the value of. And whether it has to be options:
-- { 1, 1, 224, 224 } is an argument, too.
function options_of(c, open)
  local words = c.words
  if not open or not is(words[open], "{") then return {}, false end
  if is(words[open - 1], "=") then
    for _, option in ipairs((options_of(c, expression.enclosing(words, open - 1)))) do
      if option.name == words[open - 2].text then return options_in(option.default), true end
    end
  end
  local last, number = expression.call(words, open - 1)
  local called = last and callee.find(words, last, c.scope)
  if not called or not called.entry then return {}, false end
  local parameter = called.parameters[math.min(number, #called.parameters)]
  if parameter == "recipe" then return require "cnn.help".entry(parameter).options, true end
  return called.entry.options, parameter == "{"
end

-- Where a name may begin in a table; without a letter of it, only where nothing else may.
local function options(c)
  local open = expression.enclosing(c.words, c.at)
  local known, only = options_of(c, open)
  if #known == 0 or c.word == "" and not only then return {} end
  local found, has = new_candidates(c.word), given(expression.read(c.text .. c.rest), open + 1)
  for _, option in ipairs(known) do
    if not has[option.name] then found:add_name(option.name) end
  end
  local list = found:list()
  for i, name in ipairs(list) do list[i] = name .. " = " end
  return list
end

-- ---------------------------------------------------------------------------------- names, topics

-- Of the environment those, too, that it makes when they are first named.
local function names(c)
  local found = new_candidates(c.word)
  local function visit(name) found:add_name(name) end
  local meta = debug.getmetatable(c.environment)
  values.fields(c.environment, visit)
  values.fields(_G, visit)
  if meta and type(meta.late) == "table" then values.fields(meta.late, visit) end
  declared(c.words, c.at, 1, visit)
  for keyword in pairs(tokens.keywords) do
    if keyword:sub(1, #c.word) == c.word then found:add(keyword) end
  end
  return found:list()
end

-- Behind a question mark: what has help, and what there is.
local function topics(text, environment)
  local c = cursor_of(text, "", environment)
  local found = new_candidates(c.word)
  local function visit(name) found:add_name(name) end
  if is(c.sign, ".") or is(c.sign, ":") then
    values.all(expression.value(c.words, c.at - 1, c.scope), visit)
  else
    values.fields(environment, visit)
  end
  local base = c.sign and expression.name(c.words, c.at - 1)
  for _, name in ipairs(require "cnn.help".names()) do
    local owner, last = name:match "^(.-)[.:]?([%w_]+)$"
    if owner and (owner == base or not c.sign) then visit(last) end
    if not c.sign then visit(name:match "^[%w_]+") end
  end
  return found:list(), c.start
end

-- --------------------------------------------------------------------------------------- the whole

local function in_string(c)
  local found = new_candidates ""
  local start = strings.complete(c.words, c.scope, function(text, goes_on)
    found:add(text, goes_on)
  end)
  local list = found:list()
  if #list == 1 and not found.goes_on and c.rest:sub(1, #c.open) ~= c.open then
    list[1] = list[1] .. c.open
  end
  return list, start
end

local by_sign = { ["."] = after_dot, [":"] = after_colon }
local begins_field = { ["{"] = true, [","] = true, [";"] = true }
local ends_value = { [")"] = true, ["]"] = true, ["}"] = true, ["::"] = true }

-- The candidates, and where they begin if that is not where the word does.
local function look(c)
  local sign = c.sign and c.sign.kind == "symbol" and c.sign.text
  if c.kind == "string" and c.open then return in_string(c) end
  if c.kind == "comment" or c.kind == "string" or c.blank then return {} end
  if sign == "[" and (c.word == "" or c.kind == "number") then
    local list = in_brackets(c)
    if #list > 0 then return list end
  end
  if c.kind == "number" then return {} end
  if by_sign[sign] then return by_sign[sign](c) end
  if ends_value[sign] and c.sign.last == #c.text then return {} end
  if begins_field[sign] then
    local list = options(c)
    if #list > 0 then return list end
  end
  return names(c)
end

local function complete(text, rest, environment)
  local topic = text:match "^%s*%?%s*()"
  if topic then
    local list, start = topics(text:sub(topic), environment)
    return list, start + topic - 1
  end
  local c = cursor_of(text, rest, environment)
  local list, start = look(c)
  return list, start or c.start
end

-- Where the text that is looked at begins: far back the start of a line.
local function start_of(line, point)
  if point <= LONGEST then return 1 end
  return (line:find("\n", point - LONGEST, true) or point) + 1
end

-- Never an error: what goes wrong completes to nothing.
return function(line, point, environment)
  local first = start_of(line, point)
  local text, rest = line:sub(first, point), line:sub(point + 1, point + LONGEST)
  local ok, list, start = pcall(complete, text, rest, environment or _G)
  if not ok then return {}, point + 1 end
  return list, start + first - 1
end
