-- machine.lua - what the doctor finds on this machine.

local process = require "scripts.gpu.process"

local DOCTOR, CARD, CUBLAS, CUDNN = "the doctor ends well", "a card is found and computes",
  "cuBLAS is found", "cuDNN is found"

-- The doctor's line about something, "" when there is none.
local function line_of(text, what)
  return ("\n" .. text):match("\n" .. what .. " +([^\n]*)") or ""
end

local function check_library(part, name, check, text)
  local line = line_of(text, name)
  if part.host then return part:skipped(check, "the host double has kernels of its own alone") end
  part:done(check, line:find "^%d" and "passed" or "skipped", line)
end

local function run(part)
  local doctor = part:cnnlua("doctor", { seconds = 10 })
  io.write(doctor.out, doctor.err)
  part:check(DOCTOR, doctor.status == 0, doctor.status ~= 0 and process.ending(doctor) or nil)
  local cuda = line_of(doctor.out, "CUDA")
  part:check(CARD, cuda:find("(--device cuda)", 1, true) ~= nil, cuda)
  check_library(part, "cuBLAS", CUBLAS, doctor.out)
  check_library(part, "cuDNN", CUDNN, doctor.out)
end

return {
  about = "the doctor: card, driver, cuBLAS, cuDNN", seconds = 15,
  checks = { DOCTOR, CARD, CUBLAS, CUDNN }, run = run,
}
