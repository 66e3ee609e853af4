-- carry.lua - takes the weights of one net over into another one that was made anew.
--
--   local account = carry(was, net, device)     `net` is changed, `was` is not
--   account.carried, account.total              tensors; tostring(account) says all in one line
--   account:plain()                             the same as a table of numbers and lists of names
--   account:settle()                            what changes the carried tensors, and the taps
--
-- A parameter or buffer is carried where name, shape and dtype are the same: the very tensor of
-- `was` is put into `net`, with its gradient, so an optimizer that holds it goes on. Training flags
-- are carried by name as well. Everything else of `net` comes to the device.
--
-- Surprising: one tensor under two names, where the new net has two, can be itself under one of
-- them only; the other gets a copy of its values. Frozen is what either net has frozen.

local C = require "cnn.ffi".C
local autograd = require "cnn.autograd"
local members = require "cnn.members"
local taps = require "cnn.probes.taps"
local text = require "cnn.text"

-- ------------------------------------------------------------------------------------ the account

local Account = {}
Account.__index = Account

local parts = {
  { "new", "new" }, { "gone", "gone" }, { "another shape", "reshaped" },
  { "another kind", "changed" }, { "frozen by the script now", "frozen" },
  { "frozen as before", "kept_frozen" },
}

function Account:__tostring()
  local words = { ("%d of %d tensors carried"):format(self.carried, self.total) }
  for _, part in ipairs(parts) do
    local title, list = part[1], self[part[2]]
    if #list > 0 then words[#words + 1] = title .. ": " .. text.some(list) end
  end
  return table.concat(words, "; ")
end

-- Its numbers and lists of names alone.
function Account:plain()
  local copy = { carried = self.carried, total = self.total }
  for _, part in ipairs(parts) do copy[part[2]] = self[part[2]] end
  return copy
end

function Account:settle()
  for _, x in ipairs(self.to_freeze) do C.cnn_set_requires_grad(x, 0) end
  for _, pair in ipairs(self.to_tap) do taps.move(unpack(pair)) end
end

local function new_account(total)
  local account = setmetatable({ carried = 0, total = total, to_freeze = {}, to_tap = {} }, Account)
  for _, part in ipairs(parts) do account[part[2]] = {} end
  return account
end

-- ------------------------------------------------------------------------------------- the tensors

-- The tensors of a net in order: { x =, kind =, names = { ... }, places = { { holder, key } ... } }
local function tensors_of(net)
  local list, known = {}, {}
  members.walk(net, function(name, value, kind, holder, key)
    if kind == "module" then return end
    local item = known[value]
    if not item then
      item = { x = value, kind = kind, names = {}, places = {} }
      known[value] = item
      list[#list + 1] = item
    end
    table.insert(item.names, name)
    table.insert(item.places, { holder, key })
  end, true)
  return list
end

local function by_name(list)
  local named = {}
  for _, item in ipairs(list) do
    for _, name in ipairs(item.names) do named[name] = item end
  end
  return named
end

-- The tensor of a name below a node. A walk meets a shared module at one of its places only; this
-- goes along any name.
local function resolve(node, name)
  local found
  members.each(node, function(child, value, kind)
    if child == name then
      found = found or kind ~= "module" and value or nil
    elseif kind == "module" and name:sub(1, #child + 1) == child .. "." then
      found = found or resolve(value, name:sub(#child + 2))
    end
  end)
  return found
end

-- What the old net has under one of the names: first what fits, then anything.
local function find(was, item)
  local misfit
  for _, name in ipairs(item.names) do
    local x = not was.named[name] and resolve(was.net, name)
    local old = was.named[name] or x and was.known[x]
    if old and old.kind == item.kind and old.x.dtype == item.x.dtype
      and old.x:shape() == item.x:shape() then
      return old, true
    end
    misfit = misfit or old
  end
  return misfit, false
end

local function label(item) return text.path("", item.names[1]) end

local function size_of(item)
  local shape = tostring(item.x:shape())
  return shape == "" and "" or " " .. shape
end

local function add_misfit(account, old, item)
  local name, before, now = label(item), tostring(old.x:shape()), tostring(item.x:shape())
  if before ~= now then
    table.insert(account.reshaped, ("%s %s -> %s"):format(name, before, now))
  else
    table.insert(account.changed, ("%s (%s %s -> %s %s)"):format(name, old.x.dtype, old.kind,
      item.x.dtype, item.kind))
  end
end

local function note_frozen(account, old, item)
  if item.kind ~= "parameter" or old.x.requires_grad == item.x.requires_grad then return end
  if old.x.requires_grad then
    table.insert(account.frozen, label(item))
    table.insert(account.to_freeze, old.x)
  else
    table.insert(account.kept_frozen, label(item))
  end
end

-- Puts the old tensors into the new net. Returns those that can only be copied: { from, item }.
local function place(account, was, list)
  local copies = {}
  for _, item in ipairs(list) do
    local old, fits = find(was, item)
    if not old then
      table.insert(account.new, label(item) .. size_of(item))
    elseif not fits then
      add_misfit(account, old, item)
    else
      account.carried = account.carried + 1
      if old.taken then
        copies[#copies + 1] = { old.x, item }
      else
        note_frozen(account, old, item)
        for _, at in ipairs(item.places) do rawset(at[1], at[2], old.x) end
        old.taken = true
      end
    end
    if old then old.met = true end
  end
  return copies
end

-- ---------------------------------------------------------------------------------------- layers

-- Modes and taps. A layer that is another one than that of its name, or new, is in the mode of the
-- whole net; the net itself stays the table that it was.
local function carry_layers(account, was, net)
  local nodes = {}
  for name, node in was:named_modules() do nodes[name] = node end
  for name, node in net:named_modules() do
    local old = nodes[name]
    local same = name == "" or old and old.kind == node.kind
    rawset(node, "training", (same and old or was).training)
    local list = same and members.state(old).taps
    if list then table.insert(account.to_tap, { list, name == "" and was or node }) end
  end
end

return function(was, net, device)
  local old, list = tensors_of(was), tensors_of(net)
  local known = {}
  for _, item in ipairs(old) do known[item.x] = item end
  local account = new_account(#list)
  local copies = place(account, { net = was, named = by_name(old), known = known }, list)
  for _, item in ipairs(old) do
    if not item.met then table.insert(account.gone, label(item) .. size_of(item)) end
  end
  if device then net:to(device) end
  for _, copy in ipairs(copies) do
    local holder, key = unpack(copy[2].places[1])
    local x = rawget(holder, key)
    autograd.no_grad(x.copy, x, copy[1])
  end
  carry_layers(account, was, net)
  return account
end
