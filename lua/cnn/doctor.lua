-- doctor.lua - cnnlua doctor: what was found, what is missing, and the exact line that fixes it.
--
-- Ends with exit status 1 when something is missing that training needs; --peak measures the
-- machine instead (doctor/peak.lua), --cudnn-plans goes over cuDNN's plans (doctor/plans.lua).
-- Surprising: each variant of the kernels is asked for by name, as CNN_KERNELS would, so what is
-- listed is what runs.

local ffi = require "ffi"
local C = require "cnn.ffi".C
local cnn = require "cnn"
local cuda = require "cnn.doctor.cuda"
local fail = require "cnn.fail"
local fashion_mnist = require "cnn.fashion_mnist"
local library = require "cnn.library"

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
  for _, variant in ipairs { "generic", "blas", "avx2", "avx512", "avx512bf16" } do
    if C.cnn_use_kernels(variant) == 0 and ffi.string(C.cnn_kernels()) == variant then
      list[#list + 1] = variant
    end
  end
  C.cnn_use_kernels(best)
  return best, table.concat(list, " ")
end

-- Under the name by which it is opened, and no other.
local function optional(what, name, package, use)
  if library(name) then
    say(what, ("%s (%s)"):format(name, use))
  else
    missing(what, ("no %s (%s)"):format(name, use), "apt-get install " .. package)
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

-- What takes a directory that was named out of the way.
local function unnamed(by)
  return by == "--data" and "leave out --data" or "unset " .. by:sub(2)
end

-- Damaged files, by who put them there.
local function fix_of(place, by)
  if by then return unnamed(by) .. ", or put the file there anew" end
  if place == fashion_mnist.DISTRIBUTION then
    return (fashion_mnist.INSTALL:gsub("install", "install --reinstall"))
  end
  return "remove the file; training fetches it again"
end

local function read_data(place, by)
  local read, set = pcall(cnn.data.fashion_mnist, { dir = place })
  if read then
    say("data", ("Fashion-MNIST in %s: %d training and %d test images"):format(place,
      set.train:count(), set.test:count()))
  else
    missing("data", fail.line(set), fix_of(place, by), true)
  end
end

local function data(dir)
  local named, by = fashion_mnist.named(dir)
  if named then
    local found, why = fashion_mnist.look(named)
    if found then return read_data(named, by) end
    return missing("data", ("%s %s %s"):format(by, named, why),
      unnamed(by) .. ", or put the four files there", true)
  end
  local found, place = fashion_mnist.installed()
  if found then return read_data(place) end
  missing("data", "Fashion-MNIST not found; training would download it", fashion_mnist.INSTALL)
end

local shown_as = {
  none = "standard output is none: pictures go to files",
  ascii = "pictures in plain characters", blocks = "pictures in half blocks, 24-bit colour",
  kitty = "pictures in pixels (kitty)", iterm = "pictures in pixels (iTerm2)",
  sixel = "pictures in pixels (sixel)",
}

local function terminal()
  say("terminal", shown_as[require "cnn.terminal.screen".kind()])
end

function doctor.doctor(options)
  if options.threads then cnn.set_threads(options.threads) end
  if options.peak then return require "cnn.doctor.peak"() end
  if options.cudnn_plans then return require "cnn.doctor.plans"() end
  problems = 0
  say("cnnlua", cnn.version .. ", " .. jit.version .. " on " .. jit.os .. " " .. jit.arch)
  say("CPU", ffi.string(C.cnn_cpu()))
  local best, all = kernels()
  say("kernels", ("%s; this CPU runs %s"):format(best, all))
  say("threads", ("%d (--threads N)"):format(C.cnn_threads()))
  optional("BLAS", "libopenblas.so.0", "libopenblas0-pthread",
    "matrix products; the engine's own otherwise")
  cuda(say, missing)
  module("argparse", "lua-argparse", "the options of every command")
  module("cjson", "lua-cjson", "weights files, --json")
  command("gnuplot", "gnuplot-nox", "curves")
  optional("cairo", "libcairo.so.2", "libcairo2", "text and frames of pictures")
  optional("readline", "libreadline.so.8", "libreadline8", "keys, history and Tab at the prompt")
  terminal()
  data(options.data)
  return problems > 0 and 1 or 0
end

return doctor
