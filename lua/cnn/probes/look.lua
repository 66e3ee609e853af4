-- look.lua - layers by their paths: net:get "b3[1].conv1", net:find "conv1".
--
--   look.get(net, path)       the layer; an error that names the nearest paths, and the layers
--   look.find(net, what)      the layers that `what` fits, as a report
--   look.path_of(net, layer)  "b3[1].conv1"; "net" of the net itself; nil of a stranger
--   look.build(net, x)        layers that have yet to find their input's size find it
--
-- A path is what one would write in Lua, with or without the "net." in front; a number may also
-- follow a dot: "net.b3[1]", "b3[1]" and "b3.1" are one. "net" or "" is the net itself.
--
-- Surprising: get walks from field to field as Lua would, so a layer that sits at two places, or at
-- a number besides its name, is found at each. find goes by the first place alone.

local argument = require "cnn.argument"
local err = require "cnn.error"
local members = require "cnn.members"
local report = require "cnn.probes.report"
local text = require "cnn.text"

local is_module = members.is_module

local look = {}

local ROOT = "net"
local MOST_NAMES = 24 -- in an error
local MOST_NEAREST = 3

-- ------------------------------------------------------------------------------------- paths

-- "b3[1].conv1" and "b3.1.conv1" -> { "b3", "1", "conv1" }
local function parts_of(path)
  local parts = {}
  for part in path:gmatch "[^.%[%]]+" do parts[#parts + 1] = part end
  return parts
end

local function dotted(path) return table.concat(parts_of(path), ".") end

local function without_root(parts)
  if parts[1] ~= ROOT then return parts end
  return { unpack(parts, 2) }
end

-- What `holder`, a module or a plain table, has under a name or a number; nil for what is no layer
-- and cannot lead to one.
local function inside(holder, part)
  local slot = is_module(holder) and members.state(holder).slots[part]
  local value = rawget(holder, slot or part)
  if value == nil and tonumber(part) then value = rawget(holder, tonumber(part)) end
  if is_module(value) or type(value) == "table" and getmetatable(value) == nil then return value end
end

-- The layer at the end of the way, or nil; and the last layer on it, as a path.
local function follow(net, parts)
  local at, deepest = net, 0
  for i, part in ipairs(parts) do
    at = inside(at, part)
    if at == nil then break end
    if is_module(at) then deepest = i end
  end
  local way = text.path("", table.concat(parts, ".", 1, deepest))
  return is_module(at) and at or nil, way == "" and ROOT or way
end

-- { path, dotted, module } of every module, the net first.
local function all(net)
  local list = {}
  for name, node in net:named_modules() do
    local path = name == "" and ROOT or text.path("", name)
    list[#list + 1] = { path = path, dotted = name, module = node }
  end
  return list
end

function look.path_of(net, layer)
  for _, place in ipairs(all(net)) do
    if place.module == layer then return place.path end
  end
end

-- On shapes alone; so what is made then, such as running averages, is there to be left untouched.
function look.build(net, x)
  for _, node in net:named_modules() do
    if rawget(node, "unbuilt") then return net:shapes(x, { quiet = true }) end
  end
end

-- ---------------------------------------------------------------------------------- matching

local function is_at(place, wanted)
  local name = "." .. place.dotted .. "."
  return name:find("." .. wanted .. ".", 1, true) ~= nil
end

local function is_below(place, wanted)
  return wanted == "" or (place.dotted .. "."):sub(1, #wanted + 1) == wanted .. "."
end

local function is_kind(place, wanted) return place.module.kind:lower() == wanted:lower() end

-- As a Lua pattern; what is no right one, such as "[1", is looked for as it stands.
local function is_like(place, wanted)
  for _, name in ipairs { place.path, place.dotted, place.module.kind } do
    local ok, at = pcall(string.find, name, wanted)
    if not ok then at = name:find(wanted, 1, true) end
    if at then return true end
  end
  return false
end

-- The places that fit, by the first of the four meanings under which any does.
local function matches(places, wanted)
  local path = table.concat(without_root(parts_of(wanted)), ".")
  for _, fits in ipairs {
    function(place) return is_below(place, path) end,
    function(place) return is_at(place, path) end,
    function(place) return is_kind(place, wanted) end,
    function(place) return is_like(place, wanted) end,
  } do
    local found = {}
    for _, place in ipairs(places) do
      if fits(place) then found[#found + 1] = place end
    end
    if #found > 0 then return found end
  end
  return {}
end

-- ------------------------------------------------------------------------------ what is wrong

local function paths_of(places, most)
  local names = {}
  for i = 1, math.min(#places, most) do names[i] = places[i].path end
  return table.concat(names, ", ")
end

-- The paths that were probably meant, as text; nil when there are none.
local function nearest(places, wanted)
  local found = wanted ~= "" and matches(places, wanted) or {}
  if #found == 0 then
    local known, kinds, by_name = {}, {}, {}
    for i, place in ipairs(places) do
      if place.dotted ~= "" then known[#known + 1] = place.dotted end
      kinds[i], by_name[place.dotted] = place.module.kind, place
    end
    local near = by_name[argument.nearest(dotted(wanted), known)]
    local kind = not near and argument.nearest(wanted, kinds)
    found = near and { near } or kind and matches(places, kind) or {}
  end
  return #found > 0 and paths_of(found, MOST_NEAREST) or nil
end

-- The layers' names in a line: of a large net those that sit in the last layer of the way.
local function names_in(net, places, way)
  if #places == 1 then return "it has no layers inside" end
  if #places <= MOST_NAMES + 1 then
    return "layers: " .. paths_of({ unpack(places, 2) }, MOST_NAMES)
  end
  local node, names = follow(net, without_root(parts_of(way))), {}
  for _, place in ipairs(places) do
    if members.parent(place.module) == node then names[#names + 1] = place end
  end
  local cut = #names > MOST_NAMES and ", ..." or ""
  return ("layers in %s: %s%s; net:find() lists all %d"):format(way, paths_of(names, MOST_NAMES),
    cut, #places)
end

local function refuse(who, net, path, way)
  local places = all(net)
  local near = nearest(places, path)
  err.raise(("%s: no layer '%s' in the net%s (%s)"):format(who, path:sub(1, 80):gsub("%c", "?"),
    near and "; nearest: " .. near or "", names_in(net, places, way)))
end

-- ----------------------------------------------------------------------------------- the methods

-- The layer at a path, and the path as text.path writes it. Given a layer of the net, that one.
function look.resolve(net, path, who)
  if is_module(path) then
    local place = look.path_of(net, path)
    if place then return path, place end
    err.raise(("%s: expected a layer of this net, got another %s"):format(who, path.kind))
  end
  if type(path) == "number" then path = tostring(path) end
  argument.string(who, "path", path)
  local parts = parts_of(path)
  local layer, way = follow(net, parts)
  if not layer and parts[1] == ROOT then -- unless a child is called so
    layer, way = follow(net, { unpack(parts, 2) })
  end
  if not layer then refuse(who, net, path, way) end
  return layer, way
end

--- net:get(path)
-- The layer at a path, as it is printed by net:shapes and net:find: "b3[1].conv1", "b3.1.conv1" and
-- "net.b3[1].conv1" are one. "net" is the net itself. Given a layer of the net, it returns that.
-- Errors: an unknown path is told with the nearest and the layers' names
-- Example: net:get "net" == net --> true
-- See: net:find, net:tap, net:shapes
function look.get(net, path, who)
  return (look.resolve(net, path, who or "net:get(path)"))
end

local function table_of(rows)
  local lines = { { "path", "layer", "parameters" } }
  for _, row in ipairs(rows) do
    local count = row.parameters > 0 and text.commas(row.parameters) or ""
    lines[#lines + 1] = { row.path, row.layer, count }
  end
  return text.columns(lines, 2)
end

local function nothing(places, what)
  local near = nearest(places, what)
  return ("no layer fits '%s'; %s"):format(what:sub(1, 80):gsub("%c", "?"),
    near and "nearest: " .. near or "net:find() lists all " .. #places)
end

-- The places that a class, a word or nil (all) stands for.
local function wanted_of(places, what, who)
  if what == nil then return places end
  if not members.is_class(what) then
    return matches(places, argument.string(who or "net:find(what)", "what", what))
  end
  local found = {}
  for _, place in ipairs(places) do
    if place.module:is(what) then found[#found + 1] = place end
  end
  return found
end

--- net:find(what, { quiet = false })
-- The layers that `what` fits, printed and returned: a list of { path, layer, module, parameters }.
-- `what` is a path (that layer and all in it), a part of one ("conv1", "1.conv1"), a kind ("Conv2d"
-- or nn.Conv2d), or a Lua pattern on path or kind ("^b[34]", "Conv"); the first of these that fits
-- anything counts. Without it, all layers. parameters counts those inside, too.
-- Options: quiet: only return the list
-- Errors: nothing found is no error: the list is empty, and says what is nearest
-- Example: print(#net:find(nn.Conv2d, { quiet = true }) > 0) --> true
-- See: net:get, net:shapes
function look.find(net, what, options, who)
  options = argument.options("net:find", options, { "quiet" })
  local quiet = argument.boolean("net:find", "quiet", options.quiet, false)
  if type(what) == "number" then what = tostring(what) end
  local places, rows = all(net), {}
  for i, place in ipairs(wanted_of(places, what, who)) do
    rows[i] = {
      path = place.path, layer = place.module:describe(), module = place.module,
      parameters = members.count(place.module),
    }
  end
  local none = members.is_class(what) and what.kind or what
  return report.show(report.new(rows, #rows > 0 and table_of(rows) or nothing(places, none)), quiet)
end

return look
