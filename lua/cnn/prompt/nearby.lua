-- nearby.lua - what may have been meant by a name that there is no help on.
--
--   nearby.line(topic, environment, entries)    "no help on 'Conv2'; did you mean nn.Conv2d?"
--   nearby.options(word, entries)               "lr is an option of cnn.optim.SGD, ...", or nil
--
-- entries: all of them, the likelier first. Surprising: "pool" is nearer to every ...Pool2d than to
-- "poll": names that have the word in them come before those that are a slip of the finger away.

local argument = require "cnn.argument"
local expression = require "cnn.prompt.expression"
local members = require "cnn.members"
local text = require "cnn.text"
local values = require "cnn.prompt.values"

local nearby = {}

local MOST = 4   -- names that are suggested
local SHORTEST = 3 -- letters of a word that is looked for within others

-- MaxPool2d and max_pool2d are one word.
local function plain(word) return (word:lower():gsub("_", "")) end

local function last_word(name) return name:match "[%w_]*$" end

local function plain_text(word) return (word:gsub("%p", "%%%0")) end

-- The likeliest name for each word, and the words in that order.
local function words_of(entries)
  local names, words = {}, {}
  for _, entry in ipairs(entries) do
    local word = plain(last_word(entry.name))
    if word ~= "" and not names[word] then
      names[word] = entry.name
      words[#words + 1] = word
    end
  end
  return names, words
end

local function containing(word, names, words)
  local found, seen = {}, {}
  if #word < SHORTEST then return found end
  for _, pattern in ipairs { "^" .. plain_text(word), plain_text(word) } do
    for _, candidate in ipairs(words) do
      if #found < MOST and not seen[candidate] and candidate:find(pattern) then
        seen[candidate] = true
        found[#found + 1] = names[candidate]
      end
    end
  end
  return found
end

-- For a bare word.
local function by_word(topic, entries)
  local names, words = words_of(entries)
  local word = plain(topic)
  local found = containing(word, names, words)
  if #found == 0 and #word > 1 then found[1] = names[argument.nearest(word, words)] end
  return found
end

-- For "x.narow": the nearest whole name, and "x:narrow" for that.
local function by_whole(topic, entries)
  local names, keys = {}, {}
  for _, entry in ipairs(entries) do
    local key = entry.name:gsub(":", "."):lower()
    names[key], keys[#keys + 1] = entry.name, key
  end
  return { names[argument.nearest(topic:gsub(":", "."):lower(), keys)] }
end

-- What the thing before the last dot is, and the name behind it; nil where it is nothing.
local function parent_of(topic, environment)
  local words = expression.read(topic)
  local n = #words
  if not environment or n < 3 or words[n].kind ~= "name" then return nil end
  local parent, first = expression.value(words, n - 2, function(name) return environment[name] end)
  return first == 1 and parent or nil, words[n].text
end

-- For "net.b4" and "y.narow": what the thing has.
local function by_member(parent, name, topic)
  local names = {}
  local function add(member)
    if member:find "^[%a_]" then names[#names + 1] = member end
  end
  values.fields(parent, add)
  values.methods(parent, add)
  local near = argument.nearest(name, names)
  return near and { topic:sub(1, -#name - 1) .. near } or {}
end

local function layers_of(net)
  local names = {}
  members.each(net, function(name, _, kind)
    if kind == "module" then names[#names + 1] = name end
  end)
  return #names > 0 and "its layers are " .. text.some(names, 2 * MOST) or nil
end

-- All that an entry says, in small letters.
local function words_in(entry)
  local parts = { entry.text }
  for _, field in pairs(entry.fields) do parts[#parts + 1] = field end
  for _, option in ipairs(entry.options) do parts[#parts + 1] = option.text end
  return table.concat(parts, " "):lower()
end

-- Where a word is in the text.
local function mentioning(word, entries)
  local found = {}
  word = word:lower():gsub("_", " ")
  for _, entry in ipairs(entries) do
    if #word >= SHORTEST and #found < MOST and words_in(entry):find(word, 1, true) then
      found[#found + 1] = entry.name
    end
  end
  return #found > 0 and "it is spoken of in " .. table.concat(found, ", ") or nil
end

-- "stride is an option of nn.Conv2d, ...", or nil.
function nearby.options(word, entries)
  local found = {}
  for _, entry in ipairs(entries) do
    for _, option in ipairs(entry.options) do
      if option.name == word then found[#found + 1] = entry.name end
    end
  end
  return #found > 0 and ("%s is an option of %s"):format(word, text.some(found, MOST)) or nil
end

function nearby.line(topic, environment, entries)
  local found, parent, name = {}, parent_of(topic, environment)
  if parent ~= nil then
    found = by_member(parent, name, topic)
  elseif topic:find "[.:]" then
    found = by_whole(topic, entries)
  end
  local layers = members.is_module(parent) and layers_of(parent)
  if #found == 0 and not layers then found = by_word(last_word(topic), entries) end
  local hint = nearby.options(topic, entries)
    or #found > 0 and ("did you mean %s?"):format(table.concat(found, ", "))
    or layers or mentioning(last_word(topic), entries)
    or "nn, cnn, tensor, module, optim, data and image list what there is"
  return ("no help on '%s'; %s"):format(topic, hint)
end

return nearby
