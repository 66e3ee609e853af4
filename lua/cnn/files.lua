-- files.lua - small questions about files, their names in a shell's line, and new directories.
--
-- files.exists(path), files.is_directory(path) and files.is_terminal(number) answer true or false,
-- files.read(path) is a file's text, files.shell(word) the word quoted for sh,
-- files.make_directory(path) is mkdir -p. Surprising: a path that is there but may not be read does
-- not "exist" here, because whoever asks wants to open it next; a directory can be opened.

local ffi = require "ffi"

ffi.cdef [[
int isatty(int file);
int mkdir(const char *path, unsigned mode);
int access(const char *path, int mode);
char *strerror(int number);
]]

local WRITE_AND_SEARCH = 2 + 1

local files = {}

local function opens(path)
  local f = io.open(path, "rb")
  if f then f:close() end
  return f ~= nil
end

function files.exists(path)
  return opens(path)
end

function files.is_directory(path)
  return opens(path .. "/.")
end

-- All of it, or nil and why not.
function files.read(path)
  local f, why = io.open(path, "rb")
  if not f then return nil, why end
  local text, problem = f:read "*a"
  f:close()
  return text, problem and path .. ": " .. problem
end

-- number: 0 standard input, 1 output, 2 errors
function files.is_terminal(number)
  return ffi.C.isatty(number) ~= 0
end

function files.shell(word)
  return "'" .. word:gsub("'", [['\'']]) .. "'"
end

-- number: an errno
function files.reason(path, number)
  return path .. ": " .. ffi.string(ffi.C.strerror(number))
end

-- Adds the path to the list `made`; or the number of what went wrong, and the reason in words.
function files.mkdir(path, made)
  if ffi.C.mkdir(path, 511) == 0 then
    made[#made + 1] = path
    return nil
  end
  local number = ffi.errno()
  return number, files.reason(path, number)
end

-- With the directories above it; nil when one can write in it, or why not. What it makes is added
-- to the list `made`, if there is one. What is there already is no reason: opening it tells.
function files.make_directory(path, made)
  local refused
  local function add(part)
    if files.exists(part) then return end
    local _, why = files.mkdir(part, made or {})
    refused = refused or why
  end
  for at in path:gmatch "()/" do
    if at > 1 then add(path:sub(1, at - 1)) end
  end
  add(path)
  local f, why = io.open(path .. "/.", "r")
  if not f then return refused or (why:gsub("/%.:", ":")) end
  f:close()
  if ffi.C.access(path .. "/.", WRITE_AND_SEARCH) ~= 0 then
    return files.reason(path, ffi.errno())
  end
  return nil
end

return files
