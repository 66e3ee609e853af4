-- help.lua - what `?` shows at the prompt, and `cnnlua help`: one name, a list, or the tour.
--
--   help.show(topic, environment, { width = 80 })   text, and whether there was something to show
--   help.entry "nn.Conv2d", help.names()            what docs.lua has read
--
-- A topic is a name (nn.Conv2d, x.narrow, x:narrow), its last word in any case (train, conv2d), a
-- list (nn, cnn, tensor, optim ...), a command, or something in the environment: y.narrow, net.b3,
-- a function of one's own, of which its parameters and the comment above it are shown.
--
-- Surprising: an unknown topic is answered, too, with the nearest names; cnnlua help alone makes an
-- error of it.

local argument = require "cnn.argument"
local arguments = require "cnn.arguments"
local docs = require "cnn.prompt.docs"
local fail = require "cnn.fail"
local nearby = require "cnn.prompt.nearby"
local pages = require "cnn.prompt.pages"
local screen = require "cnn.terminal.screen"
local things = require "cnn.prompt.things"
local tour = require "cnn.prompt.tour"

local help = { entry = docs.entry, names = docs.names }

local WIDEST = 80   -- columns, of text that is to be read
local LONGEST = 60  -- characters of a topic

-- ------------------------------------------------------------------------------------------ lists

-- A name is in the first list that has a pattern for it, or else in the last one.
local groups = {
  { name = "nn", also = "layers", about = "layers, losses, modules", "^nn%.[%w_]+$" },
  { name = "nn.init", also = "", about = "how a weight starts", "^nn%.init%." },
  { name = "module", also = "net modules", about = "what nets and all modules can do",
    "^net[.:%[]" },
  { name = "tensor", also = "x tensors ops", about = "what tensors can do", "^x[.:%[]" },
  { name = "optim", also = "opt schedule", about = "optimizers and schedules",
    "^cnn%.optim%.", "^opt[.:]" },
  { name = "data", also = "split augment", about = "data sets, batches, augmentation",
    "^cnn%.data%.", "^split[.:]", "^cnn%.augment%." },
  { name = "image", also = "picture pictures", about = "pictures: files, grids, what is drawn",
    "^cnn%.image%.", "^picture[.:]" },
  { name = "cnn", also = "", about = "making tensors, training, and what is left" },
}

-- Its number, and the list itself.
local function group_of(name)
  for rank, group in ipairs(groups) do
    for _, pattern in ipairs(group) do
      if name:find(pattern) then return rank, group end
    end
  end
  return #groups, groups[#groups]
end

-- cnn.tensor is a function, tensor a list.
local function find_group(topic)
  if topic:find "^cnn%." and docs.entry(topic) then return nil end
  topic = topic:gsub("^cnn%.", "")
  for _, group in ipairs(groups) do
    local names = (" %s %s "):format(group.name, group.also)
    if names:find(" " .. topic .. " ", 1, true) then return group end
  end
end

