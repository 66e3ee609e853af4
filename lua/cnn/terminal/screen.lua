-- screen.lua - what the terminal is: how large, and which pictures it can show.
--
--   screen.columns()  screen.rows()
--   screen.cell()     width and height of a character, in pixels
--   screen.kind()     "kitty", "iterm" and "sixel" show pixels, "blocks" half blocks in 24-bit
--                     colour, "ascii" plain characters; "none": standard output is no terminal
--   screen.has_pixels(kind)
--   screen.is_plain() true where no escape sequence may be sent: no terminal, or TERM=dumb
--
-- The environment is asked first, $CNNLUA_PICTURES before all; tmux and screen answer for
-- themselves, whatever terminal they are in. What is left is asked of the terminal itself, once: an
-- answer to the question for its attributes has a 4 where it knows sixel.
--
-- Surprising: over a slow line that answer comes when nobody waits for it any more, and would be
-- taken for typed keys. So screen.settle(), after the picture, waits for what is still owed.

local ffi = require "ffi"
local bit = require "bit"
local C = require "cnn.ffi".C
local fail = require "cnn.fail"
local files = require "cnn.files"
local guard = require "cnn.guard"

-- Under names of our own: others may declare them in their way.
ffi.cdef [[
int cnnlua_ioctl(int file, unsigned long request, ...) __asm__("ioctl");
int cnnlua_tcgetattr(int file, void *settings) __asm__("tcgetattr");
int cnnlua_tcsetattr(int file, int when, const void *settings) __asm__("tcsetattr");
int cnnlua_tcgetpgrp(int file) __asm__("tcgetpgrp");
int cnnlua_getpgrp(void) __asm__("getpgrp");
long cnnlua_tty_read(int file, void *bytes, unsigned long size) __asm__("read");
]]

-- <asm-generic/termbits.h>, <asm-generic/ioctls.h>
local termios = ffi.typeof [[struct {
  unsigned iflag, oflag, cflag, lflag;
  unsigned char line, cc[32];
  unsigned ispeed, ospeed;
}]]
local winsize = ffi.typeof "struct { unsigned short rows, columns, width, height; }"
local TIOCGWINSZ, FIONREAD = 0x5413, 0x541B
local ICANON, ECHO = 2, 8
local VTIME, VMIN = 5, 6
local TCSANOW = 0

local ATTRIBUTES = "\27[c" -- the question for the primary device attributes
local ANSWER_SECONDS, LATE_SECONDS = 0.1, 0.3

local screen = {}

-- ------------------------------------------------------------------------------------------ size

local function size()
  local found = winsize()
  if ffi.C.cnnlua_ioctl(1, TIOCGWINSZ, found) ~= 0 then return winsize() end
  return found
end

function screen.columns()
  local columns = size().columns
  return columns > 0 and columns or 80
end

function screen.rows()
  local rows = size().rows
  return rows > 0 and rows or 24
end

-- Where the terminal does not tell, the size that VT340s and most fonts have.
function screen.cell()
  local all = size()
  if all.width == 0 or all.height == 0 or all.columns == 0 or all.rows == 0 then return 8, 16 end
  return math.max(1, math.floor(all.width / all.columns)),
    math.max(1, math.floor(all.height / all.rows))
end

-- ---------------------------------------------------------------------------------- the question

local asked = { answer = nil, owed = false }

-- fn() while keys come one by one and unseen. The terminal gets its settings back in any case, and
-- Ctrl-C waits so long. A program in the background may not touch them, and gets nil.
local function in_raw_mode(fn, ...)
  local before = termios()
  if ffi.C.cnnlua_tcgetpgrp(0) ~= ffi.C.cnnlua_getpgrp()
    or ffi.C.cnnlua_tcgetattr(0, before) ~= 0 then
    return nil
  end
  local raw = termios(before)
  raw.lflag = bit.band(raw.lflag, bit.bnot(ICANON + ECHO))
  raw.cc[VMIN], raw.cc[VTIME] = 0, 1 -- a read waits a tenth of a second
  local held = guard.hold(true)
  ffi.C.cnnlua_tcsetattr(0, TCSANOW, raw)
  local ok, result = pcall(fn, ...)
  ffi.C.cnnlua_tcsetattr(0, TCSANOW, before)
  guard.hold(held)
  if not ok then error(result, 0) end
  return result
