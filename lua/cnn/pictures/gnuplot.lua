-- gnuplot.lua - runs gnuplot, which draws the curves.
--
--   gnuplot.through(commands, read)    what read(file) gives of the file that gnuplot has made
--   gnuplot.quote(text)                as one of its words
--
-- commands set the terminal, but no output; the file is gone afterwards. gnuplot runs without the
-- settings of the user (-d), and reads a file, not a pipe, so that its early end cannot kill the
-- program by SIGPIPE. Surprising: it takes an output named "|command" for a pipe and ends well on a
-- full disk. So it sees no name of the user's, and `read` has to notice half a file.

local err = require "cnn.error"
local files = require "cnn.files"

local gnuplot = {}

function gnuplot.quote(text)
  return "'" .. text:gsub("%c", "?"):gsub("'", "''") .. "'"
end

-- gnuplot has no names for exit codes; 127 is the shell's for a command that is not there.
local function run(script, file)
  local status = os.execute(("gnuplot -d <%s >%s 2>/dev/null"):format(files.shell(script),
    files.shell(file)))
  if status == 0 then return true end
  if status == 127 or status == 127 * 256 then
    return nil, "gnuplot is not installed (apt-get install gnuplot-nox)"
  end
  return nil, "gnuplot could not draw the curves"
end

local function write(file, text)
  local f, why = io.open(file, "w")
  if not f then return nil, why end
  local ok, problem = f:write(text)
  local closed, late = f:close()
  return ok and closed, problem or late
end

local function new_file()
  local made, name = pcall(os.tmpname)
  if not made then err.raise("gnuplot: no file can be made in /tmp") end
  return name
end

function gnuplot.through(commands, read)
  local script, file = new_file(), new_file()
  local ok, why = write(script, "set encoding utf8\n" .. commands)
  if ok then ok, why = run(script, file) end
  local read_well, result
  if ok then read_well, result = pcall(read, file) end
  os.remove(script)
  os.remove(file)
  if not ok then err.raise(why) end
  if not read_well then error(result, 0) end
  return result
end

return gnuplot
