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

--- net.training
-- Whether the module is in training mode; net:train() and net:eval() set it for all in the net.
-- Example: nn.ReLU().training --> true
-- See: net:train, net:eval
local Module = { kind = "Module", training = true, __newindex = members.assign }
module.base = Module

--- net:init(...)
-- What a class of one's own defines to make its parts: Name(a, b) calls self:init(a, b). Modules,
-- nn.Parameter and lists of them are found by assignment to self, in order, and saved under those
-- names.
-- Example: Twice = nn.module "Twice"
--   function Twice:init(channels) self.conv = nn.Conv2d(channels, channels, 1) end
--   function Twice:forward(x) return self.conv(self.conv(x)) end
--   Twice(3)(cnn.rand(2, 3, 4, 4)):shape() --> 2x3x4x4
-- See: nn.module, net:forward, nn.Parameter, net:buffer
function Module:init() end -- luacheck: ignore 212

--- net:forward(x, ...)
-- What a class of one's own defines: the output for an input. net(x) calls it and adds the layer's
-- path to errors; call net(x), not net:forward(x). Gradients are derived.
-- Errors: a class without it
-- Example: net(x):shape() --> 4x10
-- See: nn.module, net:shapes, net:tap
function Module:forward()
  err.raise(("no forward: define function %s:forward(x)"):format(self.kind))
end

--- net:extra()
-- The text between the parentheses when the module is printed: the constructor's arguments unless a
-- class defines it.
-- Example: nn.Dropout(0.3):extra() --> "0.3"
-- See: net:describe
function Module:extra() return state_of(self).arguments or "" end

--- net:describe()
-- The module as it was constructed, in one line.
-- Example: nn.Linear(6400, 4096):describe() --> "Linear(6400, 4096)"
-- See: net:extra, net:shapes
function Module:describe() return ("%s(%s)"):format(self.kind, tostring(self:extra() or "")) end

--- net:is(class)
-- Whether the module was made by this class.
-- Example: net[1]:is(nn.Conv2d) --> true
-- See: net:find, nn.is_module
function Module:is(class) return getmetatable(self) == class end

--- net:buffer(name, x)
-- Makes a tensor part of the module's state, as self[name]: saved and moved, not trained. Assigning
-- to that name later copies into it in place. Returns the tensor.
-- Errors: a name that is no string, or is taken; x that is no tensor; later, another shape
-- Example: nn.Identity():buffer("count", cnn.zeros(1)):item() --> 0
-- See: nn.Parameter, net:named_buffers
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

--- net:named_parameters()
-- An iterator over names and parameters, in the order of definition; what is shared comes once.
-- Errors: a layer whose input size is not known yet: give the net an input first
-- Example: for name, p in net:named_parameters() do print(name, p:shape()) end
-- See: net:parameters, net:named_buffers
function Module:named_parameters() return pairs_of(collect(self, "parameter")) end

--- net:named_buffers()
-- An iterator over names and buffers, such as the running averages of a BatchNorm2d.
-- Errors: a layer whose input size is not known yet
-- Example: for name, b in net:named_buffers() do print(name, b:shape()) end
-- See: net:buffer, net:named_parameters
function Module:named_buffers() return pairs_of(collect(self, "buffer")) end

