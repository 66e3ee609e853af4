-- docs.lua - reads the docstrings: comment blocks above the functions that users type.
--
--   docs.entry "nn.Conv2d"    docs.at("cnn/data.lua", 80): of the function defined in that line
--   docs.names(), docs.entries(): sorted by name        docs.read(lines, file): of one block
--
-- A block begins with "--- " and the signature, which may go on in lines that begin "---   "; text
-- and the fields below follow, each up to the next; the first line that is no comment ends it.
-- An entry is { name, signature, text, fields = { Shapes = "..." }, options = { { name, default,
-- text } ... }, file, line }. Options are the names in the signature's last braces. The field
-- Options says "stride: what it is; padding: ...", or "as cnn.zeros", and each option gets its
-- text; what is about none of them stays in the field. Ops come out of core/cnn.h and ops.lua; a
-- block with an op's name (x:pad) says what Lua adds to it.
--
-- Surprising: nothing is generated ahead. The program reads its own embedded sources, a stock
-- luajit the files around this one, so what help says is what the code beside it says.

local catalogue = require "cnn.catalogue"
local engine = require "cnn.ffi"
local files = require "cnn.files"

local docs = {}

docs.fields = { "Shapes", "Options", "Errors", "Example", "Source", "See" }

local is_field = {}
for _, name in ipairs(docs.fields) do is_field[name] = true end

-- --------------------------------------------------------------------------------------- a block

