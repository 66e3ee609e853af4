-- editor.lua - the line editor of the prompt: GNU readline.
--
--   local editor = require "cnn.prompt.editor".open()     nil where it is not installed
--   editor:read("> ", { complete = f, idle = g })          a line; or nil, "end" | "interrupted"
--   editor:remember(text)                                  into the history, and its file
--
-- complete(line, point) -> { text, ... }, start: what may stand in place of line:sub(start, point).
-- idle() is called some times a second while nobody types; true when it has printed something.
-- A pasted text comes as one line with newlines in it.
--
-- Surprising: the library is opened at run time, and nothing of it is needed to build. It calls
-- back into Lua, which compiled code must not be around of: the whole file stays interpreted. Who
-- reads a line holds Ctrl-C (cnn.guard), so it never strikes inside the library. The library's own
-- answer to signals gives the terminal its settings back before it passes them on.

jit.off(true, true)

local ffi = require "ffi"
local guard = require "cnn.guard"
local files = require "cnn.files"
local open_library = require "cnn.library"

ffi.cdef [[
typedef void cnnlua_on_line(char *line);
typedef int cnnlua_command(int count, int key);
void rl_callback_handler_install(const char *prompt, cnnlua_on_line *handler);
void rl_callback_read_char(void);
void rl_callback_handler_remove(void);
void rl_free_line_state(void);
void rl_callback_sigcleanup(void);
void rl_check_signals(void);
int rl_initialize(void);
void rl_reset_screen_size(void);
int rl_forced_update_display(void);
int rl_add_defun(const char *name, cnnlua_command *command, int key);
void *rl_get_keymap_by_name(const char *name);
int rl_bind_keyseq_in_map(const char *keys, cnnlua_command *command, void *map);
int rl_skip_csi_sequence(int count, int key);
int rl_insert_text(const char *text);
int rl_delete_text(int first, int behind);
void rl_display_match_list(char **matches, int count, int longest);
int rl_ding(void);
extern char *rl_line_buffer;
extern int rl_point;
extern int rl_catch_signals;
extern int rl_persistent_signal_handlers;
extern const char *rl_readline_name;

int add_history(const char *line);
int read_history(const char *file);
int append_history(int count, const char *file);
int write_history(const char *file);
int history_truncate_file(const char *file, int lines);
void stifle_history(int most);
extern int history_write_timestamps;
extern char history_comment_char;

// Under names of our own: scripts declare these in their way, to sleep for example.
struct cnnlua_pollfd { int file; short wanted, got; };
int cnnlua_poll(struct cnnlua_pollfd *files, unsigned long count, int milliseconds)
  __asm__("poll");
void cnnlua_free(void *p) __asm__("free");
]]

local MOST_LINES = 10000   -- of the history's file
local MOST_MATCHES = 200   -- that Tab lists
local LONGEST = 2 ^ 16     -- characters of an input that is remembered
local IDLE_MS = 200
local POLLIN, STDIN, NO_KEY = 1, 0, -1

local Editor = {}
Editor.__index = Editor

-- ------------------------------------------------------------------------------------- completion

-- What all of them begin with.
local function common_prefix(list)
  local prefix = list[1]
  for _, text in ipairs(list) do
    local n = 0
    while n < #prefix and prefix:byte(n + 1) == text:byte(n + 1) do n = n + 1 end
    prefix = prefix:sub(1, n)
  end
  return prefix
end

local function replace(library, start, point, text)
  library.rl_delete_text(start - 1, point)
  library.rl_point = start - 1
  library.rl_insert_text(text)
end