--- net:named_modules()
-- An iterator over paths and modules: the net itself under "", then every module in it.
-- Example: for path, layer in net:named_modules() do print(path, layer:describe()) end
-- See: net:find, net:iter, net:apply
function Module:named_modules()
  local list = { { "", self } }
  members.walk(self, function(name, value, kind)
    if kind == "module" then list[#list + 1] = { name, value } end
  end)
  return pairs_of(list)
end

--- net:parameters()
-- The parameters as a list, in the order of definition, as optimizers take them.
-- Errors: a layer whose input size is not known yet: net:shapes { 1, C, H, W } is enough
-- Example: #net:parameters() --> 6
-- See: net:named_parameters, cnn.optim.SGD
function Module:parameters()
  local list = collect(self, "parameter")
  for i, pair in ipairs(list) do list[i] = pair[2] end
  return list
end

--- net:iter()
-- An iterator over numbers and the modules that this one holds itself.
-- Example: for i, layer in net:iter() do print(i, layer:describe()) end
-- See: net:named_modules, net[i]
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

--- net:apply(fn)
-- Calls fn(module) for every module inside, then for the net itself; what is shared comes once.
-- Returns the net.
-- Errors: fn that is no function
-- Example: net:apply(function(m) if m:is(nn.Linear) then nn.init.zeros(m.bias) end end)
-- See: nn.init.xavier_uniform, net:named_modules
function Module:apply(fn)
  if type(fn) ~= "function" then
    err.raise("net:apply(fn): fn: expected a function, got " .. err.got(fn))
  end
  apply(self, fn, {})
  return self
end

--- net:train(mode = true)
-- Training mode for the net and all in it: batch norms use the batch's statistics, dropout draws.
-- Modules read it from self.training. Returns the net. (cnn.train trains.)
-- Errors: what is not true or false
-- Example: net:train().training --> true
-- See: net:eval, cnn.train
function Module:train(mode)
  mode = argument.boolean("net:train(mode)", "mode", mode, true)
  for _, node in self:named_modules() do rawset(node, "training", mode) end
  return self
end

--- net:eval()
-- Prediction mode: batch norms use their running averages, dropout passes values on. Returns the
-- net.
-- Example: net:eval().training --> false
-- See: net:train, cnn.no_grad
function Module:eval() return self:train(false) end

local function moved_to(where, value, kind)
  local moved = autograd.no_grad(value.to, value, where)
  if moved == value then return value end
  if kind == "buffer" then return moved end
  return members.Parameter(moved, { requires_grad = value.requires_grad })
end

--- net:to(where)
-- Moves parameters and buffers to a device, "cuda" or "cpu". Make the optimizer afterwards: they
-- are new tensors. What is shared stays shared. Returns the net.
-- Errors: a device that is not there
-- Example: net:to "cpu" == net --> true
-- See: x:to, cnn.cuda.is_available
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

--- net:zero_grad()
-- Takes the gradients of all parameters away, as opt:zero_grad does. Returns the net.
-- Example: net:zero_grad():parameters()[1].grad --> nil
-- See: opt:zero_grad, x:backward
function Module:zero_grad()
  for _, p in ipairs(self:parameters()) do p.grad = nil end
  return self
end

-- Methods that are loaded at their first call: where each lives, module.function(net, ...).
local elsewhere = {
  shapes = { "shapes", "show" },
  get = { "probes.look", "get" },
  find = { "probes.look", "find" },
  probe = { "probes.probe", "show" },
  profile = { "probes.profile", "show" },
  tap = { "probes.taps", "add" },
  confusion = { "pictures.confusion", "confusion" },
  mistakes = { "pictures.mistakes", "mistakes" },
  gradcam = { "pictures.gradcam", "gradcam" },
  occlusion = { "pictures.occlusion", "occlusion" },
  top_pictures = { "pictures.top_pictures", "top_pictures" },
  save = { "checkpoint", "save" },
  load = { "checkpoint", "load" },
  maps = { "pictures.maps", "maps" },
  filters = { "pictures.filters", "filters" },
  histogram = { "pictures.histogram", "histogram" },
}

for name, place in pairs(elsewhere) do
  Module[name] = function(self, ...)
    if not members.is_module(self) then
      err.raise(("net:%s(): expected a net, got %s (a dot instead of a colon?)")
        :format(name, err.got(self)))
    end
    return require("cnn." .. place[1])[place[2]](self, ...)
  end
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

--- nn.module(name, base = nn.Module)
-- A new class of modules: define Name:init(...) and Name:forward(x), then Name(...) makes one. What
-- is assigned to self is found, saved, moved and trained; backward is derived. `base` is a class to
-- inherit from.
-- Errors: a name that is no string; a base that is no class
-- Example: Scale = nn.module "Scale"
--   function Scale:init(c) self.gamma = nn.Parameter(cnn.ones(1, c, 1, 1)) end
--   function Scale:forward(x) return x * self.gamma end
--   Scale(3)(cnn.ones(2, 3, 4, 4)):shape() --> 2x3x4x4
-- See: net:init, net:forward, nn.Parameter, net:buffer, nn.op
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
