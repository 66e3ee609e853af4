-- pty.lua - a terminal that the spec plays itself: it answers the program's questions, or does not.
--
--   local t = pty.open(80, 24)          nil where there are no pseudo-terminals
--   t:start("-e 'CODE'", env)           the program, with the pty as its terminal; at its end
--                                       "<ended STATUS>" is written
--   t:wait("pattern", seconds)          what it has written up to there, or nil
--   t:answer "\27[?62;4c"               as if typed            t:close()
--
-- Surprising: the pty has the usual settings, so its driver repeats what is typed while nobody has
-- switched that off; a spec that waits for "^[" sees an answer that the program did not take.

local ffi = require "ffi"
local program = require "spec.support.program"

ffi.cdef [[
int cnnlua_pty_open(int flags) __asm__("posix_openpt");
int cnnlua_pty_grant(int file) __asm__("grantpt");
int cnnlua_pty_unlock(int file) __asm__("unlockpt");
char *cnnlua_pty_name(int file) __asm__("ptsname");
int cnnlua_pty_ioctl(int file, unsigned long request, ...) __asm__("ioctl");
int cnnlua_pty_fcntl(int file, int command, ...) __asm__("fcntl");
long cnnlua_pty_read(int file, void *bytes, unsigned long size) __asm__("read");
long cnnlua_pty_write(int file, const void *bytes, unsigned long size) __asm__("write");
int cnnlua_pty_close(int file) __asm__("close");
int cnnlua_pty_sleep(unsigned microseconds) __asm__("usleep");
]]

local O_RDWR, O_NOCTTY, O_NONBLOCK, F_SETFL, TIOCSWINSZ = 2, 256, 2048, 4, 0x5414
local POLL = 0.005

local pty = {}

local Pty = {}
Pty.__index = Pty

function pty.open(columns, rows)
  local file = ffi.C.cnnlua_pty_open(O_RDWR + O_NOCTTY)
  if file < 0 or ffi.C.cnnlua_pty_grant(file) ~= 0 or ffi.C.cnnlua_pty_unlock(file) ~= 0 then
    return nil
  end
  ffi.C.cnnlua_pty_fcntl(file, F_SETFL, ffi.new("int", O_NONBLOCK))
  ffi.C.cnnlua_pty_ioctl(file, TIOCSWINSZ, ffi.new("unsigned short[4]", rows, columns, 0, 0))
  local name = ffi.string(ffi.C.cnnlua_pty_name(file))
  return setmetatable({ file = file, name = name, text = "" }, Pty)
end

-- Of what tells terminals apart only TERM is handed on.
local quiet = "env -u TMUX -u STY -u KITTY_WINDOW_ID -u TERM_PROGRAM -u LC_TERMINAL -u NO_COLOR "
  .. "-u CNNLUA_PICTURES TERM=xterm-256color "

function Pty:start(words, env)
  os.execute(("(%s %s setsid -c %s %s <%s >%s 2>&1; printf '<ended %%s>' $? >%s) &"):format(quiet,
    env or "", program.guarded, words, self.name, self.name, self.name))
end

local bytes = ffi.new "char[4096]"

function Pty:read()
  local n = tonumber(ffi.C.cnnlua_pty_read(self.file, bytes, 4096))
  if n > 0 then self.text = self.text .. ffi.string(bytes, n) end
  return n > 0
end

function Pty:wait(pattern, seconds)
  for _ = 1, (seconds or 10) / POLL do
    while self:read() do end -- luacheck: ignore 542
    local _, ending = self.text:find(pattern)
    if ending then
      local text = self.text:sub(1, ending)
      self.text = self.text:sub(ending + 1)
      return text
    end
    ffi.C.cnnlua_pty_sleep(POLL * 1e6)
  end
  return nil
end

function Pty:answer(text) ffi.C.cnnlua_pty_write(self.file, text, #text) end

function Pty:close() ffi.C.cnnlua_pty_close(self.file) end

return pty
