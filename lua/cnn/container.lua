-- container.lua - nn.Sequential: layers called one after the other.
--
--   local net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
--   net:add(layer)   net:add("b1", block)   net[2]   net.b1   #net   net[2] = other
--   net:insert(1, layer)   net:insert(1, "stem", layer)   net:remove(1)   net:remove "stem"
--
-- Layers sit at 1, 2, ... without holes. Surprising: a layer with a name of its own still sits at
-- its number; the name is what it is saved, printed and found under. net:insert and net:remove move
-- names with their layers; Lua's table.insert and table.remove know of none.

local argument = require "cnn.argument"
local calls = require "cnn.calls"
local err = require "cnn.error"
local members = require "cnn.members"
local module = require "cnn.module"

local Sequential = module.class "Sequential"
Sequential.library = true

local is_module = members.is_module
local earlier, previous = calls.earlier, calls.previous

local function check_child(who, value)
  if is_module(value) then return value end
  if members.is_class(value) then
    err.raise(("%s: expected a layer, got the class %s: write nn.%s(...)")
      :format(who, value.kind, value.kind))
  end
  err.raise(("%s: expected a layer, got %s"):format(who, err.got(value)))
end

--- net[i]
-- Layer i of an nn.Sequential, from 1; #net is their number, net.name the layer that was added
-- under that name. net[i] = layer replaces one, or appends it where i is #net + 1.
-- Errors: a hole; what is no layer
-- Example: net[1]:describe() --> "Conv2d(1, 8, 3, { padding = 1 })"
-- See: net:add, net:insert, net:remove, net:get
function Sequential:__newindex(key, value)
  if type(key) == "number" then
    local n = #self
    if key ~= n + 1 then
      err.raise(("net[%s] = layer: expected 1 to %d, for the net has %d layers and no holes; " ..
        "net:add(layer) appends"):format(tostring(key), n + 1, n))
    end
    check_child(("net[%d]"):format(key), value)
  end
  members.assign(self, key, value)
end

-- nn.Sequential { a, b }: nothing in the list but layers.
local function check_list(list)
  for key in pairs(list) do
    if type(key) ~= "number" or key < 1 or key % 1 ~= 0 then
      err.raise(("nn.Sequential: expected a list of layers, got the key '%s' " ..
        "(net:add('%s', layer) gives a layer a name)"):format(tostring(key), tostring(key)))
    end
  end
end

--- nn.Sequential(...)
-- Layers called one after the other; given as arguments or as one list. They are numbered from 1;
-- net:add("name", layer) gives one a name.
-- Shapes: as its first layer takes it -> as its last gives it
-- Errors: what is no layer; a class instead of a layer: nn.ReLU for nn.ReLU()
-- Example: nn.Sequential(nn.Flatten(), nn.Linear(256, 10))(x):shape() --> 4x10
-- See: net[i], net:add, net:shapes, nn.module
function Sequential:init(...)
  local list, n = { ... }, select("#", ...)
  if n == 1 and type(list[1]) == "table" and getmetatable(list[1]) == nil then
    list = list[1]
    check_list(list)
    n = table.maxn(list)
  end
  for i = 1, n do self[i] = check_child("nn.Sequential: argument " .. i, list[i]) end
end

local function check_name(self, who, name)
  if type(name) ~= "string" or name:find("[.%s]") or name == "" or tonumber(name) then
    err.raise(("%s: name: expected a word, got %s"):format(who, err.got(name)))
  end
  if members.state(self).slots[name] or self[name] ~= nil then
    err.raise(("%s: the net has a '%s' already"):format(who, name))
  end
end

-- Names of the layers from number `first` on go with their layers to a number `by` higher.
local function shift_names(self, first, by)
  local state = members.state(self)
  local names, slots = {}, {}
  for i, name in pairs(state.names) do
    local now = i >= first and i + by or i
    names[now], slots[name] = name, now
  end
  state.names, state.slots = names, slots
end

local function insert(self, who, i, name, child)
  if child == nil then name, child = nil, name end
  check_child(who, child)
  if name ~= nil then check_name(self, who, name) end
  for at = #self, i, -1 do self[at + 1] = self[at] end
  self[i] = child
  shift_names(self, i, 1)
  if name ~= nil then
    local state = members.state(self)
    state.names[i], state.slots[name] = name, i
  end
  return self
end

--- net:add(name, layer)
-- Appends a layer; the name may be left out. Returns the net.
-- Errors: what is no layer; a name that is no word, or is taken
-- Example: nn.Sequential():add("conv", nn.Conv2d(1, 6, 5)).conv:describe() --> "Conv2d(1, 6, 5)"
-- See: net:insert, net:remove, net[i]
function Sequential:add(name, child) return insert(self, "net:add", #self + 1, name, child) end

local function check_number(who, i, last)
  if argument.whole(who, "i", i, 1) > last then
    err.raise(("%s: i: expected 1 to %d, got %d"):format(who, last, i))
  end
end

--- net:insert(i, name, layer)
-- Puts a layer at place i; the one that was there comes behind it. The name may be left out.
-- Returns the net.
-- Errors: i that is not in 1 .. #net + 1; what is no layer; a name that is taken
-- Example: nn.Sequential(nn.ReLU()):insert(1, nn.Flatten())[1]:describe() --> "Flatten()"
-- See: net:add, net:remove
function Sequential:insert(i, name, child)
  check_number("net:insert(i, layer)", i, #self + 1)
  return insert(self, "net:insert", i, name, child)
end

--- net:remove(i)
-- Takes a layer out, by its number or name, the last one without either, and returns it. Those
-- behind it move up.
-- Errors: a number or name that the net has not
-- Example: nn.Sequential(nn.Flatten(), nn.ReLU()):remove():describe() --> "ReLU()"
-- See: net:add, net:insert
function Sequential:remove(i)
  local n, state = #self, members.state(self)
  if i == nil then i = n end
  i = state.slots[i] or i
  check_number("net:remove(i)", i, n)
  local child, name = self[i], state.names[i]
  if name then state.names[i], state.slots[name] = nil, nil end
  for at = i, n do rawset(self, at, self[at + 1]) end
  shift_names(self, i + 1, -1)
  members.release(self, child)
  return child
end

function Sequential:extra() return "" end -- luacheck: ignore 212

function Sequential:describe() return self.kind end

-- `net[2] = nil` is a plain assignment that nobody sees.
local function refuse_hole(i)
  err.raise(("layer %d is missing: net:remove(%d) takes a layer out and leaves no hole")
    :format(i, i))
end

function Sequential:forward(x)
  local d, n = calls.depth, #self
  for _, key in ipairs(members.state(self).order) do
    if type(key) == "number" and key > n and rawget(self, key) ~= nil then refuse_hole(n + 1) end
  end
  for i = 1, n do
    local layer = self[i]
    if layer == nil then refuse_hole(i) end
    if not is_module(layer) then check_child("layer " .. i, layer) end
    local y = layer(x)
    previous[d], earlier[d] = layer, x
    x = y
  end
  return x
end

return { Sequential = Sequential }