end

-- The terminal's answer, "ESC [ ? 62;4 c", or nil when it has not come by then.
local function read_answer(seconds)
  local byte, text, stop = ffi.new "char[1]", "", C.cnn_seconds() + seconds
  repeat
    if ffi.C.cnnlua_tty_read(0, byte, 1) == 1 then text = text .. ffi.string(byte, 1) end
    local answer = text:match "\27%[%?([%d;]*)c$"
    if answer then return answer end
  until C.cnn_seconds() >= stop
  return nil
end

-- What somebody has typed ahead is not ours to read: then the question has to wait.
local function ask()
  local waiting = ffi.new "int[1]"
  if ffi.C.cnnlua_ioctl(0, FIONREAD, waiting) ~= 0 or waiting[0] > 0 then return nil end
  io.stdout:write(ATTRIBUTES)
  io.stdout:flush()
  local answer = read_answer(ANSWER_SECONDS)
  asked.answer, asked.owed = answer or "", answer == nil
end

local function answers_sixel()
  if not asked.answer and files.is_terminal(0) and files.is_terminal(1) then in_raw_mode(ask) end
  return ((";" .. (asked.answer or "") .. ";"):find(";4;", 1, true)) ~= nil
end

-- Waits for an answer that is late, so that it does not end up in what is typed next.
function screen.settle()
  if not asked.owed then return end
  asked.owed = false
  asked.answer = in_raw_mode(read_answer, LATE_SECONDS) or ""
end

-- ------------------------------------------------------------------------------------------ kind

local kinds = { "kitty", "iterm", "sixel", "blocks", "ascii", "none" }

local function environment(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

local function is(name, ...)
  local value = environment(name)
  for _, known in ipairs { ... } do
    if value == known then return true end
  end
  return false
end

local function asked_for()
  local wanted = environment "CNNLUA_PICTURES"
  if not wanted then return nil end
  if not is("CNNLUA_PICTURES", unpack(kinds)) then
    fail.run("CNNLUA_PICTURES is one of %s, got '%s'", table.concat(kinds, ", "), wanted)
  end
  return wanted
end

function screen.is_plain()
  return not environment "TERM" or is("TERM", "dumb", "unknown") or not files.is_terminal(1)
end

-- Half blocks are UTF-8, which is meant where the locale says nothing else.
local function is_utf8()
  local locale = environment "LC_ALL" or environment "LC_CTYPE" or environment "LANG" or ""
  local charset = locale:match "%.([^@]*)"
  return not charset or charset:lower():gsub("%-", "") == "utf8"
end

-- They pass on what they know themselves, and not all that the terminal around them knows.
local function is_multiplexed(term)
  return environment "TMUX" or environment "STY" or term:match "^screen" or term:match "^tmux"
end

function screen.kind()
  local wanted = asked_for()
  if wanted then return wanted end
  if not files.is_terminal(1) then return "none" end
  if screen.is_plain() or environment "NO_COLOR" then return "ascii" end
  local term = environment "TERM"
  if not is_multiplexed(term) then
    if environment "KITTY_WINDOW_ID" or is("TERM", "xterm-kitty", "xterm-ghostty")
      or is("TERM_PROGRAM", "ghostty", "WezTerm") then
      return "kitty"
    end
    if is("TERM_PROGRAM", "iTerm.app", "mintty") or is("LC_TERMINAL", "iTerm2") then
      return "iterm"
    end
    if term:match "^foot" or term:match "^mlterm" or term:match "sixel" then return "sixel" end
  end
  return answers_sixel() and "sixel" or is_utf8() and "blocks" or "ascii"
end

function screen.has_pixels(kind)
  return kind == "kitty" or kind == "iterm" or kind == "sixel"
end

screen.kinds = kinds

return screen
