-- module.lua - nn.module "Name" makes a class; its instances find their tensors and children.
--
--   local Scale = nn.module "Scale"
--   function Scale:init(c) self.gamma = nn.Parameter(cnn.ones(1, c, 1, 1)) end
--   function Scale:forward(x) return x * self.gamma end
--
-- Here are classes and the methods that every module has; members.lua finds what a module holds.
-- A buffer (self:buffer(name, tensor)) is state: assigning to its name copies into it in place.
-- A class may have :extra(), the text between the parentheses when it is printed.
--
-- Surprising: fields are plain, so self.conv1 costs a table access. Buffers alone live elsewhere,
-- because their assignment must be seen each time.

local argument = require "cnn.argument"
local autograd = require "cnn.autograd"
local calls = require "cnn.calls"
local err = require "cnn.error"
local members = require "cnn.members"
local text = require "cnn.text"

local is_class, state_of = members.is_class, members.state

local module = { is_module = members.is_module, is_class = is_class, count = members.count }

-- ---------------------------------------------------------------------------- the base class

local Module = { kind = "Module", training = true, __newindex = members.assign }
module.base = Module

function Module:init() end -- luacheck: ignore 212

function Module:forward()
  err.raise(("no forward: define function %s:forward(x)"):format(self.kind))
end

function Module:extra() return state_of(self).arguments or "" end

-- As it was constructed: Linear(6400, 4096).
function Module:describe() return self.kind .. "(" .. self:extra() .. ")" end

function Module:is(class) return getmetatable(self) == class end

-- Makes `x` part of the module's state: saved and moved, not trained.
function Module:buffer(name, x) return members.add_buffer(self, name, x) end

local function refuse_unbuilt(name, node)
  if rawget(node, "unbuilt") then
    err.raise(("%s %s has no parameters yet: its input size is found at the first input " ..
      "(net:shapes{...} is enough)"):format(text.path("net", name), node:describe()))
  end
end

local function collect(self, wanted)
  local list = {}
  refuse_unbuilt("", self)
  members.walk(self, function(name, value, kind)
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
  members.walk(self, function(name, value, kind)
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
  members.each(self, function(_, value, kind)
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

local function moved_to(where, value, kind)
  local moved = autograd.no_grad(value.to, value, where)
  if moved == value then return value end
  if kind == "buffer" then return moved end
  return members.Parameter(moved, { requires_grad = value.requires_grad })
end

-- Moves parameters and buffers to a device. Make the optimizer afterwards: they are new tensors.
-- What is shared stays shared.
function Module:to(where)
  if type(where) ~= "string" then
    err.raise("net:to(where): expected a string, got " .. err.got(where))
  end
  local moved = {} -- by the tensor that was there
  members.walk(self, function(_, value, kind, holder, key)
    if kind == "module" then return end
    moved[value] = moved[value] or moved_to(where, value, kind)
    rawset(holder, key, moved[value])
  end, true)
  return self
end

function Module:zero_grad()
  for _, p in ipairs(self:parameters()) do p.grad = nil end
  return self
end

-- Methods that are loaded at their first call: where each lives, module.function(net, ...).
local elsewhere = {
  shapes = { "shapes", "show" },
  save = { "checkpoint", "save" },
  load = { "checkpoint", "load" },
}

for name, place in pairs(elsewhere) do
  Module[name] = function(self, ...) return require("cnn." .. place[1])[place[2]](self, ...) end
end

-- `open` are the modules on the way to this one: one that holds itself is not entered again.
local function add_lines(self, name, depth, lines, open)
  local children = {}
  members.each(self, function(child_name, value, kind)
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

local function ignore() end

-- At the end its members are looked at once, so that a layer knows its parent however it came in.
local function construct(class, ...)
  local self = members.new(class)
  class.init(self, ...)
  if not rawget(class, "library") then state_of(self).arguments = text.arguments(...) end
  members.each(self, ignore)
  return self
end

-- A class whose instances are modules; `base` (nn.Module) is what it inherits from.
function module.class(name, base)
  if type(name) ~= "string" then
    err.raise("nn.module(name): expected a string, got " .. err.got(name))
  end
  base = base or Module
  if base ~= Module and not is_class(base) then
    err.raise("nn.module(name, base): base: expected a class, got " .. err.got(base))
  end
  local class = {
    kind = name, __call = calls.call, __tostring = to_text, __newindex = base.__newindex,
  }
  function class.__index(self, key)
    local value = class[key]
    if value ~= nil then return value end
    local state = state_of(self)
    local buffer = state.buffers[key]
    if buffer ~= nil then return buffer end
    local slot = state.slots[key]
    return slot and rawget(self, slot)
  end
  members.add_class(class)
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
