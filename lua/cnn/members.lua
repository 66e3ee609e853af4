-- members.lua - what a module holds: its parameters, buffers and children, found by assignment.
--
--   members.each(node, visit)   what it holds itself, in order      members.walk: the whole tree's
--
-- A field is registered, in the order of assignment, when it is given a tensor made by
-- nn.Parameter, a module, or a plain table. Tables are searched to any depth, numbers first, then
-- words in their order; what is in them is called "blocks.1" or "blocks.first". Other keys name
-- nothing.
-- visit(name, value, kind, holder, key): kind is "parameter", "buffer" or "module", and holder[key]
-- is where the value sits.
--
-- Surprising: fields are plain, so only the first assignment to one is seen. What came past it, as
-- table.insert does and `self.a = false` before `self.a = layer`, is found when somebody looks.

local engine = require "cnn.ffi"
local argument = require "cnn.argument"
local err = require "cnn.error"
local handle = require "cnn.handle"

local C, is_tensor = engine.C, handle.is_tensor

local members = {}
local STATE = {} -- the key of an instance's own record

local classes = setmetatable({}, { __mode = "k" })
local parameters = setmetatable({}, { __mode = "k" }) -- tensors made by nn.Parameter
local parents = setmetatable({}, { __mode = "kv" })   -- child -> the module it was last given to

--- nn.is_module(value)
-- Whether a value is a module: a layer or a net.
-- Example: nn.is_module(net), nn.is_module(nn.ReLU) --> true false
-- See: net:is
function members.is_module(value)
  return type(value) == "table" and classes[getmetatable(value)] ~= nil
end

function members.is_class(value) return classes[value] ~= nil end

function members.add_class(class) classes[class] = true end

local is_module = members.is_module

local function is_parameter(value) return type(value) == "cdata" and parameters[value] ~= nil end

local function is_plain_table(value)
  return type(value) == "table" and getmetatable(value) == nil
end

local function can_hold(value)
  return is_module(value) or is_parameter(value) or is_plain_table(value)
end

--- nn.Parameter(x, { requires_grad = true })
-- Marks a tensor as one to be trained. Assigned to a field of a module, it is among its parameters.
-- Options: requires_grad: false freezes it
-- Errors: what is no tensor
-- Example: nn.Parameter(cnn.ones(3)).requires_grad --> true
-- See: nn.module, net:buffer
function members.Parameter(x, options)
  if not is_tensor(x) then
    err.raise("nn.Parameter(x): expected a tensor, got " .. err.got(x))
  end
  options = argument.options("nn.Parameter", options, { "requires_grad" })
  local trained = argument.boolean("nn.Parameter", "requires_grad", options.requires_grad, true)
  if x.requires_grad and not parameters[x] then x = x:detach() end
  x.requires_grad = trained
  handle.keep(x)
  parameters[x] = true
  return x
end

-- ----------------------------------------------------------------------------- registration

-- A new instance of a class, with nothing in it.
function members.new(class)
  return setmetatable({ [STATE] = {
    order = {}, known = {}, -- keys of fields, as they came
    buffers = {},           -- name -> tensor
    names = {},             -- key -> the name it is saved under, where that is not the key
    slots = {},             -- such a name -> its key
    place = err.place(),    -- where it was made: file:line
  } }, class)
end

function members.state(self) return rawget(self, STATE) end

function members.parent(self) return parents[self] end

-- `child` is no longer in `self`.
function members.release(self, child)
  if parents[child] == self then parents[child] = nil end
end

