-- The docstrings: every name that users type has one, what they say is true, and each example runs
-- at the prompt and prints what it says.

local cnn = require "cnn"
local nn = cnn.nn
local arguments = require "cnn.arguments"
local bind = require "cnn.bind"
local docs = require "cnn.prompt.docs"
local errors = require "spec.support.errors"
local program = require "spec.support.program"
local tensor = require "cnn.tensor"
local typed = require "spec.support.typed"

-- ------------------------------------------------------------------------------------------ things

local net = nn.Sequential(nn.Conv2d(1, 8, 3, { padding = 1 }), nn.Flatten(), nn.Linear(2048, 10))
local x = cnn.rand(4, 1, 16, 16)
local opt = cnn.optim.SGD(net:parameters(), { lr = 0.1 })
local part = { images = cnn.zeros({ 10, 1, 16, 16 }, { dtype = "u8" }), labels = {} }
for i = 1, 10 do part.labels[i] = i end
local data = cnn.data.from { train = part, test = part, classes = 10 }
local picture = require "cnn.pictures.picture".new(cnn.zeros({ 1, 2, 2 }, { dtype = "u8" }))

-- The part of the library that is not for users although they can reach it.
local inner = {}
for name in ([[
  cnn.bind cnn.progress cnn.explain cnn.shape cnn.library
  cnn.data.open cnn.data.settings cnn.data.classes_of cnn.data.is_split
  opt:check opt:slot opt:update picture:draw
]]):gmatch "%S+" do
  inner[name] = true
end

-- Take whatever they are given.
local never_fails = {
  ["cnn.is_tensor"] = true, ["nn.is_module"] = true, ["net:is"] = true,
  ["cnn.watch.poll"] = true,
}

-- -------------------------------------------------------------------------------------- live names

local function is_called(value)
  return type(value) == "function"
    or type(value) == "table" and (getmetatable(value) or {}).__call ~= nil
end

