-- quoting.lua - text as it stands between the quotes of a Lua string.
--
--   quoting.escape(text, quote)     what loadstring reads back; safe on a terminal
--   quoting.visible(text)           the same of lines to be read, not of Lua: lines and tabs stay
--   quoting.columns(text)           as many a terminal needs for it
--
-- Characters beyond ASCII stay as they are where they are UTF-8. Surprising: 128 to 159 do not, as
-- terminals take those for the beginning of commands, like the escape character.

local quoting = {}

local short = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\" }

local function escape_byte(c) return ("\\%03d"):format(c:byte()) end

local function length_of(lead)
  if lead >= 0xC2 and lead < 0xE0 then return 2 end
  if lead >= 0xE0 and lead < 0xF0 then return 3 end
  if lead >= 0xF0 and lead < 0xF5 then return 4 end
end

-- Bytes from 128 on.
local function escape_run(run)
  local parts, at = {}, 1
  while at <= #run do
    local length = length_of(run:byte(at))
    local character = length and run:match("^.[\128-\191]+", at)
    if not character or #character < length or run:find("^\194[\128-\159]", at) then
      parts[#parts + 1], at = escape_byte(run:sub(at, at)), at + 1
    else
      parts[#parts + 1], at = character:sub(1, length), at + length
    end
  end
  return table.concat(parts)
end

local function escape(text, special)
  if not text:find "[%c\\\"'\128-\255]" then return text end
  text = text:gsub(special, function(c)
    return short[c] or c:find "%c" and escape_byte(c) or "\\" .. c
  end)
  return (text:gsub("[\128-\255]+", escape_run))
end

function quoting.escape(text, quote) return escape(text, "[%c\\" .. quote .. "]") end

function quoting.visible(text)
  return escape(text, "[^\n\t%C]")
end

function quoting.columns(text) return #(text:gsub("[\128-\191]", "")) end

return quoting
