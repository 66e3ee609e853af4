-- program.lua - runs the real cnnlua ($CNNLUA, or build/cnnlua) and says how it ended.
--
--   local r = program.run("train models/bn_lenet.lua --lr -1")     r.status, r.out, r.err
--   program.run(words, { input = text, env = "CNNLUA_DATA=/x", before = "ulimit -f 8;" })
--
-- Words are the shell's; program.quote makes one of any text. There is a scratch
-- directory for files, which program.sweep removes.

local program = {}

program.command = os.getenv "CNNLUA" or "build/cnnlua"

-- The same, quoted, but never for more than five minutes; signals are passed on.
program.guarded = "timeout --foreground -s KILL 300 '" .. program.command .. "'"

function program.quote(text)
  return "'" .. tostring(text):gsub("'", [['\'']]) .. "'"
end

local function read_all(file, mode)
  local f = assert(io.open(file, mode or "rb"))
  local text = f:read "*a"
  f:close()
  return text
end

program.read = read_all

function program.write(file, text)
  local f = assert(io.open(file, "wb"))
  f:write(text)
  f:close()
  return file
end

function program.exists(file)
  local f = io.open(file, "rb")
  if f then f:close() end
  return f ~= nil
end

-- The shell's exit status and what it printed.
function program.shell(command)
  local pipe = io.popen("(" .. command .. ") 2>&1; status=$?; echo; echo $status")
  local text = pipe:read "*a"
  pipe:close()
  local out, status = text:match "^(.-)\n?(%d+)\n$"
  return tonumber(status), out
end

local scratch

-- The scratch directory, made when it is first asked for.
function program.directory()
  if not scratch then
    local status, name = program.shell "mktemp -d"
    assert(status == 0, name)
    scratch = name:gsub("%s+$", "")
  end
  return scratch
end

-- A path in the scratch directory; with a text, a file that has it.
function program.file(name, text)
  local path = program.directory() .. "/" .. name
  return text and program.write(path, text) or path
end

-- Removes the scratch directory.
function program.sweep()
  if scratch then os.execute("rm -rf " .. program.quote(scratch)) end
  scratch = nil
end

function program.run(words, options)
  options = options or {}
  local out, err = program.file "stdout", program.file "stderr"
  local input = options.input and program.file("stdin", options.input) or "/dev/null"
  local command = ("%s %s %s %s <%s >%s 2>%s"):format(options.before or "", options.env or "",
    program.guarded, words, program.quote(input), program.quote(out),
    program.quote(err))
  local status = program.shell(command)
  return { status = status, out = read_all(out), err = read_all(err), words = words }
end

-- Fails unless the program ended with `status`, one line on stderr, and that line has `pattern`.
function program.refuses(words, status, pattern, options)
  local r = program.run(words, options)
  local told = ("cnnlua %s\nended with %d and said: %s%s"):format(words, r.status, r.err,
    r.out:sub(-300))
  if r.status ~= status then error(("%s\nexpected the status %d"):format(told, status), 0) end
  if not r.err:match "^[^\n]+\n$" then error(told .. "\nexpected one line on stderr", 0) end
  if r.err:find("stack traceback", 1, true) or r.err:find("lua/cnn/", 1, true) then
    error(told .. "\nexpected nothing of the library's insides", 0)
  end
  if not r.err:find(pattern) then
    error(("%s\nexpected the line to have '%s'"):format(told, pattern), 0)
  end
  return r
end

-- Runs that have to succeed.
function program.ok(words, options)
  local r = program.run(words, options)
  if r.status ~= 0 then
    error(("cnnlua %s\nended with %d: %s"):format(words, r.status, r.err), 0)
  end
  return r
end

return program
