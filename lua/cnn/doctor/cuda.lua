-- cuda.lua - the doctor's lines about CUDA: driver, card, cuBLAS, cuDNN, what does not fit.
--
-- cuda(say, missing): how a line is said, and one with its fix. Nothing here is needed: without a
-- card everything runs on the CPU. Surprising: whether a card is served is not looked up in a list
-- of architectures but tried, by a sum on the card.

local ffi = require "ffi"
local C = require "cnn.ffi".C
local create = require "cnn.create"
local device_line = require "cnn.device_line"
local fail = require "cnn.fail"
local files = require "cnn.files"
local text = require "cnn.text"

-- What the last call said, without the general advice after it: here is a better one.
local function why()
  return (ffi.string(C.cnn_error()):gsub("^no CUDA device: ", ""):gsub(";.*", ""))
end

-- 13010 -> "13.1"
local function version(number)
  return ("%d.%d"):format(number / 1000, number % 1000 / 10)
end

-- The loaded driver's own number, such as 580.95.05, or nil.
local function driver_number()
  local line = files.read "/proc/driver/nvidia/version"
  return line and line:match "Kernel Module.-(%d+%.[%d.]+)"
end

-- ------------------------------------------------------------------------------------ no library

-- What is to be done about a library that cannot be opened, by what is said of it.
local function fix_of_library(reason)
  if os.getenv "CNN_CUDA_LIB" then return "unset CNN_CUDA_LIB" end
  if reason:find("has the CPU only", 1, true) then
    return "install nvcc of CUDA 12 or 13 (pip install nvidia-cuda-nvcc nvidia-cublas "
      .. "nvidia-cudnn-cu13), then make"
  end
  return "make, and make install where it is installed"
end

local function no_library(say, missing)
  local reason = why()
  if reason:find("has the CPU only", 1, true) and not driver_number() then
    return say("CUDA", "none: this build has the CPU only, and everything runs there")
  end
  missing("CUDA", reason, fix_of_library(reason))
end

-- --------------------------------------------------------------------------------------- no card

-- The oldest drivers that serve a CUDA of that major version.
local oldest_driver = { ["12"] = "525.60", ["13"] = "580.65" }

local function fix_of_driver(facts)
  local major = facts.toolkit:match "^%d+"
  return ("install NVIDIA's driver %s or newer, or build with an older CUDA: "
    .. "make CUDA_HOME=/usr/local/cuda-%d"):format(oldest_driver[major] or "of that CUDA",
    major - 1)
end

local function fix_of_no_driver()
  if driver_number() then
    return "start the container with the driver's libraries: docker run --gpus all"
  end
  return "on a machine with an NVIDIA card: apt-get install nvidia-driver (contrib, non-free)"
end

local function fix_of_no_card()
  local visible = os.getenv "CUDA_VISIBLE_DEVICES"
  if visible then return ("unset CUDA_VISIBLE_DEVICES (it is '%s')"):format(visible) end
  return "see whether nvidia-smi names a card; if not, its driver does not see one"
end

local function no_card(missing, facts, reason)
  local fix = fix_of_no_card
  if facts.driver == "0.0" then
    fix = fix_of_no_driver
  elseif reason:find("serves CUDA up to", 1, true) then
    fix = fix_of_driver
  end
  missing("CUDA", ("built with CUDA %s, but %s"):format(facts.toolkit, reason), fix(facts))
end

-- ---------------------------------------------------------------------------- card and libraries

-- An error line, or nil where the card computes.
local function tried()
  local computed, sum = pcall(function()
    return create.ones(2, 2, { device = "cuda" }):sum():item()
  end)
  if not computed then return fail.line(sum) end
  return sum ~= 4 and ("the card says that 1 + 1 + 1 + 1 = %g"):format(sum) or nil
end

local function fix_of_card(facts, reason)
  if tonumber(facts.capability) < 7.5 then
    return "--device cpu; cards from compute capability 7.5 (Turing) on are served"
  end
  if reason:find("no kernel image", 1, true) then
    return "make CUDA_ARCH=" .. facts.capability:gsub("%.", "")
  end
  return "restart the machine or reload the driver; nvidia-smi tells more"
end

local function card(say, missing, facts, count)
  local line = ("%s, compute capability %s, %.1f GB; driver %s (CUDA %s), built with CUDA %s")
    :format(facts.name, facts.capability, facts.memory / 1e9, driver_number() or "unknown",
      facts.driver, facts.toolkit)
  if count > 1 then line = ("%s; the first of %s"):format(line, text.counted(count, "card")) end
  local reason = tried()
  if reason then
    missing("CUDA", line .. ": " .. reason, fix_of_card(facts, reason))
  else
    say("CUDA", line .. " (--device cuda)")
  end
end

-- How a wheel of NVIDIA's is got. What is built without its headers has to be built anew.
local function install(wheel) return ("pip install %s, then make"):format(wheel) end

-- A wheel of cuDNN for another CUDA has its files where this one's go.
local function fix_of_cudnn(found, major)
  if os.getenv "CNN_CUDNN" then return "unset CNN_CUDNN" end
  local other = found:match "built for CUDA (%d+), this"
  if not other then return install("nvidia-cudnn-cu" .. major) end
  return ("pip uninstall nvidia-cudnn-cu%s; pip install --force-reinstall nvidia-cudnn-cu%s")
    :format(other, major)
end

local function libraries(say, missing, facts)
  local major = facts.toolkit:match "^%d+"
  if facts.cublas ~= "0" then
    say("cuBLAS", version(facts.cublas) .. " (matrix products)")
  else
    missing("cuBLAS", "not found (matrix products; the engine's own otherwise)",
      os.getenv "CNN_CUBLAS" and "unset CNN_CUBLAS"
        or install(major == "12" and "nvidia-cublas-cu12" or "nvidia-cublas"))
  end
  local found = ffi.string(C.cnn_cuda_cudnn()):gsub("^cuDNN ", "")
  if facts.cudnn ~= "0" then
    say("cuDNN", found .. " (convolutions)")
  else
    found = found:gsub("( is not used: .*); install.*", "%1")
    missing("cuDNN", found .. " (convolutions; the engine's own otherwise)",
      fix_of_cudnn(found, major))
  end
end

return function(say, missing)
  local facts = device_line.card()
  if not facts then return no_library(say, missing) end
  local count = C.cnn_cuda_count()
  if count == 0 then
    no_card(missing, facts, why())
  else
    card(say, missing, facts, count)
  end
  libraries(say, missing, facts)
end
