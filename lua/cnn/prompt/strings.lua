-- strings.lua - what completes inside a string: names of files, of layers, of keys, of modules.
--
--   strings.complete(words, scope, add) -> the position from which on a candidate replaces
--
-- The last of the words is the unfinished string; add(text, goes_on) takes each candidate, where
-- goes_on says that it is not the end, as that of a directory. What is wanted is known from what
-- the string is an argument of; a string with a slash is a file's name in any case.
--
-- Surprising: "~/" is written out, since nothing in Lua knows what it means.

local ffi = require "ffi"
local callee = require "cnn.prompt.callee"
local expression = require "cnn.prompt.expression"
local members = require "cnn.members"
local quoting = require "cnn.prompt.quoting"
local values = require "cnn.prompt.values"

-- Under names of our own: others may declare them in their way. The entry is that of 64-bit Linux.
ffi.cdef [[
struct cnnlua_entry {
  uint64_t inode;
  int64_t offset;
  unsigned short length;
  unsigned char kind;
  char name[256];
};
void *cnnlua_opendir(const char *path) __asm__("opendir");
struct cnnlua_entry *cnnlua_readdir(void *directory) __asm__("readdir");
int cnnlua_closedir(void *directory) __asm__("closedir");
int cnnlua_access(const char *path, int mode) __asm__("access");
]]

local DIRECTORY, LINK, UNKNOWN = 4, 10, 0 -- kinds
local THERE = 0
local MOST_ENTRIES = 20000

local strings = {}

-- -------------------------------------------------------------------------------- what was typed

-- words, scope, add: as above; opening: the quote; typed: what stands behind it, as it is written.
-- Each of the functions below returns how many bytes of what was typed stay, or nil.
local String = {}
String.__index = String

