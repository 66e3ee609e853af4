-- fashion_mnist.lua - finds the four files of Fashion-MNIST (Xiao, Rasul, Vollgraf 2017), or
-- fetches them.
--
-- find(dir) returns the paths of training images and labels, test images and labels, and their
-- directory. A directory that was named, by --data or else $CNNLUA_DATA, has to have them: other
-- pictures than those asked for would be no help. With neither, the user's cache and the
-- distribution's place are tried, then a download into the cache.
--
-- Surprising: the checksums are of the bytes within the gzip files, because the distributors have
-- compressed the same bytes differently.

local fail = require "cnn.fail"
local files = require "cnn.files"

local fashion_mnist = {
  DISTRIBUTION = "/usr/share/datasets/fashion-mnist",
  INSTALL = "apt-get install dataset-fashion-mnist",
}

-- name, SHA-256
local parts = {
  { "train-images-idx3-ubyte", "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888" },
  { "train-labels-idx1-ubyte", "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9" },
  { "t10k-images-idx3-ubyte", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b" },
  { "t10k-labels-idx1-ubyte", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34" },
}

local mirrors = {
  "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
  "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
}

-- The four paths in dir, plain or gzip; else nil and what is wrong with dir.
function fashion_mnist.look(dir)
  if not files.is_directory(dir) then return nil, "is no directory" end
  local found = {}
  for i, part in ipairs(parts) do
    for _, path in ipairs { dir .. "/" .. part[1], dir .. "/" .. part[1] .. ".gz" } do
      if files.exists(path) then found[i] = found[i] or path end
    end
    if not found[i] then return nil, "has no " .. part[1] .. ".gz" end
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

local quoted = files.shell

local function output_of(command)
  local p = io.popen("(" .. command .. ") 2>/dev/null")
  local text = p and p:read "*a" or ""
  if p then p:close() end
  return text
end

local function has(command)
  return output_of("command -v " .. command) ~= ""
end

-- The tool that fetches, as a format of path and address, or nil and what is not there.
local function tool()
  for _, name in ipairs { "gzip", "sha256sum" } do
    if not has(name) then return nil, name .. " is not there to check a download" end
  end
  if has "curl" then return "curl -fsSL --connect-timeout 10 -o %s %s" end
  if has "wget" then return "wget -nv -T 10 -t 2 -O %s %s" end
  return nil, "neither curl nor wget is there to fetch it"
end

-- true, or nil and the tool's own words.
local function fetch(command, url, path)
  local said, status = output_of(command:format(quoted(path), quoted(url))
    .. " </dev/null 2>&1; status=$?; echo; echo $status"):match "^(.*)\n(%d+)\n$"
  if status == "0" then return true end
  return nil, said:match "[^\n]+" or ("%s ended with %s"):format(command:match "^%a+", status)
end

local function checksum(path)
  return output_of(("gzip -dc %s | sha256sum"):format(quoted(path))):match "^%x+"
end

-- Fetches one file beside its place, checks it and renames it; true, or nil and why not.
local function fetch_checked(command, file, dir)
  local path = dir .. "/" .. file[1] .. ".gz"
  if files.exists(path) and checksum(path) == file[2] then return true end
  local fresh, why = path .. ".part", nil
  for _, mirror in ipairs(mirrors) do
    local ok
    ok, why = fetch(command, mirror .. file[1] .. ".gz", fresh)
    if ok and checksum(fresh) == file[2] then
      ok, why = os.rename(fresh, path)
      if ok then return true end
    elseif ok then
      why = "what came is not the file (wrong checksum)"
    end
    os.remove(fresh)
  end
  return nil, why
end

-- Makes the directory and tries it out; true, or nil and why not.
local function make(dir)
  local said = output_of("LC_ALL=C mkdir -p " .. quoted(dir) .. " 2>&1"):match "[^\n]+"
  if said then return nil, (said:gsub("^mkdir: ", "")) end
  local try = dir .. "/.part"
  local f, why = io.open(try, "wb")
  if not f then return nil, (why:gsub("/%.part:", ":")) end
  f:close()
  os.remove(try)
  return true
end

local function download(dir)
  local command, why = tool()
  if not command then return nil, why end
  local ok
  ok, why = make(dir)
  if not ok then return nil, why end
  if files.is_terminal(2) then
    io.stderr:write("cnnlua: fetching Fashion-MNIST (30 MB) into ", dir, "\n")
  end
  for _, file in ipairs(parts) do
    ok, why = fetch_checked(command, file, dir)
    if not ok then return nil, why end
  end
  return fashion_mnist.look(dir)
end

-- ------------------------------------------------------------------------------------------- find

-- The directory that was named and by what; nil when none was.
function fashion_mnist.named(dir)
  if dir then return dir, "--data" end
  local variable = os.getenv "CNNLUA_DATA"
  if variable and variable ~= "" then return variable, "$CNNLUA_DATA" end
  return nil
end

local function find_named(dir, by)
  local found, why = fashion_mnist.look(dir)
  if found then return found, dir end
  fail.run("Fashion-MNIST: %s %s %s (%s puts the files into %s)", by, dir, why,
    fashion_mnist.INSTALL, fashion_mnist.DISTRIBUTION)
end

-- Where the files are when no directory was named, without fetching: paths and directory, or nil.
function fashion_mnist.installed()
  local own = cache()
  for _, place in ipairs { own or fashion_mnist.DISTRIBUTION, fashion_mnist.DISTRIBUTION } do
    local found = fashion_mnist.look(place)
    if found then return found, place end
  end
  return nil
end

function fashion_mnist.find(dir)
  local named, by = fashion_mnist.named(dir)
  if named then return find_named(named, by) end
  local found, place = fashion_mnist.installed()
  if found then return found, place end
  local own = cache()
  local why = "$HOME is not set, so there is no cache"
  if own then
    found, why = download(own)
    if found then return found, own end
  end
  fail.run("Fashion-MNIST is neither in %s nor in %s and cannot be fetched: %s; %s, or --data DIR",
    own or "a cache", fashion_mnist.DISTRIBUTION, why, fashion_mnist.INSTALL)
end

return fashion_mnist
