-- container.lua - nn.Sequential: layers called one after the other.
--
--   local net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
--   net:add(layer)   net:add("b1", block)   net[2]   net.b1   #net   net[2] = other
--
-- Surprising: a layer with a name of its own still sits at its number; the name is what it is
-- saved, printed and found under.

local calls = require "cnn.calls"
local err = require "cnn.error"
local module = require "cnn.module"

local Sequential = module.class "Sequential"
Sequential.library = true

local is_module = module.is_module
local earlier, previous = calls.earlier, calls.previous

local function check_child(who, value)
  if is_module(value) then return value end
  if module.is_class(value) then
    err.raise(("%s: expected a layer, got the class %s: write nn.%s(...)")
      :format(who, value.kind, value.kind))
  end
  err.raise(("%s: expected a layer, got %s"):format(who, err.got(value)))
end

-- The layers, as arguments or as one list.
function Sequential:init(...)
  local list, n = { ... }, select("#", ...)
  if n == 1 and type(list[1]) == "table" and getmetatable(list[1]) == nil then
    list = list[1]
    n = #list
  end
  for i = 1, n do self[i] = check_child("nn.Sequential: argument " .. i, list[i]) end
end

-- net:add(layer), net:add("name", layer).
function Sequential:add(name, child)
  if child == nil then name, child = nil, name end
  check_child("net:add", child)
  local i = #self + 1
  if name ~= nil then
    local state = module.state(self)
    if type(name) ~= "string" or name:find("[.%s]") or name == "" or tonumber(name) then
      err.raise("net:add(name, layer): name: expected a word, got " .. err.got(name))
    end
    if state.slots[name] or self[name] ~= nil then
      err.raise(("net:add('%s', layer): the net has a '%s' already"):format(name, name))
    end
    state.names[i], state.slots[name] = name, i
  end
  self[i] = child
  return self
end

function Sequential:extra() return "" end -- luacheck: ignore 212

function Sequential:describe() return self.kind end

function Sequential:forward(x)
  local d = calls.depth
  for i = 1, #self do
    local layer = self[i]
    if not is_module(layer) then check_child("layer " .. i, layer) end
    local y = layer(x)
    previous[d], earlier[d] = layer, x
    x = y
  end
  return x
end

return { Sequential = Sequential }
