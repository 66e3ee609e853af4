-- locals.lua - locals.to_globals(text): top-level `local`s of a piece of Lua become assignments.
--
--   local x = 1                    x = 1
--   local a, b                     a, b = nil;
--   local function f() end         function f() end
--
-- What is nested in functions, loops, branches stays as it is, and so do lines and most columns.
-- What is no declaration keeps its `local`, so that Lua complains about what was typed.
--
-- Surprising: this needs tokens and the depth of blocks, but no grammar. A function that names such
-- a variable sees what is assigned to it later, by another `local` too: the prompt has one of each.

local tokens = require "cnn.prompt.tokens"

local locals = {}

local depth_of = {
  ["function"] = 1, ["do"] = 1, ["then"] = 1, ["repeat"] = 1,
  ["end"] = -1, ["until"] = -1, ["elseif"] = -1,
}

-- The next token at or behind `at` that means something: its text, kind and last position.
local function significant(text, at)
  while at <= #text do
    local kind, last = tokens.next(text, at)
    if kind ~= "space" and kind ~= "comment" then return text:sub(at, last), kind, last end
    at = last + 1
  end
  return "", "end", at
end

-- `local` that ends at `last` declares names: true, and where " = nil" has to be put in, if
-- anywhere, and what that is.
local function declaration(text, last)
  local word, kind, stop = significant(text, last + 1)
  if word == "function" then
    local _, name, behind = significant(text, stop + 1)
    return name == "name" and significant(text, behind + 1) == "("
  end
  while kind == "name" do
    local after, _, comma = significant(text, stop + 1)
    if after == "=" then return true end
    if after ~= "," then return true, stop, after == ";" and " = nil" or " = nil;" end
    _, kind, stop = significant(text, comma + 1)
  end
  return false
end

function locals.to_globals(text)
  if not text:find("local", 1, true) then return text end
  local parts, copied, depth = {}, 0, 0
  local function put(upto, piece, from)
    parts[#parts + 1] = text:sub(copied + 1, upto)
    parts[#parts + 1] = piece
    copied = from or upto
  end
  for first, last, kind in tokens.each(text) do
    local word = kind == "keyword" and text:sub(first, last)
    if word == "local" and depth == 0 then
      local declares, at, missing = declaration(text, last)
      if declares then
        put(first - 1, "     ", last)
        if at then put(at, missing) end
      end
    end
    depth = depth + (depth_of[word] or 0)
  end
  put(#text, "")
  return table.concat(parts)
end

return locals