local function register(state, key)
  if not state.known[key] then
    state.known[key] = true
    state.order[#state.order + 1] = key
  end
end

local function assign_buffer(self, name, value)
  local buffer = self[STATE].buffers[name]
  if not is_tensor(value) then
    err.raise(("%s: buffer '%s': expected a tensor, got %s")
      :format(self.kind, name, err.got(value)))
  end
  if value:shape() ~= buffer:shape() then
    err.raise(("%s: buffer '%s': expected %s, got %s")
      :format(self.kind, name, tostring(buffer:shape()), tostring(value:shape())))
  end
  if value.device == "meta" and buffer.device ~= "meta" then return end
  local was = C.cnn_set_grad_enabled(0)
  local failed = C.cnn_copy(buffer, value)
  C.cnn_set_grad_enabled(was)
  if failed ~= 0 then handle.fail() end
end

-- self[key] = value where the key is new, or a buffer's, or a name.
function members.assign(self, key, value)
  local state = self[STATE]
  if state.buffers[key] then return assign_buffer(self, key, value) end
  if state.slots[key] then
    self[state.slots[key]] = value
    return
  end
  if can_hold(value) then
    if is_module(value) then parents[value] = self end
    register(state, key)
  end
  rawset(self, key, value)
end

-- Makes `x` part of the module's state: saved and moved, not trained.
function members.add_buffer(self, name, x)
  local state = self[STATE]
  if type(name) ~= "string" or not is_tensor(x) then
    err.raise(("%s:buffer(name, tensor): expected a string and a tensor, got %s and %s")
      :format(self.kind, err.got(name), err.got(x)))
  end
  if rawget(self, name) ~= nil then
    err.raise(("%s: buffer '%s': a field has this name already"):format(self.kind, name))
  end
  if x.requires_grad then x = x:detach() end
  handle.keep(x)
  register(state, name)
  state.buffers[name] = x
  return x
end

-- ---------------------------------------------------------------------------------- looking

local function by_key(a, b)
  if type(a) == type(b) then return a < b end
  return type(a) == "number"
end

-- The keys of `t` that are numbers or words, not in `known`, and whose values can hold something.
local function keys_of(t, known)
  local keys = {}
  for key, value in next, t do
    local kind = type(key)
    if (kind == "number" or kind == "string") and not known[key] and can_hold(value) then
      keys[#keys + 1] = key
    end
  end
  table.sort(keys, by_key)
  return keys
end

-- Whether a module or a parameter is in a plain table or the tables in it. Most tables are data:
-- one look at each value has to do, however many there are and however deep they nest.
local function holds_any(t)
  local tables, seen, at = { t }, { [t] = true }, 1
  while tables[at] do
    for _, value in next, tables[at] do
      local kind = type(value)
      if kind == "table" then
        if is_module(value) then return true end
        if is_plain_table(value) and not seen[value] then
          seen[value] = true
          tables[#tables + 1] = value
        end
      elseif kind == "cdata" and is_parameter(value) then
        return true
      end
    end
    at = at + 1
  end
  return false
end

local NONE = {}

function members.each(self, visit)
  local state, searched = self[STATE], {}
  for _, key in ipairs(keys_of(self, state.known)) do register(state, key) end

  local function look(name, value, holder, key)
    if is_module(value) then
      parents[value] = parents[value] or self
      visit(name, value, "module", holder, key)
    elseif is_parameter(value) then
      visit(name, value, "parameter", holder, key)
    elseif is_plain_table(value) and not searched[value] then
      searched[value] = true
      for _, inner in ipairs(keys_of(value, NONE)) do
        look(name .. "." .. inner, value[inner], value, inner)
      end
    end
  end

  for _, key in ipairs(state.order) do
    local name, value = state.names[key] or tostring(key), rawget(self, key)
    if state.buffers[key] then
      visit(name, state.buffers[key], "buffer", state.buffers, key)
    elseif not is_plain_table(value) or holds_any(value) then
      look(name, value, self, key)
    end
  end
end

-- The same for the whole tree, with dotted names; modules come before what is in them. What is
-- shared comes once, or, with `every_place`, a tensor at each place that holds it.
function members.walk(self, visit, every_place)
  local seen = { [self] = true }
  local function go(node, prefix)
    members.each(node, function(name, value, kind, holder, key)
      local again = seen[value]
      if again and (kind == "module" or not every_place) then return end
      seen[value] = true
      visit(prefix .. name, value, kind, holder, key)
      if kind == "module" then go(value, prefix .. name .. ".") end
    end)
  end
  go(self, "")
end

-- `self` is from now on what `other` is: of its class, with its fields, the parent of its children.
-- Done twice it does no harm.
function members.become(self, other)
  local function release(node)
    return function(_, value, kind)
      if kind == "module" then members.release(node, value) end
    end
  end
  members.each(self, release(self))
  members.each(other, release(other))
  for key in next, self do rawset(self, key, nil) end
  for key, value in next, other do rawset(self, key, value) end
  setmetatable(self, getmetatable(other))
  members.each(self, function() end)
end

-- Where the tensors below `self` are, or nil where there are none.
function members.device(self)
  local device
  members.walk(self, function(_, value, kind)
    if kind ~= "module" then device = device or value.device end
  end)
  return device
end

-- The numbers in the parameters below `self`, frozen ones too; what is shared counts once.
function members.count(self)
  local count = 0
  members.walk(self, function(_, value, kind)
    if kind == "parameter" then count = count + value:numel() end
  end)
  return count
end

return members