-- A line for each entry that `wanted` says yes to.
local function list(width, wanted)
  local rows = {}
  for _, entry in ipairs(docs.entries()) do
    if wanted(entry.name) then rows[#rows + 1] = { entry.name, pages.summary(entry) } end
  end
  return pages.rows(rows, width)
end

local function list_of_group(group, width)
  return list(width, function(name) return select(2, group_of(name)) == group end)
end

local function list_of_members(receiver, width)
  return list(width, function(name) return name:match "^([%w_]+)[.:]" == receiver end)
end

local function list_of_groups(mark, width)
  local rows = {}
  for i, group in ipairs(groups) do rows[i] = { mark .. group.name, group.about } end
  rows[#rows + 1] = { mark .. "commands", "what the program does from a shell" }
  return pages.rows(rows, width)
end

local function list_of_commands(width)
  local rows = {}
  for i, command in ipairs(arguments.list()) do
    rows[i] = { "cnnlua " .. command.name, command.does }
  end
  return pages.rows(rows, width)
end

-- ---------------------------------------------------------------------------------------- finding

-- "?nn.Conv2d(3, 4)" is about nn.Conv2d, and "net.b3.1" is net.b3[1]. What is typed may be anything
-- and of any length.
local function clean(topic)
  topic = topic:sub(1, LONGEST):gsub("^%s*%?+", ""):gsub("%c", "?"):gsub("[({\"'].*", "")
  return (topic:gsub("%s", ""):gsub("%.(%d+)%f[.:%z]", "[%1]"))
end

local function by_rank(a, b)
  local rank_a, rank_b = group_of(a.name), group_of(b.name)
  if rank_a ~= rank_b then return rank_a < rank_b end
  return a.name < b.name
end

local ranked -- all entries, once they were asked for

-- The likelier ones first, for words that are a part of several names.
local function entries_by_rank()
  if not ranked then
    ranked = { unpack(docs.entries()) }
    table.sort(ranked, by_rank)
  end
  return ranked
end

-- Entries whose last word is this one in any case.
local function named(word)
  local found = {}
  for _, entry in ipairs(entries_by_rank()) do
    if entry.name:match "[%w_]*$":lower() == word:lower() then found[#found + 1] = entry end
  end
  return found
end

-- cnn.relu is the op that is x:relu otherwise.
local function exact(topic)
  local op = topic:match "^cnn%.([%w_]+)$"
  return docs.entry(topic) or op and docs.entry("x:" .. op)
end

local function find_command(topic)
  for _, command in ipairs(arguments.list()) do
    if command.name == topic then return command end
  end
end

-- ---------------------------------------------------------------------------------------- showing

-- What there is of the parts, one below the other.
local function join(...)
  local texts = {}
  for i = 1, select("#", ...) do texts[#texts + 1] = (select(i, ...)) or nil end
  return table.concat(texts, "\n")
end

local function wrapped(line, width)
  return line and table.concat(pages.wrap(line, width, "", "  "), "\n")
end

-- What else has this name: "also: net:train, cnnlua train --help".
local function also(entries, command, width)
  local names = {}
  for i = 2, #entries do names[#names + 1] = entries[i].name end
  if command then names[#names + 1] = ("cnnlua %s --help"):format(command.name) end
  return #names > 0 and wrapped("also: " .. table.concat(names, ", "), width)
end

-- The line on a value; of a table that is large its beginning.
local function heading_of(thing, width)
  local line = thing and thing.heading
  return line and wrapped(line:sub(1, 2 * width), width)
end

local function show_thing(thing, width)
  return join(heading_of(thing, width),
    thing.entry and pages.entry(thing.entry, width),
    thing.place and "  in " .. thing.place,
    thing.list and list_of_members(thing.list, width),
    thing.more and ("?%s lists what it can do"):format(thing.more))
end

local function show_command(command, width)
  local words = "cnnlua " .. command.name .. (command.words and " " .. command.words or "")
  local lines = pages.wrap(command.about or command.does, width, "  ", "  ")
  return join(words, table.concat(lines, "\n"),
    ("cnnlua %s --help lists its options"):format(command.name))
end

-- Names of the user's own come before the library's short ones, and those before LuaJIT's.
local function is_own(environment, topic)
  return environment ~= nil and rawget(environment, topic) ~= nil and topic ~= "cnn"
    and topic ~= "nn"
end

local function show_named(topic, width)
  local entries, command = named(topic), find_command(topic)
  local entry = exact(topic) or entries[1]
  if not entry then return command and show_command(command, width) end
  if topic:find "[.:]" then return pages.entry(entry, width) end
  for i, other in ipairs(entries) do
    if other == entry then table.remove(entries, i) end
  end
  table.insert(entries, 1, entry)
  return join(pages.entry(entry, width), also(entries, command, width),
    wrapped(nearby.options(topic, entries_by_rank()), width))
end

local function show(topic, environment, width)
  local group = find_group(topic)
  local thing = is_own(environment, topic) and things.find(environment, topic)
  if group then return join(heading_of(thing, width), list_of_group(group, width)) end
  if topic == "commands" then return list_of_commands(width) end
  if thing then
    thing.entry = thing.entry or docs.entry(topic)
    return show_thing(thing, width)
  end
  local known = show_named(topic, width)
  if known then return known end
  thing = environment and things.find(environment, topic)
  return thing and show_thing(thing, width)
end

local function lists()
  local names = {}
  for i, group in ipairs(groups) do names[i] = "?" .. group.name end
  names[#names + 1] = "?commands"
  return names
end

function help.show(topic, environment, options)
  local width = options and options.width or math.min(WIDEST, screen.columns())
  topic = clean(topic or "")
  if topic == "" then return tour.text(environment, lists(), width), true end
  local text = show(topic, environment, width)
  return text or nearby.line(topic, environment, entries_by_rank()), text ~= nil
end

-- ---------------------------------------------------------------------------------------- command

-- cnnlua help TOPIC
function help.help(options)
  local text, found = help.show(options.topic)
  if not found then fail.usage("help: %s", text) end
  print(text)
  if not options.topic then print("\n" .. list_of_groups("cnnlua help ", WIDEST)) end
end

local function call(_, topic)
  argument.string("cnn.help(topic)", "topic", topic or "")
  print((help.show(topic)))
end

--- cnn.help(topic)
-- Prints what `?topic` shows at the prompt: a name's signature, shapes, options, errors and an
-- example; a list for nn, tensor, module, optim, data, image or cnn; the tour without a topic.
-- Errors: an unknown topic is answered with the nearest names
-- Example: cnn.help "nn.ReLU"
return setmetatable(help, { __call = call })
