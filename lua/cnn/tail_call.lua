-- tail_call.lua - where a function was left for good: the lines of its tail calls.
--
--   function Block:forward(x)
--     return x:view(7, 7)          -- calls view in place of forward: no frame of forward is left
--   end
--
-- tail_call.place(fn) -> "file:line", or nil when fn cannot have ended so. With several tail calls
-- it is not known which one was taken: then the line is that of fn itself.
--
-- Surprising: this reads bytecode, of which it knows one thing that holds in every LuaJIT: a
-- function that is nothing but a tail call ends with that instruction.

local util = require "jit.util"

local tail_call = {}

local function operation(fn, position) return bit.band(util.funcbc(fn, position), 0xff) end

local function last_operation(fn) return operation(fn, util.funcinfo(fn).bytecodes - 1) end

local is_tail_call = {
  [last_operation(function(f) return f() end)] = true,
  [last_operation(function(f, g) return f(g()) end)] = true,
}

function tail_call.place(fn)
  local info, line = debug.getinfo(fn, "S"), nil
  if info.what == "C" then return nil end
  for position = 0, util.funcinfo(fn).bytecodes - 1 do
    if is_tail_call[operation(fn, position)] then
      local here = util.funcinfo(fn, position).currentline
      line = line and line ~= here and info.linedefined or here
    end
  end
  return line and info.short_src .. ":" .. line
end

return tail_call
