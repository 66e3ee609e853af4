-- options.lua - cnn.options { ratio = 4 }: a script's own options, for --set ratio=1.
--
-- A table of defaults in, the same table with what --set said out; a value keeps its default's
-- type. Surprising: the command line is read before the script runs, so an unknown key is found
-- only afterwards, when the script has declared what it has (options.check).

local fail = require "cnn.fail"

local options = {}

local given = {}    -- key -> text, from the command line
local declared = {} -- key -> its default's type

local readers = {
  number = function(text)
    local value = tonumber(text)
    return value == value and value or nil
  end,
  boolean = function(text)
    local values = { ["true"] = true, yes = true, ["1"] = true,
                     ["false"] = false, no = false, ["0"] = false }
    return values[text]
  end,
  string = function(text) return text end,
}

local expected = { number = "a number", boolean = "true or false", string = "text" }

local function names()
  local list = {}
  for key, kind in pairs(declared) do list[#list + 1] = ("%s (%s)"):format(key, expected[kind]) end
  table.sort(list)
  return table.concat(list, ", ")
end

-- Takes the command line's list of "key=value", in place of what was there.
function options.set(list)
  given, declared = {}, {}
  for _, item in ipairs(list or {}) do
    local key, value = item:match "^([%a_][%w_]*)=(.*)$"
    if not key then fail.usage("--set takes key=value, got '%s'", item) end
    given[key] = value
  end
end

-- After the script: every key that was given must have been declared.
function options.check()
  for key in pairs(given) do
    if not declared[key] then
      if not next(declared) then
        fail.usage("--set %s: the script has no options of its own", key)
      end
      fail.usage("--set %s: the script has no such option; it has %s", key, names())
    end
  end
end

local function declare(defaults)
  if type(defaults) ~= "table" then
    error("cnn.options takes a table of names and defaults: cnn.options { ratio = 4 }", 3)
  end
  local values = {}
  for key, default in pairs(defaults) do
    local kind = type(default)
    if type(key) ~= "string" or not readers[kind] then
      error(("cnn.options: '%s' must have a name and a number, true, false or text as its default")
        :format(tostring(key)), 3)
    end
    declared[key] = kind
    values[key] = default
    if given[key] then
      values[key] = readers[kind](given[key])
      if values[key] == nil then
        fail.usage("--set %s=%s: %s is %s", key, given[key], key, expected[kind])
      end
    end
  end
  return values
end

--- cnn.options(defaults)
-- Declares a script's own options, a table of names and defaults, and returns it with what --set
-- said. A value keeps its default's type: number, true or false, text.
-- Errors: --set with a name that was not declared, or a value of another type
-- Example: opt = cnn.options { ratio = 4 }
--   opt.ratio --> 4
-- See: cnnlua train
return setmetatable(options, { __call = function(_, defaults) return declare(defaults) end })
