-- module.lua - nn.module "Name" makes a class; its instances find their tensors and children.
--
--   local Scale = nn.module "Scale"
--   function Scale:init(c) self.gamma = nn.Parameter(cnn.ones(1, c, 1, 1)) end
--   function Scale:forward(x) return x * self.gamma end
--
-- What is assigned is registered in order: parameters, child modules, and tables that list either.
-- A buffer (self:buffer(name, tensor)) is state: assigning to its name copies into it in place.
-- A class may have :extra(), the text between the parentheses when it is printed.
--
-- Surprising: fields are plain, so self.conv1 costs a table access; registration happens on the
-- first assignment. Buffers alone live elsewhere, because their assignment must be seen each time.

local engine = require "cnn.ffi"
local argument = require "cnn.argument"
local autograd = require "cnn.autograd"
local calls = require "cnn.calls"
local err = require "cnn.error"
local handle = require "cnn.handle"
local text = require "cnn.text"

local C, is_tensor = engine.C, handle.is_tensor

local module = {}
local STATE = {} -- the key of an instance's own record: order, known, buffers, names, ...

local classes = setmetatable({}, { __mode = "k" })
local parameters = setmetatable({}, { __mode = "k" }) -- tensors made by nn.Parameter
local parents = setmetatable({}, { __mode = "kv" })   -- child -> the module it was last given to

function module.is_module(value)
  return type(value) == "table" and classes[getmetatable(value)] ~= nil
end

function module.is_class(value) return classes[value] ~= nil end

local is_module = module.is_module

-- Marks a tensor as one to be trained. Assigned to a module's field, it is registered.
function module.Parameter(x)
  if not is_tensor(x) then
    err.raise("nn.Parameter(x): expected a tensor, got " .. err.got(x))
  end
  if x.requires_grad and not parameters[x] then x = x:detach() end
  x.requires_grad = true
  if C.cnn_keep(x) ~= 0 then handle.fail() end
  parameters[x] = true
  return x
end

-- ----------------------------------------------------------------------------- registration

