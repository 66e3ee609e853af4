-- locals.lua - locals.to_globals(text): top-level `local`s of a piece of Lua become assignments.
--
--   local x = 1            x = 1
--   local a, b             a, b = nil
--   local function f() end         function f() end
--
-- What is nested in functions, loops, branches stays as it is. Surprising: this needs tokens and
-- the depth of blocks, but no grammar: `local` at depth 0 is the only thing that is looked for.

local locals = {}

-- The position after the token at `at`, and the token (a word, or anything else as it stands).
local function next_token(text, at)
  local long = text:match("^%-%-%[(=*)%[", at) or text:match("^%[(=*)%[", at)
  if long then
    local _, last = text:find("]" .. long .. "]", at, true)
    return (last or #text) + 1, "string"
  end
  local last = select(2, text:find("^%-%-[^\n]*", at))
  if last then return last + 1, "comment" end
  local quote = text:match("^[\"']", at)
  if quote then
    local stop = at + 1
    while stop <= #text and text:sub(stop, stop) ~= quote do
      stop = stop + (text:sub(stop, stop) == "\\" and 2 or 1)
    end
    return stop + 1, "string"
  end
  last = select(2, text:find("^[%a_][%w_]*", at)) or select(2, text:find("^%d[%w_.]*", at))
  if last then return last + 1, text:sub(at, last) end
  last = select(2, text:find("^%s+", at))
  if last then return last + 1, "space" end
  return at + 1, text:sub(at, at)
end

local opens = { ["function"] = 1, ["do"] = 1, ["then"] = 1, ["repeat"] = 1,
                ["end"] = -1, ["until"] = -1, ["elseif"] = -1 }

-- What `local` at `at` (just behind the word) declares, as text, and the position behind it.
local function declaration(text, at)
  local behind = text:match("^%s+()function[^%w_]", at)
  if behind then return "", behind end
  local names, after = text:match("^%s*([%a_][%w_]*)()", at)
  while names do
    local name, further = text:match("^%s*,%s*([%a_][%w_]*)()", after)
    if not name then break end
    names, after = names .. ", " .. name, further
  end
  if not names then return "local", at end
  if text:match("^%s*=", after) then return names, after end
  return names .. " = nil", after
end

function locals.to_globals(text)
  local parts, at, depth = {}, 1, 0
  while at <= #text do
    local after, token = next_token(text, at)
    local piece = text:sub(at, after - 1)
    if token == "local" and depth == 0 then piece, after = declaration(text, after) end
    depth = depth + (opens[token] or 0)
    parts[#parts + 1] = piece
    at = after
  end
  return table.concat(parts)
end

return locals
