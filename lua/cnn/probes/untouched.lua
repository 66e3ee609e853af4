-- untouched.lua - runs what looks at a net, and leaves the net as it was.
--
--   untouched(net, fn, ...)   fn's results
--
-- However fn ends (an error, Ctrl-C), afterwards every module's training flag, every buffer (the
-- running averages), every parameter's gradient, the random stream and cnn.is_grad_enabled() are
-- what they were, bit by bit. Meanwhile fn sees the buffers' values but no gradients (who wants
-- those reads them first), and taps are silent. A layer whose input size was left open may find it
-- in fn and keeps its weights; the random numbers that they took stay taken.
--
-- Surprising: nothing is copied back. fn works on copies of the buffers, and then the originals
-- return to their places, which no engine op has to succeed for.

local C = require "cnn.ffi".C
local autograd = require "cnn.autograd"
local calls = require "cnn.calls"
local guard = require "cnn.guard"
local members = require "cnn.members"
local statistics = require "cnn.probes.statistics"

local function unbuilt_count(net)
  local count = 0
  for _, node in net:named_modules() do
    if rawget(node, "unbuilt") then count = count + 1 end
  end
  return count
end

local function remember(net)
  local saved = {
    modes = {}, buffers = {}, gradients = {}, grad_enabled = C.cnn_grad_enabled(),
    stream = C.cnn_rng_stream(), unbuilt = unbuilt_count(net), tell = calls.tell,
    observer = calls.observer, base = calls.base,
  }
  for _, node in net:named_modules() do
    saved.modes[#saved.modes + 1] = { node, rawget(node, "training") }
  end
  members.walk(net, function(_, value, kind, holder, key)
    if kind == "buffer" then
      saved.buffers[#saved.buffers + 1] = { holder, key, value }
    elseif kind == "parameter" then
      saved.gradients[#saved.gradients + 1] = { value, statistics.gradient(value) }
    end
  end, true)
  return saved
end

-- What is shared is one copy, as it was one buffer.
local function put_aside(saved)
  local copies = {}
  for _, place in ipairs(saved.buffers) do
    local holder, key, value = unpack(place)
    copies[value] = copies[value] or value:clone()
    rawset(holder, key, copies[value])
  end
  for _, pair in ipairs(saved.gradients) do pair[1].grad = nil end
  calls.tell = nil
end

local function restore(net, saved)
  for _, place in ipairs(saved.buffers) do rawset(place[1], place[2], place[3]) end
  for _, pair in ipairs(saved.gradients) do pair[1].grad = pair[2] end
  for _, pair in ipairs(saved.modes) do rawset(pair[1], "training", pair[2]) end
  C.cnn_set_grad_enabled(saved.grad_enabled)
  calls.tell, calls.observer, calls.base = saved.tell, saved.observer, saved.base
  if unbuilt_count(net) == saved.unbuilt then C.cnn_set_rng_stream(saved.stream) end
end

-- From here on a Ctrl-C waits until all is back in its place.
local function hold(...)
  guard.hold(true)
  return ...
end

local function finish(net, saved, ok, ...)
  restore(net, saved)
  if not ok then error((...), 0) end
  guard.hold(false)
  return ...
end

return function(net, fn, ...)
  local saved = remember(net)
  return finish(net, saved, guard.call(function(...)
    autograd.no_grad(put_aside, saved)
    return hold(fn(...))
  end, ...))
end
