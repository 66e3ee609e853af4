-- doctor.lua - cnnlua doctor: what was found, what is missing, and the exact line that fixes it.
--
-- Ends with exit status 1 when something is missing that training needs. Surprising: each variant
-- of the kernels is asked for by name, as CNN_KERNELS would, so what is listed is what runs.

local ffi = require "ffi"
local C = require "cnn.ffi".C
local cnn = require "cnn"

local doctor = {}

local problems

local function say(what, text)
  print(("%-10s %s"):format(what, text))
end

local function missing(what, text, fix, needed)
  say(what, text)
  say("", "fix: " .. fix)
  if needed then problems = problems + 1 end
end

local function kernels()
  local best = ffi.string(C.cnn_kernels())
  local list = {}
  for _, variant in ipairs { "generic", "blas", "avx2", "avx512" } do
    if C.cnn_use_kernels(variant) == 0 and ffi.string(C.cnn_kernels()) == variant then
      list[#list + 1] = variant
    end
  end
  C.cnn_use_kernels(best)
  return best, table.concat(list, " ")
end

local function blas()
  for _, name in ipairs { "libopenblas.so.0", "libopenblas.so" } do
    local ok, library = pcall(ffi.load, name)
    if ok and library then return name end
  end
end

local function module(name, package, use)
  if pcall(require, name) then
    say(name, "found (" .. use .. ")")
  else
    missing(name, "not found (" .. use .. ")", "apt-get install " .. package, true)
  end
end

local function command(name, package, use)
  local p = io.popen("command -v " .. name .. " 2>/dev/null")
  local path = p and p:read "*l"
  if p then p:close() end
  if path then
    say(name, ("%s (%s)"):format(path, use))
  else
    missing(name, "not found (" .. use .. ")", "apt-get install " .. package)
  end
end

local function data(dir)
  local fashion_mnist = require "cnn.fashion_mnist"
  local ok, found, place = pcall(fashion_mnist.installed, dir)
  if not ok then
    missing("data", tostring(found), "apt-get install dataset-fashion-mnist", true)
  elseif not found then
    missing("data", "Fashion-MNIST not found; training would download it",
      "apt-get install dataset-fashion-mnist")
  else
    local read, why = pcall(cnn.data.fashion_mnist, { dir = dir })
    if read then
      say("data", ("Fashion-MNIST in %s: %d training and %d test images"):format(place,
        why.train:count(), why.test:count()))
    else
      missing("data", tostring(why), "apt-get install --reinstall dataset-fashion-mnist", true)
    end
  end
end

local function cuda()
  local x = C.cnn_empty(nil, 0, "f32", "cuda")
  if x ~= nil then
    C.cnn_release(x)
    say("CUDA", "a device is there: --device cuda")
  else
    say("CUDA", "none: this build has the CPU only, and everything runs there")
  end
end

function doctor.doctor(options)
  problems = 0
  say("cnnlua", cnn.version .. ", " .. jit.version .. " on " .. jit.os .. " " .. jit.arch)
  say("CPU", ffi.string(C.cnn_cpu()))
  local best, all = kernels()
  say("kernels", ("%s; this CPU runs %s"):format(best, all))
  say("threads", ("%d (--threads N)"):format(C.cnn_threads()))
  local library = blas()
  if library then
    say("BLAS", library)
  else
    missing("BLAS", "no OpenBLAS; matrix products use the built-in kernels",
      "apt-get install libopenblas0-pthread")
  end
  cuda()
  module("argparse", "lua-argparse", "the options of every command")
  module("cjson", "lua-cjson", "weights files, --json")
  command("gnuplot", "gnuplot-nox", "curves.png")
  data(options.data)
  return problems > 0 and 1 or 0
end

return doctor
