-- explain.lua - turns an op's error inside a net into one line that names the layer.
--
--   models/mine.lua:23: net[14] Linear(6400, 4096): expected 6400 features, got 3200
--     (1x128x5x5 flattened by net[13])
--
-- explain(message, place) -> message, place, from what calls.lua knows of the layers being called.
--
-- Surprising: for an input that is too small it tries the net on ever larger ones, shapes only, and
-- says which would do.

local autograd = require "cnn.autograd"
local calls = require "cnn.calls"
local create = require "cnn.create"
local handle = require "cnn.handle"
local members = require "cnn.members"
local text = require "cnn.text"

local LARGEST = 1024 -- pixels a side, of the inputs that are tried

local stack, input, previous, earlier = calls.stack, calls.input, calls.previous, calls.earlier

-- ------------------------------------------------------------------------------------ paths

-- The name of `child` in `parent`, dotted where it sits deeper; nil when it is not there.
local function name_in(parent, child)
  local found
  members.walk(parent, function(name, value)
    if value == child then found = found or name end
  end)
  return found
end

-- net[5].conv1: from the root of the tree that the outermost call belongs to.
local function path_of(target, depth)
  local root, seen = stack[1] or target, {}
  while members.parent(root) and not seen[root] do -- a module may hold itself
    seen[root] = true
    root = members.parent(root)
  end
  if root == target then return nil end
  local path, node = "net", root
  for d = 1, depth do
    local name = stack[d] ~= node and name_in(node, stack[d])
    if name then path, node = text.path(path, name), stack[d] end
  end
  if node ~= target then
    local name = name_in(node, target)
    path = name and text.path(path, name) or path
  end
  return path
end

local function label(target, depth)
  local path = path_of(target, depth)
  return path and path .. " " .. target:describe() or target:describe()
end

-- ----------------------------------------------------------------------------------- origins

local function shape_of(x)
  return handle.is_tensor(x) and tostring(x:shape()) or nil
end

-- Where the input of the module at depth d came from, as text; `message` may have its shape.
local function origin(d, message)
  local x = input[d]
  local shape = shape_of(x)
  if not shape then return "" end
  while d > 1 do
    local producer = previous[d - 1]
    if producer then
      local path = path_of(producer, d - 1) or producer:describe()
      if producer.kind == "Flatten" then
        return (" (%s flattened by %s)"):format(shape_of(earlier[d - 1]), path)
      end
      return (" (%s from %s %s)"):format(shape, path, producer.kind)
    end
    if input[d - 1] ~= x then break end
    d = d - 1
  end
  if message:find(shape, 1, true) then return "" end
  return (" (%s input is %s)"):format(d == 1 and "the" or "its", shape)
end

-- ---------------------------------------------------------------------------- smallest input

-- "ok", "small" or "other": how the net takes a shape of n c side side.
local function try(net, n, c, side)
  local outer = {}
  for _, key in ipairs { "depth", "observer", "trial" } do outer[key] = calls[key] end
  calls.depth, calls.observer, calls.trial = 0, nil, {}
  local ok, message = pcall(autograd.no_grad, net.forward, net,
    create.zeros(n, c, side, side, { device = "meta" }))
  for _, layer in ipairs(calls.trial) do layer:forget() end
  for _, key in ipairs { "depth", "observer", "trial" } do calls[key] = outer[key] end
  if ok then return "ok" end
  return tostring(message):find("an input of at least", 1, true) and "small" or "other"
end

-- The smallest side that passes, from `side` on; nil when none does.
local function smallest(net, n, c, side)
  local small, large = side, math.max(2, 2 * side)
  while try(net, n, c, large) == "small" do
    small, large = large, 2 * large
    if large > LARGEST then return nil end
  end
  while large - small > 1 do
    local middle = math.floor((small + large) / 2)
    if try(net, n, c, middle) == "small" then small = middle else large = middle end
  end
  while large <= LARGEST do
    if try(net, n, c, large) == "ok" then return large end
    large = large + 1
  end
end

local function copy_of(list)
  local copy = {}
  for d = 0, calls.depth do copy[d] = list[d] end
  return copy
end

local function remedy(message)
  local root, x = stack[1], input[1]
  if calls.trial or not message:find("an input of at least", 1, true) then return "" end
  if not handle.is_tensor(x) or x:dim() ~= 4 then return "" end
  local lists, copies = { stack, input, previous, earlier }, {}
  for i, list in ipairs(lists) do copies[i] = copy_of(list) end
  local side = smallest(root, math.max(1, x:size(1)), x:size(2), math.min(x:size(3), x:size(4)))
  for i, list in ipairs(lists) do
    for d = 0, calls.depth do list[d] = copies[i][d] end
  end
  return side and ("; the net needs at least %dx%d"):format(side, side) or ""
end

-- ----------------------------------------------------------------------------------- the line

-- The op's name is dropped where the layer is the library's, and so is the shape of x.
local function strip(message)
  message = message:gsub("^[%w_]+: ", ""):gsub("^[%w_.]+:[%w_]+%b(): ", "")
  return (message:gsub(" %(x is [%dx]+%)", ""))
end

return function(message, place)
  local d = calls.depth
  local layer = stack[d]
  if rawget(getmetatable(layer), "library") then message = strip(message) end
  local line = label(layer, d) .. ": " .. message .. origin(d, message)
  return line .. remedy(message), place or members.state(layer).place
end
