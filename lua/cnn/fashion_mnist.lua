-- fashion_mnist.lua - finds the four files of Fashion-MNIST (Xiao, Rasul, Vollgraf 2017), or
-- fetches them.
--
-- find(dir) returns the paths of training images and labels, test images and labels, and their
-- directory. A directory that was named, by --data or $CNNLUA_DATA, has to have them; otherwise the
-- user's cache and the distribution's place are tried, then a download into the cache.
--
-- Surprising: the checksums are of the bytes within the gzip files, because the distributors have
-- compressed the same bytes differently.

local ffi = require "ffi"
local fail = require "cnn.fail"

ffi.cdef "int isatty(int file);"

local fashion_mnist = {}

local files = {
  { "train-images-idx3-ubyte", "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888" },
  { "train-labels-idx1-ubyte", "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9" },
  { "t10k-images-idx3-ubyte", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b" },
  { "t10k-labels-idx1-ubyte", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34" },
}

local mirrors = {
  "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
  "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
}

local DISTRIBUTION = "/usr/share/datasets/fashion-mnist"
local INSTALL = "apt-get install dataset-fashion-mnist"

local function readable(file)
  local f = io.open(file, "rb")
  if f then f:close() end
  return f ~= nil
end

-- The four paths in dir, plain or gzip; else nil and the name of the first that is not there.
local function look(dir)
  local found = {}
  for i, file in ipairs(files) do
    for _, path in ipairs { dir .. "/" .. file[1], dir .. "/" .. file[1] .. ".gz" } do
      if readable(path) then found[i] = found[i] or path end
    end
    if not found[i] then return nil, file[1] .. ".gz" end
  end
  return found
end

local function cache()
  local base = os.getenv "XDG_CACHE_HOME"
  if not base or base == "" then
    local home = os.getenv "HOME"
    if not home then return nil end
    base = home .. "/.cache"
  end
  return base .. "/cnnlua/fashion-mnist"
end

-- --------------------------------------------------------------------------------------- download

local function shell(text)
  return "'" .. text:gsub("'", [['\'']]) .. "'"
end

local function output_of(command)
  local p = io.popen(command)
  if not p then return "" end
  local text = p:read "*a"
  p:close()
  return text
end

local function has(command)
  return output_of("command -v " .. command .. " 2>/dev/null") ~= ""
end

local function fetch(url, path)
  local tool
  if has "curl" then
    tool = "curl -fsSL --connect-timeout 10 -o %s %s"
  elseif has "wget" then
    tool = "wget -q -T 10 -t 2 -O %s %s"
  end
  return tool ~= nil
    and os.execute(tool:format(shell(path), shell(url)) .. " </dev/null 2>/dev/null") == 0
end

local function checksum(path)
  return output_of(("gzip -dc %s 2>/dev/null | sha256sum"):format(shell(path))):match "^%x+"
end

-- Fetches one file beside its place, checks it and renames it; true, or nil and why not.
local function fetch_checked(file, dir)
  local path = dir .. "/" .. file[1] .. ".gz"
  if readable(path) and checksum(path) == file[2] then return true end
  local why = "no mirror answers"
  for _, mirror in ipairs(mirrors) do
    local part = path .. ".part"
    if fetch(mirror .. file[1] .. ".gz", part) then
      if checksum(part) == file[2] and os.rename(part, path) then return true end
      why = "what came is not the file (wrong checksum)"
    end
    os.remove(part)
  end
  return nil, why
end

local function download(dir)
  if not (has "curl" or has "wget") then
    return nil, "neither curl nor wget is there to fetch it"
  end
  os.execute("mkdir -p " .. shell(dir) .. " 2>/dev/null")
  if ffi.C.isatty(2) ~= 0 then
    io.stderr:write("cnnlua: fetching Fashion-MNIST (30 MB) into ", dir, "\n")
  end
  for _, file in ipairs(files) do
    local ok, why = fetch_checked(file, dir)
    if not ok then return nil, why end
  end
  return look(dir)
end

-- ------------------------------------------------------------------------------------------- find

local function named(dir, by)
  local found, missing = look(dir)
  if not found then
    fail.run("Fashion-MNIST: %s %s has no %s (%s puts the files into %s)", by, dir, missing,
      INSTALL, DISTRIBUTION)
  end
  return found, dir
end

-- Where the files are, without fetching: paths and directory, or nil.
function fashion_mnist.installed(dir)
  local variable = os.getenv "CNNLUA_DATA"
  if dir then return named(dir, "--data") end
  if variable and variable ~= "" then return named(variable, "$CNNLUA_DATA") end
  local own = cache()
  for _, place in ipairs { own or DISTRIBUTION, DISTRIBUTION } do
    local found = look(place)
    if found then return found, place end
  end
  return nil
end

function fashion_mnist.find(dir)
  local found, place = fashion_mnist.installed(dir)
  if found then return found, place end
  local own = cache()
  local why = "there is no cache directory"
  if own then
    found, why = download(own)
    if found then return found, own end
  end
  fail.run("Fashion-MNIST is neither in --data, $CNNLUA_DATA, %s nor %s, and %s; %s",
    own or "a cache", DISTRIBUTION, why, INSTALL)
end

return fashion_mnist
