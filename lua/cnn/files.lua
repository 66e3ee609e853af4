-- files.lua - small questions about files, and their names in a shell's line.
--
-- files.exists(path), files.is_directory(path) and files.is_terminal(number) answer true or false,
-- files.shell(word) is the word quoted for sh. Surprising: a path that is there but may not be read
-- does not "exist" here, because whoever asks wants to open it next; a directory can be opened.

local ffi = require "ffi"

ffi.cdef "int isatty(int file);"

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

-- number: 0 standard input, 1 output, 2 errors
function files.is_terminal(number)
  return ffi.C.isatty(number) ~= 0
end

function files.shell(word)
  return "'" .. word:gsub("'", [['\'']]) .. "'"
end

return files
