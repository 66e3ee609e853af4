-- process.lua - other programs: run to their end within a time limit, or served over a pipe.
--
--   local r = process.run("build/cnnlua doctor", { seconds = 10, env = { CNN_SYNC = 1 } })
--   r.status (124: out of time), r.out, r.err, r.seconds
--
--   local server = process.serve(name, command, scratch, seconds)
--                                                    which answers a line with a line
--   server:ask("go 1") -> its line, or nil and why;  server:close(), which tells it "quit"
--
-- Surprising: what runs inside a part must die with the part, so `timeout` is told to stay in the
-- foreground: then it makes no process group of its own, and the part's limit reaches its children.

local ffi = require "ffi"
local C = require "cnn.ffi".C
local files = require "cnn.files"

ffi.cdef [[
typedef void (*process_handler)(int);
process_handler signal(int number, process_handler handler);
int getpid(void);
]]

local SIGPIPE, IGNORE = 13, 1
local OUT_OF_TIME = 124

local process = { quote = files.shell, OUT_OF_TIME = OUT_OF_TIME }

-- A server that died answers with an error of write, not with the end of this program.
ffi.C.signal(SIGPIPE, ffi.cast("process_handler", IGNORE))

function process.read(file)
  return files.read(file) or ""
end

function process.write(file, text)
  local f = assert(io.open(file, "wb"))
  f:write(text)
  f:close()
  return file
end

-- The first line of what a command prints, or nil.
function process.line(command)
  local pipe = io.popen("(" .. command .. ") 2>/dev/null", "r")
  local line = pipe:read "*l"
  pipe:close()
  return line
end

local function environment(env)
  local words = {}
  for name, value in pairs(env or {}) do
    words[#words + 1] = name .. "=" .. files.shell(tostring(value))
  end
  table.sort(words)
  return #words > 0 and "env " .. table.concat(words, " ") .. " " or ""
end

-- The last line that says something.
function process.last(text)
  local last
  for line in text:gmatch "[^\n]+" do
    if line:find "%S" then last = line end
  end
  return last
end

local runs = 0

-- options: scratch (a directory, needed), seconds, env
function process.run(command, options)
  runs = runs + 1
  local out = ("%s/run-%d-%d.out"):format(options.scratch, ffi.C.getpid(), runs)
  local err = out:gsub("out$", "err")
  local limited = ("%stimeout --foreground -k 2 %.2f %s"):format(environment(options.env),
    math.max(0.1, options.seconds or 60), command)
  local started = C.cnn_seconds()
  local status = process.line(("%s </dev/null >%s 2>%s; echo $?"):format(limited, files.shell(out),
    files.shell(err)))
  -- the group's redirection of errors is the shell's own; the command's are in the file
  local r = {
    status = tonumber(status) or -1, seconds = C.cnn_seconds() - started,
    out = process.read(out), err = process.read(err), command = command,
  }
  os.remove(out)
  os.remove(err)
  return r
end

-- How a command ended, in words: with its last line.
function process.ending(r)
  local said = process.last(r.err) or process.last(r.out)
  local how = r.status == OUT_OF_TIME and ("out of time after %.0f s"):format(r.seconds)
    or r.status > 128 and ("ended by signal %d"):format(r.status - 128)
    or ("ended with status %d"):format(r.status)
  return said and how .. ": " .. said or how
end

-- --------------------------------------------------------------------------------------- servers

local Server = {}
Server.__index = Server

function Server:ask(line)
  if self.dead then return nil, self.dead end
  local ok = self.go:write(line, "\n") and self.go:flush()
  local answer = ok and self.answers:read "*l"
  if answer then return answer end
  local said = process.last(process.read(self.errors))
  self.dead = self.name .. " ended" .. (said and ": " .. said or " without a word")
  return nil, self.dead
end

-- "quit", because the end of its input would not come while a later server holds a copy of the
-- pipe's other end.
function Server:close()
  if not self.dead then self.go:write "quit\n" end
  self.go:close()
  self.answers:close()
end

local servers = 0

function process.serve(name, command, scratch, seconds)
  servers = servers + 1
  local base = ("%s/serve-%d-%d"):format(scratch, ffi.C.getpid(), servers)
  local pipe, errors = base .. ".pipe", base .. ".err"
  if os.execute("mkfifo " .. files.shell(pipe)) ~= 0 then error("mkfifo failed", 0) end
  local answers = io.popen(("timeout --foreground -k 2 %.0f %s <%s 2>%s"):format(seconds, command,
    files.shell(pipe), files.shell(errors)), "r")
  local go = assert(io.open(pipe, "w"))
  os.remove(pipe)
  return setmetatable({ name = name, go = go, answers = answers, errors = errors }, Server)
end

return process