-- The pieces of a list that are separated by commas outside of brackets.
local function split(list)
  local pieces, depth, from = {}, 0, 1
  for at, c in (list .. ","):gmatch "()([{}(),])" do
    if c == "," and depth == 0 then
      pieces[#pieces + 1] = list:sub(from, at - 1):match "^%s*(.-)%s*$"
      from = at + 1
    elseif c ~= "," then
      depth = depth + (c:find "[{(]" and 1 or -1)
    end
  end
  return pieces
end

local function options_of(signature)
  local options, last = {}, nil
  for list in signature:gmatch "%b{}" do last = list end
  if not last or not signature:find "}%s*%)?$" then return options end
  for _, piece in ipairs(split(last:sub(2, -2))) do
    local name, default = piece:match "^([%a_][%w_]*)%s*=?%s*(.*)$"
    if name then
      options[#options + 1] = { name = name, default = default ~= "" and default or nil }
    end
  end
  return options
end

local function join(text, line, separator)
  if not text or text == "" then return line end
  return text .. separator .. line
end

-- The options that "stride, padding: a number" is about, and what it says; nil where it is about
-- none.
local function options_named(by_name, clause)
  local names, text = clause:match "^([%w_, ]+): (.*)$"
  local named = {}
  for name in (names or ""):gmatch "[^%s,]+" do
    if not by_name[name] then return nil, clause end
    named[#named + 1] = by_name[name]
  end
  if #named == 0 then return nil, clause end
  return named, text
end

-- Gives each option its text, of "stride: what it is; padding: ...", and returns what is about
-- none: what comes before the first, and "the others: ...".
local function describe(options, field)
  local by_name, about, rest = {}, nil, {}
  for _, option in ipairs(options) do by_name[option.name] = option end
  for clause in (field .. ";"):gmatch "%s*(.-);" do
    local named, text = options_named(by_name, clause)
    about = named or not clause:find "^the others: " and about or nil
    if about then
      for _, option in ipairs(about) do
        option.text = join(not named and option.text, text, "; ")
      end
    else
      rest[#rest + 1] = clause
    end
  end
  return table.concat(rest, "; ")
end

-- "x:narrow(axis, ...)" -> "x:narrow"
local function name_of(signature) return signature:match "^[%w_.:%[%]]+" end

-- lines: those of one comment, the first being the signature. Lines of an example stay lines.
function docs.read(lines, file)
  local signature, text, fields, open = nil, "", {}, nil
  for i, line in ipairs(lines) do
    local more = line:match "^%-%-%-%s+(.*)$"
    line = line:gsub("^%-%-+ ?", "")
    local name, rest = line:match "^(%u%l+): ?(.*)$"
    if more and (i == 1 or not open and text == "") then
      signature = join(signature, more, " ")
    elseif is_field[name] then
      open = name
      fields[open] = join(fields[open], rest, " ")
    elseif open then
      line = line:gsub(open == "Example" and "^  " or "^%s+", "")
      fields[open] = join(fields[open], line, open == "Example" and "\n" or " ")
    else
      text = join(text, line, " ")
    end
  end
  if not signature then return nil end
  local options = options_of(signature)
  if fields.Options then fields.Options = describe(options, fields.Options) end
  return {
    name = name_of(signature), signature = signature, text = text, fields = fields, file = file,
    options = options,
  }
end

-- The comment's lines from position `at` on, up to the next block; and the position after it.
local function comment_at(text, at)
  local lines = {}
  while true do
    local line, next_at = text:match("([^\n]*)\n()", at)
    if not line or line:sub(1, 2) ~= "--" or #lines > 0 and line:find "^%-%-%- %S" then
      return lines, at
    end
    lines[#lines + 1], at = line, next_at
  end
end

local function count_lines(text, from, to)
  local n = 0
  for _ in text:sub(from, to):gmatch "\n" do n = n + 1 end
  return n
end

-- Adds the entries of one file to the list. `line` is that below the block.
local function read_file(list, file, text)
  local at, counted, line = 1, 1, 1
  text = "\n" .. text
  while true do
    local found = text:find("\n--- ", at, true)
    if not found then return end
    local lines, next_at = comment_at(text, found + 1)
    local entry = docs.read(lines, file)
    line, counted, at = line + count_lines(text, counted, next_at - 1), next_at, next_at - 1
    entry.line = line - 1
    list[#list + 1] = entry
  end
end

-- ------------------------------------------------------------------------------------- the sources

-- "cnn/data.lua" of "lua/cnn/data.lua", wherever that lies.
local function short(file) return file:match "(cnn%.lua)$" or file:match ".*(cnn/.*)$" end

-- Of the files around this one: a table by name, as host.sources gives it.
local function found_files()
  local root = debug.getinfo(1, "S").source:match "^@(.*)cnn/prompt/docs%.lua$"
  local texts = { [root .. "cnn.lua"] = files.read(root .. "cnn.lua") }
  local pipe = io.popen(("find %s -name '*.lua'"):format(files.shell(root .. "cnn")))
  for file in pipe:lines() do texts[file] = files.read(file) end
  pipe:close()
  return texts
end

local function sources()
  if package.preload["cnn.prompt.docs"] then return require "cnn.host".sources() end
  return found_files()
end

-- --------------------------------------------------------------------------------------- the ops

local function op_entry(op, doc, sheet)
  local is_method = op.parameters[1].kind == "tensor"
  return {
    name = (is_method and "x:" or "cnn.") .. op.name, signature = catalogue.signature(op),
    text = doc.text, options = {}, file = "core/cnn.h",
    fields = {
      Shapes = doc.shapes, Source = doc.source, Errors = sheet.errors, Example = sheet.example,
    },
  }
end

-- What a block says comes before what the header says.
local function merge(entry, block)
  for name, value in pairs(entry.fields) do block.fields[name] = block.fields[name] or value end
  if block.text == "" then block.text = entry.text end
end

local function add_ops(list)
  local by_name = {}
  for _, entry in ipairs(list) do by_name[entry.name] = entry end
  local comments, sheets = catalogue.docs(engine.header), require "cnn.prompt.ops"
  for _, op in ipairs(catalogue.parse(engine.header)) do
    local entry = op_entry(op, comments[op.name], sheets[op.name] or {})
    local block = by_name[entry.name]
    if block then merge(entry, block) else list[#list + 1] = entry end
  end
end

-- ------------------------------------------------------------------------------------- all of them

-- x:narrow and x.narrow are one name, and so are cnn.optim.SGD and optim.SGD.
local function key_of(name) return (name:gsub(":", "."):gsub("^cnn%.", "")) end

-- "as cnn.zeros" and "the others: as cnn.zeros": options without a text get theirs from there.
local function inherit(entry, by_key)
  local field = (entry.fields.Options or ""):gsub("^the others: ", "")
  local other = by_key[key_of(field:match "^as ([%w_.:]+)$" or field:match "^as for (%S+)$" or "")]
  if not other then return end
  local texts = {}
  for _, option in ipairs(other.options) do texts[option.name] = option.text end
  for _, option in ipairs(entry.options) do option.text = option.text or texts[option.name] end
  entry.fields.Options = ""
end

-- Entries without a See get those that see them: of x:relu that is nn.ReLU.
local function see_back(list, by_key)
  local from = {}
  for _, entry in ipairs(list) do
    for name in (entry.fields.See or ""):gmatch "[^, ]+" do
      local other = by_key[key_of(name)]
      if other and not other.fields.See then from[other] = join(from[other], entry.name, ", ") end
    end
  end
  for entry, names in pairs(from) do entry.fields.See = names end
end

local loaded -- { list =, by_key =, by_place = }, once it was asked for

local function load()
  if loaded then return loaded end
  local list = {}
  for file, text in pairs(sources()) do read_file(list, short(file), text) end
  add_ops(list)
  table.sort(list, function(a, b) return a.name < b.name end)
  loaded = { list = list, by_key = {}, by_place = {} }
  for _, entry in ipairs(list) do
    loaded.by_key[key_of(entry.name)] = entry
    if entry.line then loaded.by_place[entry.file .. ":" .. entry.line] = entry end
  end
  for _, entry in ipairs(list) do inherit(entry, loaded.by_key) end
  see_back(list, loaded.by_key)
  return loaded
end

function docs.entries() return load().list end

function docs.names()
  local names = {}
  for i, entry in ipairs(load().list) do names[i] = entry.name end
  return names
end

function docs.entry(name) return load().by_key[key_of(name)] end

-- The entry of a function of the library, by where it was defined.
function docs.at(source, line)
  local file = short(source)
  return file and load().by_place[file .. ":" .. line]
end

return docs