local function register(state, key)
  if not state.known[key] then
    state.known[key] = true
    state.order[#state.order + 1] = key
  end
end

local function is_plain_table(value)
  return type(value) == "table" and getmetatable(value) == nil
end

local function can_hold(value)
  return is_module(value) or parameters[value] or is_plain_table(value)
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

local function assign(self, key, value)
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

-- Keys that got a module or parameter without passing by assign: a field that held something else
-- before, or table.insert(net, layer).
local function register_late(self, state)
  local late = {}
  for key, value in next, self do
    if key ~= STATE and not state.known[key] and (is_module(value) or parameters[value]) then
      late[#late + 1] = key
    end
  end
  table.sort(late, function(a, b)
    if type(a) == type(b) then return a < b end
    return type(a) == "number"
  end)
  for _, key in ipairs(late) do register(state, key) end
end

local function visit_value(name, value, holder, key, visit)
  if is_module(value) then
    visit(name, value, "module", holder, key)
  elseif parameters[value] then
    visit(name, value, "parameter", holder, key)
  end
end

-- visit(name, value, kind, holder, key) for each own parameter, buffer and child, in order; kind is
-- "parameter", "buffer" or "module", and holder[key] is where it sits.
function module.each(self, visit)
  local state = self[STATE]
  register_late(self, state)
  for _, key in ipairs(state.order) do
    local name = state.names[key] or tostring(key)
    local value = rawget(self, key)
    if state.buffers[key] then
      visit(name, state.buffers[key], "buffer", state.buffers, key)
    elseif is_plain_table(value) then
      for i = 1, #value do visit_value(name .. "." .. i, value[i], value, i, visit) end
    elseif value ~= nil then
      visit_value(name, value, self, key, visit)
    end
  end
end

-- The same for the whole tree, with dotted names; what is shared comes once.
-- visit(name, value, kind, holder, key); modules come before what is in them.
function module.walk(self, visit)
  local seen = { [self] = true }
  local function go(node, prefix)
    module.each(node, function(name, value, kind, holder, key)
      if seen[value] then return end
      seen[value] = true
      visit(prefix .. name, value, kind, holder, key)
      if kind == "module" then go(value, prefix .. name .. ".") end
    end)
  end
  go(self, "")
end

-- ---------------------------------------------------------------------------- the base class

local Module = { kind = "Module", training = true }
module.base = Module

function Module:init() end -- luacheck: ignore 212

function Module:forward()
  err.raise(("no forward: define function %s:forward(x)"):format(self.kind))
end

function Module:extra() return self[STATE].arguments or "" end

-- As it was constructed: Linear(6400, 4096).
function Module:describe() return self.kind .. "(" .. self:extra() .. ")" end

function Module:is(class) return getmetatable(self) == class end

-- Makes `tensor` part of the module's state: saved and moved, not trained.
function Module:buffer(name, x)
  local state = self[STATE]
  if type(name) ~= "string" or not is_tensor(x) then
    err.raise(("%s:buffer(name, tensor): expected a string and a tensor, got %s and %s")
      :format(self.kind, err.got(name), err.got(x)))
  end
  if rawget(self, name) ~= nil then
    err.raise(("%s: buffer '%s': a field has this name already"):format(self.kind, name))
  end
  if x.requires_grad then x = x:detach() end
  if C.cnn_keep(x) ~= 0 then handle.fail() end
  register(state, name)
  state.buffers[name] = x
  return x
end

local function refuse_unbuilt(name, node)
  if rawget(node, "unbuilt") then
    err.raise(("%s %s has no parameters yet: its input size is found at the first input " ..
      "(net:shapes{...} is enough)"):format(text.path("net", name), node:describe()))
  end
end

local function collect(self, wanted)
  local list = {}
  refuse_unbuilt("", self)
  module.walk(self, function(name, value, kind)
    if kind == "module" then refuse_unbuilt(name, value) end
    if kind == wanted then list[#list + 1] = { name, value } end
  end)
  return list
end

local function pairs_of(list)
  local i = 0
  return function()
    i = i + 1
    if list[i] then return list[i][1], list[i][2] end
  end
end

function Module:named_parameters() return pairs_of(collect(self, "parameter")) end

function Module:named_buffers() return pairs_of(collect(self, "buffer")) end

-- Itself under "", then every module in it.
function Module:named_modules()
  local list = { { "", self } }
  module.walk(self, function(name, value, kind)
    if kind == "module" then list[#list + 1] = { name, value } end
  end)
  return pairs_of(list)
end

function Module:parameters()
  local list = collect(self, "parameter")
  for i, pair in ipairs(list) do list[i] = pair[2] end
  return list
end

-- for i, child in net:iter() do ... end
function Module:iter()
  local list = {}
  module.each(self, function(_, value, kind)
    if kind == "module" then list[#list + 1] = { #list + 1, value } end
  end)
  return pairs_of(list)
end

local function apply(self, fn, seen)
  seen[self] = true
  for _, child in self:iter() do
    if not seen[child] then apply(child, fn, seen) end
  end
  fn(self)
end

-- fn(module) for every module inside it, then for itself; what is shared comes once.
function Module:apply(fn)
  if type(fn) ~= "function" then
    err.raise("net:apply(fn): fn: expected a function, got " .. err.got(fn))
  end
  apply(self, fn, {})
  return self
end

function Module:train(mode)
  mode = argument.boolean("net:train(mode)", "mode", mode, true)
  for _, node in self:named_modules() do rawset(node, "training", mode) end
  return self
end

function Module:eval() return self:train(false) end

-- Moves parameters and buffers to a device. Make the optimizer afterwards: they are new tensors.
function Module:to(where)
  if type(where) ~= "string" then
    err.raise("net:to(where): expected a string, got " .. err.got(where))
  end
  module.walk(self, function(_, value, kind, holder, key)
    if kind == "module" then return end
    local moved = autograd.no_grad(value.to, value, where)
    if moved ~= value then
      if kind == "parameter" then
        local trained = value.requires_grad
        moved = module.Parameter(moved)
        moved.requires_grad = trained
      end
      rawset(holder, key, moved)
    end
  end)
  return self
end

function Module:zero_grad()
  for _, p in ipairs(self:parameters()) do p.grad = nil end
  return self
end

function Module:shapes(...) return require("cnn.shapes").show(self, ...) end

function Module:save(...) return require("cnn.checkpoint").save(self, ...) end

function Module:load(...) return require("cnn.checkpoint").load(self, ...) end

-- What is trained below `self`, counted once.
function module.count(self)
  local count = 0
  module.walk(self, function(_, value, kind)
    if kind == "parameter" then count = count + value:numel() end
  end)
  return count
end

-- `open` are the modules on the way to this one: one that holds itself is not entered again.
local function add_lines(self, name, depth, lines, open)
  local children = {}
  module.each(self, function(child_name, value, kind)
    if kind == "module" then children[#children + 1] = { child_name, value } end
  end)
  local count = module.count(self)
  local line = ("  "):rep(depth) .. (name and name .. ": " or "") .. self:describe()
  lines[#lines + 1] = count > 0 and line .. "  " .. text.commas(count) or line
  if open[self] then return end
  open[self] = true
  for _, child in ipairs(children) do add_lines(child[2], child[1], depth + 1, lines, open) end
  open[self] = nil
end

local function to_text(self)
  local lines = {}
  add_lines(self, nil, 0, lines, {})
  return table.concat(lines, "\n")
end

-- ----------------------------------------------------------------------------------- classes

local function construct(class, ...)
  local state = {
    order = {}, known = {}, -- keys of fields, as they came
    buffers = {},           -- name -> tensor
    names = {},             -- key -> the name it is saved under, where that is not the key
    slots = {},             -- such a name -> its key
    place = err.place(),    -- where it was made: file:line
  }
  local self = setmetatable({ [STATE] = state }, class)
  class.init(self, ...)
  if not rawget(class, "library") then state.arguments = text.arguments(...) end
  return self
end

function module.state(self) return self[STATE] end

function module.parent(self) return parents[self] end

function module.adopt(self, child) parents[child] = self end

-- A class whose instances are modules; `base` (nn.Module) is what it inherits from.
function module.class(name, base)
  if type(name) ~= "string" then
    err.raise("nn.module(name): expected a string, got " .. err.got(name))
  end
  base = base or Module
  local class = { kind = name, __call = calls.call, __tostring = to_text, __newindex = assign }
  function class.__index(self, key)
    local value = class[key]
    if value ~= nil then return value end
    local state = rawget(self, STATE)
    local buffer = state.buffers[key]
    if buffer ~= nil then return buffer end
    local slot = state.slots[key]
    return slot and rawget(self, slot)
  end
  classes[class] = true
  return setmetatable(class, {
    __index = base, __call = construct,
    __tostring = function() return "nn.module " .. name end,
  })
end

-- A class of the library's own: it is put into `list`, and its constructors describe themselves.
function module.layer(list, name)
  local class = module.class(name)
  class.library = true
  list[name] = class
  return class
end

return module