-- Under the line, in columns; the library moves the cursor and draws the line again.
local function list_matches(library, list)
  local count, longest = math.min(#list, MOST_MATCHES), 0
  local matches = ffi.new("char *[?]", count + 3)
  local kept = {} -- the strings behind the pointers
  local function put(i, text)
    kept[i] = ffi.new("char[?]", #text + 1, text)
    matches[i] = kept[i]
    longest = math.max(longest, #text)
  end
  put(0, "")
  for i = 1, count do put(i, list[i]) end
  if #list > count then
    count = count + 1
    put(count, ("... %d more"):format(#list - MOST_MATCHES))
  end
  library.rl_display_match_list(matches, count, longest)
  library.rl_forced_update_display()
end

local function on_tab(editor)
  local library = editor.library
  local line, point = ffi.string(library.rl_line_buffer), library.rl_point
  local list, start = editor.complete(line, point)
  if not list or #list == 0 then return library.rl_ding() end
  local prefix = common_prefix(list)
  if prefix ~= line:sub(start, point) and (#list == 1 or #prefix > point - start + 1) then
    replace(library, start, point, prefix)
  elseif #list > 1 then
    list_matches(library, list)
  end
end

-- ---------------------------------------------------------------------------------------- reading

local function on_line(editor, line)
  editor.library.rl_callback_handler_remove() -- the terminal is the program's again
  if line == nil then
    editor.ended = "end"
  else
    editor.line = ffi.string(line)
    ffi.C.cnnlua_free(line)
  end
end

-- Callbacks live as long as the program, so there is one pair for all editors. An error must not
-- leave them: C is around.
local current
local handler = ffi.cast("cnnlua_on_line *", function(line)
  pcall(on_line, current, line)
end)
local tab = ffi.cast("cnnlua_command *", function()
  if current.complete then pcall(on_tab, current) end
  return 0
end)

local function forget_line(library)
  library.rl_free_line_state()
  library.rl_callback_sigcleanup()
  library.rl_callback_handler_remove()
end

-- A signal may have stopped the program and another one let it go on: then the line is drawn again.
local function wait(library, waiting, idle)
  local ready = ffi.C.cnnlua_poll(waiting, 1, IDLE_MS)
  library.rl_check_signals()
  if guard.interrupted() then return end
  if ready > 0 then
    library.rl_callback_read_char()
  elseif ready < 0 or idle and idle() then
    library.rl_forced_update_display()
  end
end

function Editor:read(prompt, options)
  local library = self.library
  local waiting = ffi.new("struct cnnlua_pollfd[1]", { { STDIN, POLLIN, 0 } })
  current, self.line, self.ended = self, nil, nil
  self.complete = options.complete
  io.stdout:flush()
  library.rl_reset_screen_size()
  library.rl_callback_handler_install(prompt, handler)
  while not self.line and not self.ended and not guard.interrupted() do
    wait(library, waiting, options.idle)
  end
  if not guard.interrupted() then return self.line, self.ended end
  forget_line(library)
  guard.clear(true)
  return nil, "interrupted"
end

-- ---------------------------------------------------------------------------------------- history

-- $XDG_STATE_HOME/cnnlua/history, by default ~/.local/state; nil and why where there can be none.
local function history_file()
  local state = os.getenv "XDG_STATE_HOME"
  if not state or state:sub(1, 1) ~= "/" then
    local home = os.getenv "HOME"
    if not home or home == "" then return nil, "neither XDG_STATE_HOME nor HOME is set" end
    state = home .. "/.local/state"
  end
  local why = files.make_directory(state .. "/cnnlua")
  if why then return nil, why end
  return state .. "/cnnlua/history"
end

-- Reads it; or makes a new one, which nobody else can read. Why that is not possible, or nil.
local function read_history(library, file)
  if not files.exists(file) then return library.write_history(file) end
  library.history_truncate_file(file, MOST_LINES)
  library.read_history(file)
  return library.append_history(0, file)
end

-- With a time at each entry, one of several lines is still one when it is read again.
local function open_history(editor)
  local library = editor.library
  library.history_comment_char = ("#"):byte()
  library.history_write_timestamps = 1
  library.stifle_history(MOST_LINES)
  local file, problem = history_file()
  local number = file and read_history(library, file) or 0
  if number ~= 0 then problem = files.reason(file, number) end
  editor.file, editor.problem = not problem and file or nil, problem
end

-- What was typed, once in a row; written at once, so that no end of the program loses it.
function Editor:remember(text)
  if text == self.last or #text > LONGEST or not text:find "%S" then return end
  self.last = text
  self.library.add_history(text)
  if self.file then self.library.append_history(1, self.file) end
end

-- ------------------------------------------------------------------------------------------- open

-- Whatever the user's inputrc says: Tab completes while one types, with the keys of vi as well, and
-- a terminal's late answer to a question (ESC [ ? 62 c) types nothing.
local function bind_keys(library)
  library.rl_add_defun("cnnlua-complete", tab, NO_KEY)
  library.rl_initialize()
  for _, name in ipairs { "emacs", "vi-insert" } do
    local map = library.rl_get_keymap_by_name(name)
    library.rl_bind_keyseq_in_map("\\t", tab, map)
    library.rl_bind_keyseq_in_map("\\e[", library.rl_skip_csi_sequence, map)
  end
end

-- `problem` of it says why there is no history file, if there is none.
return {
  open = function()
    local library = open_library("libreadline.so.8", "readline")
    if not library then return nil end
    local editor = setmetatable({ library = library }, Editor)
    library.rl_readline_name = "cnnlua"
    library.rl_catch_signals, library.rl_persistent_signal_handlers = 1, 1
    bind_keys(library)
    open_history(editor)
    return editor
  end,
}
