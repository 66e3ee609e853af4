-- catalogue.lua - reads the catalogue of ops in core/cnn.h.
--
-- catalogue.parse(header) returns a list, in the header's order, of
--   { name = "narrow", returns = "tensor" | "int", doc = "...",
--     parameters = { { name = "axis", kind = "whole", limit = 2^31-1 }, ... } }
-- The kinds: tensor, whole, number, string, and three that take one Lua table for a pointer and
-- its length: axes (int), sizes (int64_t), list (tensors).
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

function catalogue.parse(header)
  local text = header:match("the catalogue of ops(.-)\n/%* =====")
  if not text then error("core/cnn.h: there is no catalogue of ops", 0) end
  local ops = {}
  local pattern = "\n(%w[%w_ ]- %*?)cnn_([%w_]+)%(([^;]-)%);[ \t]*(/?%*?)()"
  for returns, name, parameters, opener, at in text:gmatch(pattern) do
    local doc = opener == "/*" and text:match("^(.-)%*/", at) or ""
    ops[#ops + 1] = {
      name = name,
      returns = returns == "int " and "int" or "tensor",
      parameters = parse_parameters(parameters, "cnn_" .. name),
      doc = doc:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", ""),
    }
  end
  return ops
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
