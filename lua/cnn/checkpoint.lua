-- checkpoint.lua - safetensors files: data only, checked before a byte of them is used.
--
--   checkpoint.write(file, { { name, tensor }, ... }, metadata)     as one piece, or not at all
--   local saved = checkpoint.open(file)    saved.tensors[name]: dtype, shape, offset; .metadata
--   checkpoint.read(saved, name, tensor)   into a tensor of the same shape, or into a new one
--   checkpoint.save(net, file)             checkpoint.load(net, file, { strict = true }) -> account
--
-- The format (Hugging Face): 8 bytes little-endian length, a JSON header, the values. Surprising:
-- load compares all names and shapes before it changes the net, so a file that does not fit leaves
-- the net as it was.

local ffi = require "ffi"
local C = require "cnn.ffi".C
local err = require "cnn.error"
local argument = require "cnn.argument"
local autograd = require "cnn.autograd"
local create = require "cnn.create"
local handle = require "cnn.handle"
local some = require "cnn.text".some

local checkpoint = {}

-- What the names of an optimizer's tensors start with, beside a net's weights.
checkpoint.STATE = "optimizer."

local HEADER_LIMIT = 100e6

local code_of = { f32 = "F32", bf16 = "BF16", u8 = "U8", i32 = "I32" }
local dtype_of = { F32 = "f32", BF16 = "bf16", U8 = "u8", I32 = "i32" }
local floats = { f32 = true, bf16 = true }
local bytes_of = {
  BOOL = 1, U8 = 1, I8 = 1, F8_E5M2 = 1, F8_E4M3 = 1, I16 = 2, U16 = 2, F16 = 2, BF16 = 2,
  I32 = 4, U32 = 4, F32 = 4, F64 = 8, I64 = 8, U64 = 8,
}

local function shape_text(shape)
  return #shape == 0 and "()" or table.concat(shape, "x")
end

-- ------------------------------------------------------------------------------------------ write

local METADATA = "__metadata__"

-- The format has strings only.
local function check_strings(metadata)
  if type(metadata) ~= "table" then
    err.raise("save: metadata: expected a table of strings by name, got " .. err.got(metadata))
  end
  for key, value in pairs(metadata) do
    if type(key) ~= "string" then
      err.raise("save: metadata: expected strings as names, got " .. err.got(key))
    end
    if type(value) ~= "string" then
      err.raise(("save: metadata: %s: expected a string, got %s"):format(key, err.got(value)))
    end
  end
end