local function new_string(words, scope, add)
  local text = words[#words].text
  local opening = text:match "^%[=*%[" or text:sub(1, 1)
  return setmetatable({
    words = words, scope = scope, add = add, opening = opening, typed = text:sub(#opening + 1),
  }, String)
end

-- What a part of it means, or nil in the middle of an escape.
function String:meaning(part)
  if #self.opening > 1 then return part end
  local chunk = loadstring("return " .. self.opening .. part .. self.opening)
  return chunk and chunk()
end

function String:quote(text)
  return #self.opening > 1 and text or quoting.escape(text, self.opening)
end

local function begins(text, with) return text:sub(1, #with) == with end

-- ------------------------------------------------------------------------------------------ files

-- Also of a link to one.
local function is_directory(folder, name, kind)
  if kind ~= LINK and kind ~= UNKNOWN then return kind == DIRECTORY end
  return ffi.C.cnnlua_access(folder .. "/" .. name .. "/.", THERE) == 0
end

-- visit(name, is_directory) for what is in a directory.
local function each_entry(folder, visit)
  local directory = ffi.C.cnnlua_opendir(folder)
  if directory == nil then return end
  for _ = 1, MOST_ENTRIES do
    local entry = ffi.C.cnnlua_readdir(directory)
    if entry == nil then break end
    local name, kind = ffi.string(entry.name), entry.kind
    if name ~= "." and name ~= ".." then visit(name, is_directory(folder, name, kind)) end
  end
  ffi.C.cnnlua_closedir(directory)
end

-- Those that begin with a dot only where a dot was typed.
function String:files()
  local head, tail = self.typed:match "^(.*/)([^/]*)$"
  local folder, word = self:meaning(head or "./"), self:meaning(tail or self.typed)
  if not folder or not word then return nil end
  local home = begins(folder, "~/") and os.getenv "HOME"
  if home then folder = home .. folder:sub(2) end
  local before = home and self:quote(folder) or ""
  each_entry(folder, function(name, is_folder)
    if begins(name, word) and (word ~= "" or not begins(name, ".")) then
      self.add(before .. self:quote(name) .. (is_folder and "/" or ""), is_folder)
    end
  end)
  return home and 0 or #(head or "")
end

-- ----------------------------------------------------------------------------------------- layers

-- One step of the path at a time: "b3.1" and "b3[1]" are the same.
function String:layers(net)
  local head, tail = self.typed:match "^(.*[.%[])([^.%[]*)$"
  local word, open = tail or self.typed, head and head:sub(-1) == "["
  local path = (head or ""):gsub("^net%.", ""):gsub("%]?[.%[]", ".")
  for name in net:named_modules() do
    local step, more = name:match("^([^.]+)(.*)$", #path + 1)
    if step and begins(name, path) and begins(step, word) then
      self.add(step .. (open and "]" or ""), more ~= "" or open)
    end
  end
  return #(head or "")
end

-- ------------------------------------------------------------------------------- modules and keys

-- What require knows: loaded ones, built-in ones, and files below package.path.
function String:modules()
  local head = self.typed:match "^.*%." or ""
  local function offer(name)
    local step, more = name:match("^([^.]+)(.*)$", #head + 1)
    if step and begins(name, self.typed) then self.add(step, more ~= "") end
  end
  for _, known in ipairs { package.loaded, package.preload } do
    for name in pairs(known) do offer(tostring(name)) end
  end
  for before, after in package.path:gmatch "([^;?]*)%?([^;]*)" do
    each_entry(before .. head:gsub("%.", "/"), function(name, is_folder)
      if is_folder and not name:find("[^%w_]") then offer(head .. name .. ".") end
      if name:sub(-#after) == after then offer(head .. name:sub(1, -#after - 1)) end
    end)
  end
  return #head
end

-- t["
function String:keys()
  local word = self:meaning(self.typed)
  if not word then return nil end
  values.fields(expression.value(self.words, #self.words - 2, self.scope), function(name)
    if begins(name, word) then self.add(self:quote(name)) end
  end)
  return 0
end

-- --------------------------------------------------------------------------------- what it is for

-- Names of parameters and options.
local file_names, layer_names = {}, {}
for name in ("file filename dir directory folder script out weights resume runs"):gmatch "%l+" do
  file_names[name] = true
end
for name in ("path layer layers what"):gmatch "%l+" do layer_names[name] = true end

-- The net whose layers are meant in a call of words[last]: what the method is called on, or the
-- first argument.
function String:net(last, called)
  if members.is_module(called.receiver) then return called.receiver end
  for i = last + 2, #self.words do
    if expression.is(self.words[i], ",") then
      local value = expression.value(self.words, i - 1, self.scope)
      return members.is_module(value) and value or nil
    end
  end
end

-- What a parameter or an option of that name may be.
function String:named(name, last, called)
  local net = layer_names[name] and self:net(last, called)
  if net then return self:layers(net) end
  if file_names[name] or name == "path" then return self:files() end
end

function String:argument(last, number)
  if self.words[last].text == "require" then return self:modules() end
  local called = callee.find(self.words, last, self.scope)
  return self:named(called.parameters[number], last, called)
end

-- { dir = ", or one of the values that the option's help has in quotes.
function String:option()
  local words = self.words
  local name, open = words[#words - 2], expression.enclosing(words, #words - 1)
  if not name or name.kind ~= "name" or not expression.is(words[open], "{") then return nil end
  local last = expression.call(words, open - 1)
  local called = last and callee.find(words, last, self.scope)
  if not called then return nil end
  for _, option in ipairs(called.entry and called.entry.options or {}) do
    if option.name == name.text then
      for value in ((option.default or "") .. (option.text or "")):gmatch '"([%w_:%-]+)"' do
        if begins(value, self.typed) then self.add(value) end
      end
    end
  end
  return self:named(name.text, last, called) or 0
end

function String:complete()
  local before = self.words[#self.words - 1]
  local last, number = expression.call(self.words, #self.words - 1)
  local kept
  if last then
    kept = self:argument(last, number)
  elseif expression.is(before, "[") then
    kept = self:keys()
  elseif expression.is(before, "=") then
    kept = self:option()
  end
  if not kept and self.typed:find("/", 1, true) then kept = self:files() end
  return kept or #self.typed
end

function strings.complete(words, scope, add)
  local string = new_string(words, scope, add)
  return words[#words].first + #string.opening + string:complete()
end

return strings