-- Adds the names of what can be called in a table, metamethods apart.
local function add(list, prefix, t)
  for name, value in pairs(t) do
    if type(name) == "string" and not name:find "^_" and is_called(value)
      and not inner[prefix .. name] then
      list[#list + 1] = prefix .. name
    end
  end
end

-- The methods of an object: those of its metatable and of the classes behind it.
local function add_methods(list, prefix, object)
  local class = getmetatable(object).__index
  while class do
    add(list, prefix, class)
    class = (getmetatable(class) or {}).__index
  end
end

-- Files of lua/cnn whose value is called, such as cnn.gradcheck; ops are methods of tensors.
local function add_called_files(list)
  local names = io.popen "ls lua/cnn/*.lua"
  for file in names:lines() do
    local text, name = program.read(file), "cnn." .. file:match "([%w_]+)%.lua$"
    local called = text:find "\nreturn function%s*%(" or text:find "\nreturn setmetatable%b() *\n*$"
    if called and not inner[name] then list[#list + 1] = name end
  end
  names:close()
end

local function live_names()
  local list = {}
  for name, value in pairs(cnn) do
    local is_op = bind.ops[name] ~= nil
    if type(value) == "function" and not is_op then add(list, "cnn.", { [name] = value }) end
  end
  add_called_files(list)
  for prefix, t in pairs {
    ["nn."] = nn, ["nn.init."] = nn.init, ["cnn.cuda."] = cnn.cuda, ["cnn.optim."] = cnn.optim,
    ["cnn.optim.schedule."] = cnn.optim.schedule, ["cnn.data."] = cnn.data,
    ["cnn.image."] = cnn.image, ["cnn.augment."] = cnn.augment, ["x:"] = tensor.methods,
    ["x."] = tensor.fields,
  } do
    add(list, prefix, t)
  end
  add(list, "net:", nn.Module)
  add(list, "net:", nn.Sequential)
  add_methods(list, "opt:", opt)
  add_methods(list, "split:", data.train)
  add_methods(list, "picture:", picture)
  table.sort(list)
  return list
end

-- ---------------------------------------------------------------------------------- where they are

local receivers = { x = x, net = net, opt = opt, split = data.train, picture = picture }

-- Whether there is such a thing: a path from cnn or nn, or what a receiver has.
local function exists(name)
  if name == "recipe" or name:find "%[i%]$" then return true end
  local root, rest = name:match "^(%w+)([.:].*)$"
  if not root then return false end
  local value = receivers[root] or ({ cnn = cnn, nn = nn })[root]
  for key in rest:gmatch "[.:]([%w_]+)" do
    if value == nil then return false end
    if cnn.is_tensor(value) then return (tensor.methods[key] or tensor.fields[key]) ~= nil end
    value = value[key]
  end
  return value ~= nil
end

local function listed(list) return table.concat(list, "\n") end

local function each_entry(check)
  local wrong = {}
  for _, entry in ipairs(docs.entries()) do
    local why = check(entry)
    if why then wrong[#wrong + 1] = ("%s (%s): %s"):format(entry.name, entry.file, why) end
  end
  assert.equal("", listed(wrong))
end

describe("a docstring", function()
  it("is there for every name that users type", function()
    local missing, names = {}, live_names()
    assert.is_true(#names > 150)
    for _, name in ipairs(names) do
      if not docs.entry(name) then missing[#missing + 1] = name end
    end
    assert.equal("", listed(missing))
  end)

  it("is about something that there is, once", function()
    local seen = {}
    each_entry(function(entry)
      if seen[entry.name] then return "twice, also in " .. seen[entry.name] end
      seen[entry.name] = entry.file
      if not exists(entry.name) then return "there is no such thing" end
    end)
  end)

  it("has a signature, a text and an example", function()
    each_entry(function(entry)
      if entry.signature:sub(1, #entry.name) ~= entry.name and entry.file ~= "core/cnn.h" then
        return "the signature is of another name"
      end
      if not entry.text:find "%w" then return "no text" end
      if not (entry.fields.Example or ""):find "%w" then return "no example" end
    end)
  end)

  it("says shapes and errors of ops and layers, errors of what takes arguments", function()
    each_entry(function(entry)
      local layer = nn[entry.name:match "^nn%.(%u%w+)$" or ""]
      local is_op = entry.file == "core/cnn.h"
      local is_layer = type(layer) == "table" and layer ~= nn.Module
      if (is_op or is_layer) and not entry.fields.Shapes then return "no shapes" end
      local takes = is_op or entry.signature:find "%([%w]"
      if takes and not entry.fields.Errors and not never_fails[entry.name] then
        return "no errors"
      end
    end)
  end)

  it("explains every option", function()
    each_entry(function(entry)
      if entry.options[1] and not entry.fields.Options then return "no options" end
      for _, option in ipairs(entry.options) do
        if entry.fields.Options == "" and not option.text then
          return "nothing about " .. option.name
        end
      end
    end)
  end)

  it("points at names that there are", function()
    local commands = {}
    for _, command in ipairs(arguments.list()) do commands[command.name] = true end
    each_entry(function(entry)
      for name in ((entry.fields.See or "") .. ","):gmatch "%s*(.-)," do
        local known = commands[name:match "^cnnlua (%S+)" or ""] or docs.entry(name)
        if name ~= "" and not known then
          return "See: there is no " .. name
        end
      end
    end)
  end)
end)

-- ----------------------------------------------------------------------------------------- options

-- What comes before the options in a call, for every entry that has some.
local before_options = {
  ["cnn.zeros"] = "2", ["cnn.ones"] = "2", ["cnn.full"] = "{ 2 }, 1", ["cnn.rand"] = "2",
  ["cnn.randn"] = "2", ["cnn.arange"] = "3", ["cnn.tensor"] = "{ 1 }, { 1 }",
  ["cnn.data.from"] = "parts", ["cnn.data.fashion_mnist"] = "",
  ["cnn.data.fashion_mnist_test"] = "",
  ["cnn.gradcheck"] = "net, { x }", ["cnn.image.read"] = "'a.png'", ["cnn.image.grid"] = "x",
  ["cnn.image.batch"] = "x, { 1, 2, 3, 4 }", ["cnn.plot"] = "{ 'a' }", ["cnn.train"] = "recipe",
  ["cnn.reload"] = "net, 'a.lua'", ["cnn.watch"] = "net, 'a.lua'",
  ["cnn.optim.SGD"] = "net:parameters()", ["cnn.optim.Adam"] = "net:parameters()",
  ["cnn.optim.AdamW"] = "net:parameters()", ["nn.op"] = "", ["nn.Parameter"] = "x",
  ["nn.Linear"] = "1, 1", ["nn.Conv2d"] = "1, 1, 1", ["nn.BatchNorm1d"] = "1",
  ["nn.BatchNorm2d"] = "1", ["nn.LayerNorm"] = "1", ["nn.GroupNorm"] = "1, 1",
  ["nn.MaxPool2d"] = "kernel", ["nn.AvgPool2d"] = "kernel", ["nn.LeakyReLU"] = "",
  ["nn.Softmax"] = "", ["nn.LogSoftmax"] = "", ["nn.Dropout"] = "", ["nn.Flatten"] = "",
  ["net:shapes"] = "{ 1, 1, 16, 16 }", ["net:load"] = "'a'", ["net:find"] = "'1'",
  ["net:maps"] = "x, '1'", ["net:filters"] = "'1'", ["net:probe"] = "x", ["net:profile"] = "x",
  ["net:gradcam"] = "x", ["net:occlusion"] = "x", ["net:histogram"] = "x",
  ["net:top_pictures"] = "split, '1'", ["net:confusion"] = "split", ["net:mistakes"] = "split",
  ["split:batches"] = "", ["picture:show"] = "",
}

local scope = setmetatable({
  cnn = cnn, nn = nn, x = x, net = net, split = data.train, picture = picture, kernel = 2,
  parts = { train = part, test = part, classes = 10 },
}, { __index = _G })

local function evaluate(code)
  local chunk = assert(loadstring("return " .. code, "=docs"))
  return setfenv(chunk, scope)()
end

-- The call of an entry with a table of options, as text.
local function call_of(entry, options)
  local first = before_options[entry.name]
  if not first then error("before_options has nothing for " .. entry.name, 0) end
  return ("%s(%s%s%s)"):format(entry.name, first, first == "" and "" or ", ", options)
end

local function defaults_of(entry)
  local parts = {}
  for _, option in ipairs(entry.options) do
    if option.default then parts[#parts + 1] = option.name .. " = " .. option.default end
  end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

local function each_with_options(check)
  each_entry(function(entry)
    if entry.options[1] and entry.name ~= "recipe" then return check(entry) end
  end)
end

local function sorted(list)
  table.sort(list)
  return table.concat(list, ", ")
end

describe("the options of a docstring", function()
  it("are those that the function takes", function()
    each_with_options(function(entry)
      local names = {}
      for i, option in ipairs(entry.options) do names[i] = option.name end
      local message = errors.message(function() evaluate(call_of(entry, "{ nosuch = 1 }")) end)
      local known = message:match "%(known: ([^;)]*)"
      if not known then return "an unknown option gives: " .. message end
      local taken = {}
      for name in known:gmatch "[%w_]+" do taken[#taken + 1] = name end
      if sorted(taken) ~= sorted(names) then
        return ("says %s; takes %s"):format(sorted(names), sorted(taken))
      end
    end)
  end)

  it("have the defaults of the layers, which print none", function()
    local checked = 0
    each_with_options(function(entry)
      if not entry.name:find "^nn%.%u" or entry.name == "nn.Parameter" then return end
      checked = checked + 1
      local given = evaluate(call_of(entry, defaults_of(entry))):describe()
      local open = evaluate(call_of(entry, "nil")):describe()
      if given ~= open then return ("%s with what it says, %s by itself"):format(given, open) end
    end)
    assert.is_true(checked > 10)
  end)

  it("have the defaults of the optimizers and of data", function()
    for _, name in ipairs { "SGD", "Adam", "AdamW" } do
      local entry = docs.entry("cnn.optim." .. name)
      local made = cnn.optim[name](net:parameters(), { lr = name == "SGD" and 1 or nil })
      for _, option in ipairs(entry.options) do
        if option.default then
          assert.same(evaluate(option.default), made[option.name], name .. " " .. option.name)
        end
      end
    end
    local from = docs.entry "cnn.data.from"
    assert.equal(evaluate(from.options[1].default), data.train.batch)
    local checked = require "cnn.recipe".check { net = net, input = { 1, 16, 16 } }
    for name, value in pairs(evaluate(docs.entry "recipe".options[5].default)) do
      assert.equal(value, checked.train[name], name)
    end
  end)
end)

-- ---------------------------------------------------------------------------------------- examples

-- What stands behind the arrows of an example, squeezed; nil where there is none.
local function promised(example)
  local parts = {}
  for line in (example .. "\n"):gmatch "(.-)\n" do
    local text = line:match "%-%->%s*(.*)$"
    if text then parts[#parts + 1] = (text:gsub("%s+", " "):gsub(" $", "")) end
  end
  return #parts > 0 and table.concat(parts, " ") or nil
end

describe("the example of a docstring", function()
  teardown(program.sweep)

  it("runs at the prompt and prints what it says", function()
    local texts, counted = {}, 0
    for i, entry in ipairs(docs.entries()) do texts[i] = { entry.name, entry.fields.Example } end
    local outputs, complaints = typed.run(texts)
    each_entry(function(entry)
      local output, wanted = outputs[entry.name], promised(entry.fields.Example)
      if not output then return "it was not reached" end
      if complaints[entry.name] ~= "" then return "complains: " .. complaints[entry.name] end
      if not wanted then return end
      counted = counted + 1
      if output ~= wanted then return ("prints '%s', not '%s'"):format(output, wanted) end
    end)
    assert.is_true(counted > 150)
  end)
end)