local function header_of(list, metadata)
  local encode = require "cjson".encode
  local parts, offset, taken = {}, 0, { [METADATA] = true }
  if metadata ~= nil then
    check_strings(metadata)
    parts[1] = encode(METADATA) .. ":" .. encode(metadata)
  end
  for _, item in ipairs(list) do
    local name, tensor = item[1], item[2]
    if taken[name] then err.raise(("save: two tensors would have the name '%s'"):format(name)) end
    taken[name] = true
    local code = code_of[ffi.string(C.cnn_dtype(tensor))]
    if not code then err.raise(("save: '%s' was given back when its step ended"):format(name)) end
    local sizes = {}
    for axis, size in ipairs(tensor:shape()) do sizes[axis] = ("%.0f"):format(size) end
    local stop = offset + bytes_of[code] * tonumber(C.cnn_numel(tensor))
    parts[#parts + 1] = ('%s:{"dtype":"%s","shape":[%s],"data_offsets":[%.0f,%.0f]}'):format(
      encode(name), code, table.concat(sizes, ","), offset, stop)
    offset = stop
  end
  local text = "{" .. table.concat(parts, ",") .. "}"
  return text .. (" "):rep(-#text % 8)
end

function checkpoint.write(file, list, metadata)
  argument.string("save", "file", file)
  local header = header_of(list, metadata)
  local tensors = ffi.new("cnn_tensor *[?]", math.max(#list, 1))
  for i, item in ipairs(list) do tensors[i - 1] = item[2] end
  if C.cnn_safetensors_write(file, header, #header, tensors, #list) ~= 0 then handle.fail() end
end

-- ------------------------------------------------------------------------------------------- open

local function refuse(file, format, ...)
  err.raise(("%s is no safetensors file that can be used: "):format(file) .. format:format(...))
end

local function read_header(file)
  argument.string("load", "file", file)
  local f, why = io.open(file, "rb")
  if not f then err.raise("cannot open " .. why) end
  local first = f:read(8)
  if not first or #first < 8 then
    f:close()
    refuse(file, "it has fewer than 8 bytes")
  end
  local length = 0
  for i = 8, 1, -1 do length = length * 256 + first:byte(i) end
  local size = f:seek "end"
  local bad = (length > HEADER_LIMIT and "its header would have %.0f bytes, 100 MB is the most")
    or (8 + length > size and "its header would have %.0f bytes, the file is shorter")
    or (length < 2 and "its header has %.0f bytes")
  if bad then
    f:close()
    refuse(file, bad, length)
  end
  f:seek("set", 8)
  local text = f:read(length)
  f:close()
  return text, 8 + length, size
end

local function is_count(value)
  return type(value) == "number" and value >= 0 and value % 1 == 0 and value < 2 ^ 53
end

-- The elements of a shape, or nil when it is none.
local function elements(shape)
  if type(shape) ~= "table" then return nil end
  local n, keys = 1, 0
  for _ in pairs(shape) do keys = keys + 1 end
  if keys ~= #shape then return nil end
  for _, size in ipairs(shape) do
    if not is_count(size) then return nil end
    n = n * size
  end
  return n
end

local function check_entry(file, name, entry)
  if type(entry) ~= "table" then refuse(file, "'%s' is not described by an object", name) end
  local bytes, offsets = bytes_of[entry.dtype], entry.data_offsets
  if not bytes then refuse(file, "'%s' has the dtype %s", name, tostring(entry.dtype)) end
  local count = elements(entry.shape)
  if not count then refuse(file, "'%s' has no proper shape", name) end
  if type(offsets) ~= "table" or not is_count(offsets[1]) or not is_count(offsets[2])
    or offsets[3] ~= nil then
    refuse(file, "'%s' has no proper data_offsets", name)
  end
  if offsets[2] - offsets[1] ~= count * bytes then
    refuse(file, "'%s' has %.0f bytes, its shape %s and dtype %s take %.0f", name,
      offsets[2] - offsets[1], shape_text(entry.shape), entry.dtype, count * bytes)
  end
end

-- The values have to fill the rest of the file, without holes and without overlap.
local function check_layout(file, list, room)
  table.sort(list, function(a, b)
    if a.first ~= b.first then return a.first < b.first end
    return a.last < b.last
  end)
  local at = 0
  for _, entry in ipairs(list) do
    if entry.last > room then
      refuse(file, "'%s' ends at byte %.0f of %.0f (truncated?)", entry.name, entry.last, room)
    end
    if entry.first ~= at then
      refuse(file, "'%s' starts at byte %.0f where %.0f is next (%s)", entry.name, entry.first, at,
        entry.first < at and "an overlap" or "a hole")
    end
    at = entry.last
  end
  if at ~= room then refuse(file, "%.0f bytes at its end belong to no tensor", room - at) end
end

-- The first name that an object of the JSON text has twice, or nil. A decoder keeps the last one.
local function duplicate(text)
  local open, at = {}, 1 -- the names of each object that is open
  while true do
    local found, mark
    found, mark = text:match('()(["{}])', at)
    if not found then return nil end
    at = found + 1
    if mark == "{" then
      open[#open + 1] = {}
    elseif mark == "}" then
      open[#open] = nil
    else
      repeat
        at, mark = text:match('()(["\\])', at)
        at = at + (mark == '"' and 1 or 2)
      until mark == '"'
      local name, names = text:sub(found, at - 1), open[#open]
      if text:find("^%s*:", at) then
        name = require "cjson".decode("[" .. name .. "]")[1]
        if names[name] then return name end
        names[name] = true
      end
    end
  end
end

local function check_metadata(file, metadata)
  if metadata == nil then return {} end
  if type(metadata) ~= "table" then refuse(file, "its __metadata__ is not an object") end
  for key, value in pairs(metadata) do
    if type(key) ~= "string" or type(value) ~= "string" then
      refuse(file, "its __metadata__ is not a map of texts")
    end
  end
  return metadata
end

function checkpoint.open(file)
  local text, start, size = read_header(file)
  local ok, header = pcall(require "cjson".decode, text)
  if not ok then refuse(file, "its header is not JSON (%s)", tostring(header)) end
  if type(header) ~= "table" then refuse(file, "its header is not an object") end
  local twice = duplicate(text)
  if twice then refuse(file, "its header has '%s' twice", twice) end
  local saved = { file = file, metadata = check_metadata(file, header[METADATA]), tensors = {} }
  header[METADATA] = nil
  local list = {}
  for name, entry in pairs(header) do
    if type(name) ~= "string" then refuse(file, "its header is not an object") end
    check_entry(file, name, entry)
    local first, last = unpack(entry.data_offsets)
    list[#list + 1] = { name = name, first = first, last = last }
    saved.tensors[name] = { dtype = entry.dtype, shape = entry.shape, offset = start + first }
  end
  check_layout(file, list, size - start)
  return saved
end

-- ------------------------------------------------------------------------------------------- read

local function read_into(saved, entry, tensor)
  if C.cnn_file_read(saved.file, entry.offset, tensor) ~= 0 then handle.fail() end
  return tensor
end

function checkpoint.read(saved, name, tensor)
  local entry = saved.tensors[name]
  local dtype = dtype_of[entry.dtype]
  if not dtype then
    err.raise(("%s: '%s' is %s; F32, BF16, I32 and U8 are read"):format(saved.file, name,
      entry.dtype))
  end
  local function fresh() return create.zeros(entry.shape, { dtype = dtype }) end
  if not tensor then return read_into(saved, entry, fresh()) end
  if tensor.dtype == dtype then return read_into(saved, entry, tensor) end
  return autograd.no_grad(tensor.copy, tensor, read_into(saved, entry, fresh()))
end

-- ------------------------------------------------------------------------------------ a whole net

-- Parameters, then buffers: { { name, tensor }, ... }
function checkpoint.tensors(net)
  local list = {}
  for name, p in net:named_parameters() do list[#list + 1] = { name, p } end
  for name, b in net:named_buffers() do list[#list + 1] = { name, b } end
  return list
end

--- net:save(file, metadata)
-- Writes parameters and buffers as a safetensors file, whole or not at all. `metadata` is a table
-- of strings by name.
-- Errors: a file that cannot be written; metadata that are no strings
-- Example: net:save("net.safetensors", { note = "first try" })
-- Source: the format: huggingface.co/docs/safetensors
-- See: net:load
function checkpoint.save(net, file, metadata)
  checkpoint.write(file, checkpoint.tensors(net), metadata)
end

local Account = {}
Account.__index = Account

local function part(title, names)
  if #names == 0 then return "" end
  table.sort(names)
  return ("; %s: %s"):format(title, some(names))
end

function Account:__tostring()
  return ("%d of %d tensors matched"):format(self.matched, self.total)
    .. part("missing", self.missing) .. part("unexpected", self.unexpected)
    .. part("other shape", self.other_shape) .. part("other dtype", self.other_dtype)
end

function Account:fits()
  return #self.missing + #self.unexpected + #self.other_shape + #self.other_dtype == 0
end

local function same_shape(tensor, shape)
  if C.cnn_dim(tensor) ~= #shape then return false end
  for axis, size in ipairs(shape) do
    if tonumber(C.cnn_size(tensor, axis)) ~= size then return false end
  end
  return true
end

-- Floats for floats, whole numbers as they are.
local function same_dtype(tensor, code)
  local dtype, wanted = dtype_of[code], tensor.dtype
  return dtype == wanted or floats[dtype] and floats[wanted]
end

-- What a file may have beside the net's own: the optimizer's state, and the number of batches that
-- PyTorch's batch norms write down (I64) and that nothing here depends on.
local function is_known_extra(name)
  return name:sub(1, #checkpoint.STATE) == checkpoint.STATE
    or ("." .. name):find "%.num_batches_tracked$" ~= nil
end

local function compare(saved, list)
  local account = setmetatable({
    matched = 0, total = #list, missing = {}, unexpected = {}, other_shape = {}, other_dtype = {},
  }, Account)
  local wanted, fitting = {}, {}
  for _, item in ipairs(list) do
    local name, tensor = item[1], item[2]
    local entry = saved.tensors[name]
    wanted[name] = true
    if not entry then
      table.insert(account.missing, name)
    elseif not same_shape(tensor, entry.shape) then
      table.insert(account.other_shape, ("%s (file %s %s, net %s %s)"):format(name, entry.dtype,
        shape_text(entry.shape), code_of[tensor.dtype], tostring(tensor:shape())))
    elseif not same_dtype(tensor, entry.dtype) then
      table.insert(account.other_dtype, ("%s (file %s, net %s)"):format(name, entry.dtype,
        code_of[tensor.dtype]))
    else
      account.matched = account.matched + 1
      fitting[#fitting + 1] = item
    end
  end
  for name in pairs(saved.tensors) do
    if not wanted[name] and not is_known_extra(name) then
      table.insert(account.unexpected, name)
    end
  end
  return account, fitting
end

--- net:load(file, { strict = true })
-- Reads parameters and buffers by name from a safetensors file and returns an account of what
-- matched. A file that does not fit leaves the net as it was.
-- Options: strict: false takes what fits in name and shape and leaves the rest
-- Errors: a file that is none or is damaged; with strict, names or shapes that differ: which
-- Example: net:save "net.safetensors"
--   net:load "net.safetensors" --> 8 of 8 tensors matched
-- See: net:save, cnn.reload
function checkpoint.load(net, file, options)
  options = argument.options("load", options, { "strict" })
  local saved = type(file) == "table" and type(file.tensors) == "table" and file
    or checkpoint.open(file)
  local account, fitting = compare(saved, checkpoint.tensors(net))
  if options.strict ~= false and not account:fits() then
    err.raise(("%s does not fit the net: %s"):format(saved.file, tostring(account)))
  end
  for _, item in ipairs(fitting) do checkpoint.read(saved, item[1], item[2]) end
  return account
end

return checkpoint
