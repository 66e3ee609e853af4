-- scripts.lua - the model scripts, freshly run: each call makes a net of its own.

local scripts = {}

function scripts.recipe(name)
  return assert(loadfile("models/" .. name .. ".lua"))()
end

return scripts
