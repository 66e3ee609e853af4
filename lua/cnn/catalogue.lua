-- catalogue.lua - reads the catalogue of ops in core/cnn.h.
--
-- catalogue.parse(header) returns a list, in the header's order, of
--   { name = "narrow", returns = "tensor" | "int",
--     parameters = { { name = "axis", kind = "whole", limit = 2^31-1 }, ... } }
-- The kinds: tensor, whole, number, string, and three that take one Lua table for a pointer and
-- its length: axes (int), sizes (int64_t), list (tensors). catalogue.docs(header) reads the
-- comments: name -> { text = "x ^ p", shapes = "any shape -> the same", source = "Ba et al." }.
--
-- Surprising: there is no other list of ops in Lua. A prototype that cannot be read is an error.

local catalogue = {}

local kinds = {
  { "^cnn_tensor %*const %*([%w_]+)$", "list" },
  { "^const int64_t %*([%w_]+)$", "sizes" },
  { "^const int %*([%w_]+)$", "axes" },
  { "^cnn_tensor %*([%w_]+)$", "tensor" },
  { "^const char %*([%w_]+)$", "string" },
  { "^int64_t ([%w_]+)$", "whole", 2 ^ 53 },
  { "^int ([%w_]+)$", "whole", 2 ^ 31 - 1 },
  { "^double ([%w_]+)$", "number" },
}

local with_length = { list = true, sizes = true, axes = true }

local function parse_parameter(text, prototype)
  for _, row in ipairs(kinds) do
    local name = text:match(row[1])
    if name then return { name = name, kind = row[2], limit = row[3] } end
  end
  error("core/cnn.h: cannot read the parameter '" .. text .. "' of " .. prototype, 0)
end

local function parse_parameters(text, prototype)
  local parameters, skip = {}, false
  for piece in text:gmatch("[^,]+") do
    piece = piece:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", "")
    if not skip then
      local parameter = parse_parameter(piece, prototype)
      parameters[#parameters + 1] = parameter
      skip = with_length[parameter.kind]
    elseif piece == "int n" then
      skip = false
    else
      error("core/cnn.h: 'int n' has to follow a pointer in " .. prototype, 0)
    end
  end
  return parameters
end

-- The part of the header with the ops, without what introduces it.
local function part_of(header)
  local text = header:match("the catalogue of ops.-%*/(.-)\n/%* =====")
  if not text then error("core/cnn.h: there is no catalogue of ops", 0) end
  return text
end

function catalogue.parse(header)
  local ops = {}
  local pattern = "\n(%w[%w_ ]- %*?)cnn_([%w_]+)%(([^;]-)%);"
  for returns, name, parameters in part_of(header):gmatch(pattern) do
    ops[#ops + 1] = {
      name = name,
      returns = returns == "int " and "int" or "tensor",
      parameters = parse_parameters(parameters, "cnn_" .. name),
    }
  end
  return ops
end

-- ------------------------------------------------------------------------------- the comments

-- A comment's clauses, split at ";": the one with an arrow says the shapes.
local function clauses_of(comment)
  local text, shapes = {}, nil
  for clause in (comment:gsub("%s*\n %* ", " "):gsub("NULL", "nil") .. ";"):gmatch("%s*(.-)%s*;") do
    if clause:find("->", 1, true) then shapes = clause else text[#text + 1] = clause end
  end
  return text, shapes
end

-- "name: ..." or "name (a source): ..."
local function is_about(name, comment)
  return comment:find("^ " .. name .. ":") or comment:find("^ " .. name .. " %([^)]+%):")
end

-- comment: the op's own or ""; family: that of the ops around it, which begins with their title.
local function doc_of(name, comment, family)
  local source = comment:match("^ " .. name .. " %(([^)]+)%):")
  if is_about(name, comment) then comment = comment:match(":(.*)") end
  local text, shapes = clauses_of(comment)
  local shared, family_shapes = clauses_of(family)
  for i = 2, #shared do text[#text + 1] = shared[i] end
  return { text = table.concat(text, "; "), shapes = shapes or family_shapes, source = source }
end

-- An op's own comment ends its line, or stands above it and begins with its name; another one that
-- stands above is the family's, of this op and those that follow.
function catalogue.docs(header)
  local docs, family = {}, ""
  local pattern = "(.-)cnn_([%w_]+)%([^;]-%);([^\n]*)"
  for above, name, behind in part_of(header):gmatch(pattern) do
    local own = behind:match("/%*(.-)%*/") or ""
    for comment in above:gmatch("/%*(.-)%*/") do
      if is_about(name, comment) then own = comment else family = comment end
    end
    docs[name] = doc_of(name, own, family)
  end
  return docs
end

-- "x:narrow(axis, start, length)", or "cnn.cat(list, axis)".
function catalogue.signature(op)
  local names = {}
  for i, parameter in ipairs(op.parameters) do names[i] = parameter.name end
  local call = "(" .. table.concat(names, ", ") .. ")"
  if op.parameters[1].kind ~= "tensor" then return "cnn." .. op.name .. call end
  local receiver = table.remove(names, 1)
  return receiver .. ":" .. op.name .. "(" .. table.concat(names, ", ") .. ")"
end

return catalogue
