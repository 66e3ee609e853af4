-- pack.lua - copies Lua packages to where a bundle has them, from wherever this Lua finds them.
-- usage: luajit scripts/gpu/pack.lua FOLDER NAME...
--
-- Of "busted" these are busted.lua, busted.so and the directory busted, each where it is there.
-- Ends with status 1 and the name of a package that is nowhere.

local function exists(path)
  local f = io.open(path, "rb")
  if f then f:close() end
  return f ~= nil
end

local function pack(name, folder)
  local found = false
  for _, list in ipairs { package.path, package.cpath } do
    for base, ending in list:gmatch "(/[^;?]*)/%?(%.%a+)" do
      for _, path in ipairs { base .. "/" .. name, base .. "/" .. name .. ending } do
        if exists(path) and os.execute(("cp -rL '%s' '%s/'"):format(path, folder)) == 0 then
          found = true
        end
      end
    end
  end
  return found
end

for i = 2, #arg do
  if not pack(arg[i], arg[1]) then
    io.stderr:write("no Lua package ", arg[i], "\n")
    os.exit(1)
  end
end
