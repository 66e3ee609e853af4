-- values.lua - what a value has, found without running any code of its user's.
--
--   values.index(value, key)            value[key], or nil where that would call a function
--   values.fields(value, visit)         visit(name) for what may stand behind value.
--   values.methods(value, visit)        visit(name) for what may stand behind value:
--   values.all(value, visit)            both
--   values.numbers(value)               the n of value[n], in order; none where there are very many
--   values.result(fn)                   what fn(...) gives, where that is known without a call
--   values.is_tensor(value), values.is_module(value)
--
-- Tables are asked raw, and the tables that are their __index; tensors and modules, whose __index
-- is a function of the library's, are known here.
--
-- Surprising: for what nobody has made yet there are stand-ins: one for tensors such as net(x) and
-- x[1], and one for what nn.Linear(3, 4) would make. They have methods, which is what is wanted.

local cnn = require "cnn"
local handle = require "cnn.handle"
local members = require "cnn.members"
local tensor = require "cnn.tensor"

local values = {}

local SOME_TENSOR = {} -- the stand-in
local DEEPEST = 30       -- tables that are one another's __index
local MOST_KEYS = 100000 -- of a table that are looked at
local MOST_NUMBERS = 100

local classes = setmetatable({}, { __mode = "k" }) -- stand-in of a module -> its class

function values.is_tensor(value) return value == SOME_TENSOR or handle.is_tensor(value) end

function values.is_module(value) return classes[value] ~= nil or members.is_module(value) end

local is_tensor = values.is_tensor

-- The table that is asked next, or nil.
local function inherited(value)
  local meta = debug.getmetatable(value)
  local index = type(meta) == "table" and rawget(meta, "__index")
  if members.is_module(value) then return meta end
  return type(index) == "table" and index or nil
end

-- For the value, if it is a table, and each table behind it, in the order in which Lua asks.
local function chain(value)
  local at, depth = value, 0
  return function()
    if depth > 0 or type(at) ~= "table" then at = inherited(at) end
    depth = depth + 1
    return depth <= DEEPEST and at or nil
  end
end

-- ------------------------------------------------------------------------------------------ index

local texts = { dtype = true, device = true }

local function index_tensor(key)
  if type(key) == "number" or key == "grad" then return SOME_TENSOR end
  if texts[key] then return "" end
  return tensor.methods[key]
end

-- A buffer, or a layer that was given a name.
local function index_module(value, key)
  local state = members.state(value)
  local buffer = state.buffers[key]
  if buffer ~= nil then return buffer end
  local slot = state.slots[key]
  return slot and rawget(value, slot)
end

function values.index(value, key)
  if key == nil then return nil end
  if is_tensor(value) then return index_tensor(key) end
  if classes[value] then return values.index(classes[value], key) end
  for t in chain(value) do
    local found = rawget(t, key)
    if found ~= nil then return found end
  end
  if members.is_module(value) then return index_module(value, key) end
  if value == cnn then return cnn[key] end -- loads one of its files at most
end

-- ------------------------------------------------------------------------------------------ names

-- The library's names, those of files that are not loaded yet among them.
local function library_names(visit)
  for _, name in ipairs(require "cnn.help".names()) do
    local field = name:match "^cnn%.([%a_][%w_]*)"
    if field then visit(field) end
  end
end

local function visit_keys(t, visit, wanted)
  local left = MOST_KEYS
  for key, value in next, t do
    if type(key) == "string" and (not wanted or wanted(key, value)) then visit(key) end
    left = left - 1
    if left == 0 then return end
  end
end

local function is_function(_, value) return type(value) == "function" end

-- Methods come behind a colon; `library` is for the library alone.
local function is_field(key, value)
  return type(value) ~= "function" and key ~= "library" and key:sub(1, 2) ~= "__"
end

-- What it holds comes first by name: numbers name nothing here, and tables are fields.
local function module_fields(value, visit)
  members.each(value, function(name)
    if not name:find "[^%w_]" then visit(name) end
  end)
  for t in chain(value) do visit_keys(t, visit, is_field) end
end

function values.fields(value, visit)
  if is_tensor(value) then return visit_keys(tensor.fields, visit) end
  if type(value) == "string" then return end
  if members.is_module(value) then return module_fields(value, visit) end
  for t in chain(value) do visit_keys(t, visit) end
  if value == cnn then library_names(visit) end
end

function values.methods(value, visit)
  if is_tensor(value) then return visit_keys(tensor.methods, visit) end
  if classes[value] then value = classes[value] end
  for t in chain(value) do visit_keys(t, visit, is_function) end
end

-- Of a plain table the fields are all that there is.
function values.all(value, visit)
  values.fields(value, visit)
  if type(value) ~= "table" or members.is_module(value) or is_tensor(value) then
    values.methods(value, visit)
  end
end

-- Of a module those of its children that have no name.
function values.numbers(value)
  local list = {}
  if members.is_module(value) then
    members.each(value, function(name) list[#list + 1] = tonumber(name) end)
  elseif type(value) == "table" and #value <= MOST_NUMBERS then
    for i = 1, #value do list[i] = i end
  end
  return list
end

-- ----------------------------------------------------------------------------------------- results

local makers -- function -> true for those that give a tensor

local function makes_tensor(fn)
  if not makers then
    makers = {}
    for _, op in pairs(require "cnn.bind".ops) do makers[op] = true end
    for _, make in pairs(require "cnn.create") do makers[make] = true end
    for _, name in ipairs { "t", "flatten", "cpu", "pad" } do
      makers[tensor.methods[name]] = true
    end
    for _, name in ipairs { "cat", "stack" } do makers[cnn[name]] = true end
  end
  return makers[fn]
end

function values.result(fn)
  if members.is_module(fn) or classes[fn] or makes_tensor(fn) then return SOME_TENSOR end
  if not members.is_class(fn) then return nil end
  local made = {}
  classes[made] = fn
  return made
end

return values
