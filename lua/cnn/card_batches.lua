-- card_batches.lua - batches that the card makes itself, of a data set whose bytes lie there.
--
--   local following, state = batches.over(split, { seed =, stream =, shuffle =, first =, count =,
--     batch = })                             -- as a generic `for` takes them
--
-- Nothing is waited for: a batch is two tensors without values until a step uses them, and a
-- captured step makes them within itself.
--
-- Surprising: the order of an epoch is one piece of memory of the split, shuffled anew for each
-- epoch, so that captured steps find it where it was. Whoever begins an epoch while another one
-- goes on gets an order of its own.

local ffi = require "ffi"
local C = require "cnn.ffi".C
local handle = require "cnn.handle"

local batches = {}

local function new_order(split)
  local order = C.cnn_pictures_new(split.dataset, split.images, split.height, split.width)
  if order == nil then handle.fail() end
  return ffi.gc(order, C.cnn_pictures_release)
end

-- Whether it could be shuffled: it cannot while a batch of it waits for its first use.
local function shuffled(order, options)
  if not options.shuffle then return true end
  local status = C.cnn_pictures_shuffle(order, options.seed, options.stream)
  if status == 1 then -- by one that nobody has any more, perhaps
    collectgarbage()
    status = C.cnn_pictures_shuffle(order, options.seed, options.stream)
  end
  if status < 0 then handle.fail() end
  return status == 0
end

-- The split's own order for this kind of epoch, if nobody else is in the middle of one.
local function take_order(split, options)
  local kind = options.shuffle and "shuffled" or "stored"
  split.card_orders = split.card_orders or {}
  local place = split.card_orders[kind]
  if not place then
    place = { order = new_order(split), user = setmetatable({}, { __mode = "v" }) }
    split.card_orders[kind] = place
  end
  local user = place.user[1]
  if not (options.shuffle and user and not user.ended) and shuffled(place.order, options) then
    return place.order, place
  end
  local order = new_order(split)
  shuffled(order, options)
  return order
end

local function following(running)
  local left = running.last - running.at
  if left <= 0 then
    running.ended = true
    return nil
  end
  local count = math.min(left, running.batch)
  local x, y = running.x, running.y
  if C.cnn_pictures_batch(running.order, running.at + 1, count, x, y) ~= 0 then handle.fail() end
  running.at = running.at + count
  return handle.wrap(x[0]), handle.wrap(y[0])
end

function batches.over(split, options)
  local order, place = take_order(split, options)
  local running = {
    split = split, order = order, at = options.first, last = options.first + options.count,
    batch = options.batch, waited = 0, ended = false,
    x = ffi.new "cnn_tensor *[1]", y = ffi.new "cnn_tensor *[1]",
  }
  if place then place.user[1] = running end
  return following, running
end

return batches
