-- terminal.lua - the program in a terminal of its own: tmux gives one, types, and reads the screen.
--
--   local t = terminal.start("-i models/bn_lenet.lua", { columns = 80, env = "TERM=dumb" })
--   t:type "1 + 1"   t:keys("Enter", "C-c", "Tab")   t:paste(text)   t:wait "pattern"   t:screen()
--   t:stop()
--
-- terminal.missing() says why there can be none, or nil. Each wait has a limit, and an error shows
-- the screen, which is without blanks at its end. Surprising: tmux runs with an empty configuration
-- and a server for each terminal, so whoever runs the specs inside tmux notices nothing.

local ffi = require "ffi"
local program = require "spec.support.program"

pcall(ffi.cdef, "int usleep(unsigned microseconds);")

local terminal = {}

local Terminal = {}
Terminal.__index = Terminal

local LONGEST_WAIT = 30  -- seconds, on a machine with other things to do
local POLL = 0.02

-- The program's exit status and what it printed.
local function tmux(self, words)
  return program.shell(("tmux -u -S %s -f /dev/null %s"):format(program.quote(self.socket), words))
end

local running = {}

local function new()
  local self = setmetatable({ socket = program.file("terminal-" .. #running + 1) }, Terminal)
  running[#running + 1] = self
  return self
end

function terminal.missing()
  local self = new()
  local status = tmux(self, "new-session -d 'sleep 1'")
  self:stop()
  return status ~= 0 and "needs tmux and a pseudo-terminal" or nil
end

-- The state directory, with the history in it, is the scratch directory's unless env says more.
function terminal.start(words, options)
  options = options or {}
  local self = new()
  local command = ("env -u NO_COLOR -u CNNLUA_PICTURES XDG_STATE_HOME=%s %s %s %s; "
    .. "status=$?; echo; echo ended $status; sleep 60"):format(program.quote(program.file "state"),
    options.env or "", program.quote(program.command), words or "")
  local status, why = tmux(self, ("new-session -d -x %d -y %d %s"):format(options.columns or 80,
    options.rows or 24, program.quote(command)))
  if status ~= 0 then error("tmux: " .. why, 2) end
  return self
end

-- What is on the screen, without the blanks at the ends of its lines; with "-e" colours too.
function Terminal:screen(flags)
  local _, text = tmux(self, "capture-pane -p " .. (flags or ""))
  return (text:gsub("%s+$", ""))
end

-- Until the screen has the pattern; returns its captures, or the match.
function Terminal:wait(pattern)
  local screen
  for _ = 1, LONGEST_WAIT / POLL do
    screen = self:screen()
    local found = { screen:match(pattern) }
    if found[1] then return unpack(found) end
    ffi.C.usleep(POLL * 1e6)
  end
  error(("the screen never had '%s':\n%s"):format(pattern, screen), 2)
end

function Terminal:keys(...)
  for _, key in ipairs { ... } do
    tmux(self, "send-keys " .. program.quote(key))
  end
  return self
end

-- Letters as they are, without Enter.
function Terminal:type(text)
  tmux(self, "send-keys -l " .. program.quote(text))
  return self
end

function Terminal:enter(text)
  return self:type(text):keys "Enter"
end

-- As a terminal pastes: in brackets, if the program asked for them.
function Terminal:paste(text)
  local file = program.file("paste", text)
  tmux(self, "load-buffer " .. program.quote(file))
  tmux(self, "paste-buffer -p")
  return self
end

function Terminal:resize(columns, rows)
  tmux(self, ("resize-window -x %d -y %d"):format(columns, rows))
  return self
end

function Terminal:stop()
  tmux(self, "kill-server")
end

-- Ends all that are left.
function terminal.sweep()
  for _, self in ipairs(running) do self:stop() end
  running = {}
end

return terminal
