-- gnuplot.lua - runs gnuplot, which draws the curves.
--
--   gnuplot.write(commands, file)      true, or nil and one line that says why not
--   gnuplot.through(commands, read)    what read(file) gives of a file that is gone afterwards
--   gnuplot.quote(text)                as one of its words
--
-- commands set the terminal, but no output. Surprising: gnuplot reads a file, not a pipe, so that
-- its early end cannot kill the program by SIGPIPE; and it writes beside the picture, which is then
-- renamed. It runs without the settings of the user (-d).

local err = require "cnn.error"
local files = require "cnn.files"

local gnuplot = {}

function gnuplot.quote(text)
  return "'" .. text:gsub("%c", "?"):gsub("'", "''") .. "'"
end

-- gnuplot has no names for exit codes; 127 is the shell's for a command that is not there.
local function run(script)
  local status = os.execute("gnuplot -d " .. files.shell(script) .. " >/dev/null 2>&1 </dev/null")
  if status == 0 then return true end
  if status == 127 or status == 127 * 256 then
    return nil, "gnuplot is not installed (apt-get install gnuplot-nox)"
  end
  return nil, "gnuplot could not write it"
end

function gnuplot.write(commands, file)
  local script, fresh = file .. ".gnuplot", file .. ".new"
  local f, why = io.open(script, "w")
  if not f then return nil, why end
  f:write("set encoding utf8\nset output ", gnuplot.quote(fresh), "\n", commands)
  f:close()
  local ok
  ok, why = run(script)
  os.remove(script)
  if ok then ok, why = os.rename(fresh, file) end
  if not ok then os.remove(fresh) end
  return ok, why
end

function gnuplot.through(commands, read)
  local file = os.tmpname()
  local ok, why = gnuplot.write(commands, file)
  local read_well, result
  if ok then read_well, result = pcall(read, file) end
  os.remove(file)
  if not ok then err.raise("the curves cannot be drawn: " .. why) end
  if not read_well then error(result, 0) end
  return result
end

return gnuplot
