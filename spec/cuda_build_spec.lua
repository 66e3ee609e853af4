-- The CUDA part of the build: what scripts/cuda finds, what make says about it, what
-- libcnn_cuda.so is, and what the program does with it where there is no driver.

local ffi = require "ffi"
local program = require "spec.support.program"

local quote = program.quote

-- ------------------------------------------------------------------------------------ scripts/cuda

-- Toolkits that were made up: trees of empty files, an nvcc that knows its release and a g++ that
-- knows its version. All of PATH is a directory with what the script needs.
local HEADERS = "cuda_runtime.h cublasLt.h"
local TOOLS = "sh sed grep tr sort head cat dirname readlink mkdir mv"

local function script(path, text)
  program.shell(("mkdir -p $(dirname %s)"):format(quote(path)))
  program.write(path, "#!/bin/sh\n" .. text .. "\n")
  assert(os.execute("chmod +x " .. quote(path)) == 0)
end

local function touch(folder, names, text)
  program.shell("mkdir -p " .. quote(folder))
  for name in names:gmatch "%S+" do program.write(folder .. "/" .. name, text or "") end
end

local function nvcc(folder, release, archs)
  script(folder .. "/nvcc", ([[case $1 in
    --version) echo "Cuda compilation tools, release %s, V%s.1" ;;
    --list-gpu-arch) for a in %s; do echo compute_$a; done ;;
    esac]]):format(release, release, archs or "75 80 86 87 89 90 100 120"))
end

local function compiler(folder, name, version) script(folder .. "/" .. name, "echo " .. version) end

local function host_config(folder, newest)
  touch(folder .. "/crt", "host_config.h", ("#if __GNUC__ > %d\n"):format(newest or 15))
end

local function cudnn(folder, major)
  touch(folder, "cudnn_version.h", "#define CUDNN_MAJOR " .. major .. "\n")
end

-- A toolkit in one tree, as NVIDIA's packages and the wheels of CUDA 13 have it.
local function toolkit(home, options)
  options = options or {}
  nvcc(home .. "/bin", options.release or "13.0", options.archs)
  touch(home .. "/include", HEADERS)
  host_config(home .. "/include", options.newest)
  touch(home .. "/lib64", "libcudart_static.a")
  if options.cudnn ~= false then cudnn(home .. "/include", options.cudnn or 9) end
end

describe("scripts/cuda", function()
  local root, path, trees = nil, nil, 0

  before_each(function()
    trees = trees + 1
    root = program.file("cuda" .. trees)
    path = root .. "/tools"
    program.shell("mkdir -p " .. quote(path))
    for tool in TOOLS:gmatch "%S+" do
      program.shell(("ln -s $(command -v %s) %s"):format(tool, quote(path)))
    end
    compiler(path, "g++", 12)
  end)
  teardown(program.sweep)

  -- The values by name, and the lines on standard error.
  local function found(environment, file)
    local err, values = program.file "cuda.err", {}
    local _, out = program.shell(
      ("env -i PATH=%s HOME=/nonexistent %s scripts/cuda --root %s %s 2>%s"):format(quote(path),
        environment or "", quote(root), file and quote(file) or "", quote(err)))
    for name, value in out:gmatch "(%S+) = ([^\n]*)" do
      local inside = value:sub(1, #root) == root
      values[name] = inside and value:sub(#root + 1) or value
    end
    return values, program.read(err)
  end

  local function missing(pattern, environment)
    local values, said = found(environment)
    assert.is_nil(next(values))
    assert.truthy(said:match "^no CUDA: [^\n]*\n$", said)
    assert.truthy(said:find(pattern), said)
  end

  it("finds /usr/local/cuda", function()
    toolkit(root .. "/usr/local/cuda")
    local values, said = found()
    assert.same({
      NVCC = "/usr/local/cuda/bin/nvcc", CUDA_RELEASE = "13.0", CUDA_CXX = "g++",
      CUDA_ARCHS = "75 80 86 89 90 100 120", CUDA_INC = "/usr/local/cuda/include",
      CUDA_LIB = "/usr/local/cuda/lib64", CUBLAS_INC = "/usr/local/cuda/include",
      CUDNN_INC = "/usr/local/cuda/include",
    }, values)
    assert.equal("", said)
  end)

  it("goes by CUDA_HOME, and nowhere else where that is set", function()
    toolkit(root .. "/usr/local/cuda")
    toolkit(root .. "/opt/cuda-12.4", { release = "12.4" })
    assert.equal("12.4", found("CUDA_HOME=" .. quote(root .. "/opt/cuda-12.4")).CUDA_RELEASE)
    missing("CUDA_HOME, /nowhere, has no bin/nvcc", "CUDA_HOME=/nowhere")
  end)

  it("finds the nvcc in PATH, through links", function()
    toolkit(root .. "/opt/cuda")
    program.shell(("ln -s ../opt/cuda/bin/nvcc %s/nvcc"):format(quote(path)))
    local values = found()
    assert.equal("/tools/nvcc", values.NVCC)
    assert.equal("/opt/cuda/include", values.CUDA_INC)
  end)

  it("finds Debian's packages", function()
    nvcc(root .. "/usr/lib/nvidia-cuda-toolkit/bin", "12.4")
    touch(root .. "/usr/include", HEADERS)
    host_config(root .. "/usr/include")
    touch(root .. "/usr/lib/x86_64-linux-gnu", "libcudart_static.a")
    cudnn(root .. "/usr/include/x86_64-linux-gnu", 9)
    local values, said = found()
    assert.equal("", said)
    assert.equal("/usr/include", values.CUDA_INC)
    assert.equal("/usr/lib/x86_64-linux-gnu", values.CUDA_LIB)
    assert.equal("/usr/include/x86_64-linux-gnu", values.CUDNN_INC)
  end)

  it("finds the wheels of CUDA 13", function()
    local wheels = "/usr/local/lib/python3.11/dist-packages/nvidia"
    toolkit(root .. wheels .. "/cu13", { cudnn = false })
    cudnn(root .. wheels .. "/cudnn/include", 9)
    local values, said = found()
    assert.equal("", said)
    assert.equal(wheels .. "/cu13/bin/nvcc", values.NVCC)
    assert.equal(wheels .. "/cu13/include", values.CUBLAS_INC)
    assert.equal(wheels .. "/cudnn/include", values.CUDNN_INC)
  end)

  it("finds the wheels of CUDA 12, each in a tree of its own, in an active environment", function()
    local wheels = "/venv/lib/python3.12/site-packages/nvidia"
    nvcc(root .. wheels .. "/cuda_nvcc/bin", "12.6")
    host_config(root .. wheels .. "/cuda_nvcc/include")
    touch(root .. wheels .. "/cuda_runtime/include", "cuda_runtime.h")
    touch(root .. wheels .. "/cuda_runtime/lib", "libcudart_static.a")
    touch(root .. wheels .. "/cublas/include", "cublasLt.h")
    cudnn(root .. wheels .. "/cudnn/include", 9)
    local values, said = found("VIRTUAL_ENV=" .. quote(root .. "/venv"))
    assert.equal("", said)
    assert.equal(wheels .. "/cuda_runtime/include", values.CUDA_INC)
    assert.equal(wheels .. "/cuda_runtime/lib", values.CUDA_LIB)
    assert.equal(wheels .. "/cublas/include", values.CUBLAS_INC)
  end)

  it("says in one line that there is no nvcc, and where it looked", function()
    missing "nvcc is not in CUDA_HOME, /usr/local/cuda, PATH, Debian's or Python's packages"
  end)

  it("refuses CUDA 11", function()
    toolkit(root .. "/usr/local/cuda", { release = "11.8" })
    missing "nvcc is of CUDA 11%.8, 12 or newer is needed"
  end)

  it("refuses a toolkit without its runtime", function()
    nvcc(root .. "/usr/local/cuda/bin", "13.0")
    missing "not its runtime's headers and libcudart_static"
  end)

  it("takes the architectures that are asked for and that nvcc knows", function()
    toolkit(root .. "/usr/local/cuda", { release = "12.2", archs = "50 75 80 86 89 90" })
    assert.equal("75 80 86 89 90", found().CUDA_ARCHS)
    assert.equal("80 90", found("CUDA_ARCH='90 80 120'").CUDA_ARCHS)
    missing('knows none of CUDA_ARCH="120", but 50 75 80 86 89 90;', "CUDA_ARCH=120")
  end)

  it("takes a g++ that is not too new for nvcc", function()
    toolkit(root .. "/usr/local/cuda", { newest = 11 })
    missing "needs g%+%+ up to version 11"
    compiler(path, "g++-11", 11)
    assert.equal("g++-11", found().CUDA_CXX)
  end)

  it("says in one line which headers are missing", function()
    toolkit(root .. "/usr/local/cuda", { cudnn = 8 })
    os.remove(root .. "/usr/local/cuda/include/cublasLt.h")
    local values, said = found()
    assert.equal("/usr/local/cuda/bin/nvcc", values.NVCC)
    assert.equal("", values.CUDNN_INC)
    assert.equal("", values.CUBLAS_INC)
    assert.truthy(said:find "^[^\n]*without cuBLAS's cublasLt.h and cuDNN 9's cudnn.h[^\n]*\n$")
    assert.truthy(said:find("pip install nvidia-cublas nvidia-cudnn-cu13", 1, true), said)
  end)

  it("says it once, as long as nothing changes", function()
    local file = root .. "/build/cuda.mk"
    local _, said = found(nil, file)
    assert.truthy(said:find "no CUDA")
    _, said = found(nil, file)
    assert.equal("", said)
    toolkit(root .. "/usr/local/cuda")
    _, said = found(nil, file)
    assert.equal("", said)
    assert.truthy(program.read(file):find("NVCC = ", 1, true))
  end)
end)

describe("make", function()
  teardown(program.sweep)

  -- What make would do and what it says, by a fresh build directory.
  local function make(words)
    local build = program.file "build"
    program.shell("rm -rf " .. quote(build))
    local status, out = program.shell(("env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u CUDA_HOME "
      .. "-u CUDA_ARCH make -n B=%s %s"):format(quote(build), words))
    assert.equal(0, status, out)
    return out
  end

  it("says once what is missing, and builds for the CPU", function()
    local out, times = make("CUDA_HOME=/nowhere"):gsub("no CUDA: [^\n]*building for the CPU", "")
    assert.equal(1, times, out)
    assert.is_nil(out:find "nvcc")
    assert.is_nil(out:find("libcnn_cuda.so ", 1, true))
    assert.truthy(out:find("/cnnlua ", 1, true))
  end)

  it("leaves CUDA out, and says nothing, with CUDA=0", function()
    local out = make "CUDA=0 CUDA_HOME=/nowhere"
    assert.is_nil(out:find "no CUDA")
    assert.is_nil(out:find("libcnn_cuda.so ", 1, true))
  end)

  it("builds libcnn_cuda.so where nvcc is, and without the headers that are not there", function()
    local home = program.file "toolkit"
    toolkit(home, { cudnn = false })
    local out = make("CUDA_ARCH='80 90' CUDA_HOME=" .. quote(home))
    assert.truthy(out:find("arch=compute_80,code=[compute_80,sm_80,sm_90]", 1, true), out)
    assert.truthy(out:find "DCNN_NO_CUDNN[^\n]*device_cuda%.cu", out)
    assert.is_nil(out:find "DCNN_NO_CUBLAS")
    assert.is_nil(out:find "conv_cudnn%.c")
    assert.truthy(out:find "gemm_cublas%.c")
    assert.truthy(out:find "%-o [^\n]*/libcnn_cuda%.so")
  end)
end)

-- ------------------------------------------------------------------------------- libcnn_cuda.so

local built = os.getenv "CNN_CUDA_BUILT"
if built == "" then built = nil end

local function with_library(name, fn)
  it(name, function()
    if not built then pending "needs nvcc of CUDA 12 or 13 (and no CUDA=0): libcnn_cuda.so" end
    fn()
  end)
end

-- What readelf says, as a list of what `pattern` captures.
local function elf(options, file, pattern)
  local status, out = program.shell(("readelf -W %s %s"):format(options, quote(file)))
  assert.equal(0, status, out)
  local list = {}
  for word in out:gmatch(pattern) do list[#list + 1] = word end
  return list
end

-- The kinds (1 PTX, 2 machine code) and architectures in a library: { ["2 90"] = true }. The driver
-- reads them from containers that begin with a magic number: a header of two shorts at 4 and the
-- length at 8, then entries: kind at 0, length of their header at 4, of the rest at 8, architecture
-- at 28.
local function code_in(file)
  local text, found, at = program.read(file), {}, 0
  local bytes = ffi.cast("const char *", text)
  local function number(kind, offset) return tonumber(ffi.cast(kind, bytes + offset)[0]) end
  while true do
    local start = text:find("\80\237\85\186", at + 1, true)
    if not start then return found end
    local entry = start - 1 + number("const uint16_t *", start + 5)
    at = entry + number("const uint64_t *", start + 7)
    while entry < at do
      local kind, arch = number("const uint16_t *", entry), number("const uint32_t *", entry + 28)
      found[kind .. " " .. arch] = true
      entry = entry + number("const uint32_t *", entry + 4) + number("const uint64_t *", entry + 8)
    end
  end
end

describe("libcnn_cuda.so", function()
  teardown(program.sweep)

  with_library("is below 20 MB", function()
    local f = assert(io.open(built, "rb"))
    local size = f:seek "end"
    f:close()
    assert.is_true(size < 20e6, size .. " bytes")
  end)

  with_library("shows one name", function()
    local names = {}
    for _, line in ipairs(elf("--dyn-syms", built, "[^\n]+")) do
      local kind, index, name = line:match "(%u+) +%u+ +(%w+) (%S+)$"
      if kind ~= "WEAK" and index ~= "UND" and index ~= "Ndx" then names[#names + 1] = name end
    end
    assert.same({ "cnn_cuda_device" }, names)
  end)

  with_library("needs the C library and nothing else", function()
    local status, out = program.shell("ldd -r " .. quote(built))
    assert.equal(0, status, out)
    assert.is_nil(out:find "undefined symbol", out)
    for _, name in ipairs(elf("-d", built, "NEEDED[^\n]*%[([^\n]*)%]")) do
      local known = name:match "^lib(%w+)%.so%.%d+$" or name:match "^(ld)%-linux"
      assert.truthy(("c m dl pthread rt ld"):find(known or "?", 1, true), name)
    end
  end)

  with_library("has code for each card and PTX", function()
    local settings = program.read(built:match "^(.*/)" .. "cuda.mk")
    local found, kept = code_in(built), nil
    for arch in settings:match("CUDA_ARCHS = ([^\n]*)"):gmatch "%d+" do
      if not kept or tonumber(kept) < 80 then kept = arch end
      assert.truthy(found["2 " .. arch], "no machine code for sm_" .. arch)
    end
    assert.truthy(found["1 " .. kept], "no PTX")
  end)
end)

-- ------------------------------------------------------------------------------ where no driver is

local function has_driver() return program.shell "ldconfig -p | grep -q libcuda.so.1" == 0 end

describe("the program", function()
  teardown(program.sweep)

  it("is linked with nothing of CUDA's", function()
    local files = { program.command }
    files[2] = os.getenv "CNN_LIB"
    for _, file in ipairs(files) do
      for _, name in ipairs(elf("-d", file, "NEEDED[^\n]*%[([^\n]*)%]")) do
        assert.is_nil(name:find "cud" or name:find "cublas", name)
      end
    end
  end)

  with_library("says in one line that there is no driver", function()
    if has_driver() then pending "needs a machine without NVIDIA's driver" end
    local out = program.ok "doctor".out
    local _, times = out:gsub("CUDA +built with CUDA %d+%.%d+, but no NVIDIA driver is loaded", "")
    assert.equal(1, times, out)
    assert.truthy(out:find "no NVIDIA driver[^\n]*\n +fix: [^\n]*driver", out)
    program.refuses("models/bn_lenet.lua --device cuda", 1, "no NVIDIA driver")
  end)

  with_library("says which file it is where the library is none", function()
    local bad = program.file("bad.so", "no library")
    local out = program.ok("doctor", { env = "CNN_CUDA_LIB=" .. quote(bad) }).out
    assert.truthy(out:find "CUDA +[^\n]*bad%.so: [^\n]*\n +fix: unset CNN_CUDA_LIB\n", out)
  end)

  with_library("does not use a cuDNN that was built for another CUDA", function()
    local header = program.read "kernels/plans_cudnn.h"
    local lines = { "#include <stddef.h>", "size_t cudnnGetVersion(void) { return 91002; }",
      "size_t cudnnGetCudartVersion(void) { return 11080; }" }
    for name in header:match("#define K_CUDNN_CALLS.-\n\n"):gmatch "X%((%u%w+)%)" do
      if not name:find "Version$" then lines[#lines + 1] = ("int cudnn%s;"):format(name) end
    end
    local source = program.file("cudnn.c", table.concat(lines, "\n") .. "\n")
    local library = program.file "libcudnn.so.9"
    local status, said = program.shell(("${CC:-cc} -shared -fPIC -o %s %s")
      :format(quote(library), quote(source)))
    assert.equal(0, status, said)
    local out = program.ok("doctor", { env = "CNN_CUDNN=" .. quote(library) }).out
    assert.truthy(out:find("cuDNN +9%.10%.2 %([^\n]*%) is not used: it was built for CUDA 11, "
      .. "this program for CUDA 1%d [^\n]*\n +fix: unset CNN_CUDNN\n"), out)
    out = program.ok("doctor", { env = "LD_LIBRARY_PATH=" .. quote(program.directory()) }).out
    assert.truthy(out:find "fix: pip uninstall nvidia%-cudnn%-cu11; .*nvidia%-cudnn%-cu1%d\n", out)
  end)

  with_library("goes over cuDNN's plans for the models, without a card", function()
    if not program.ok "doctor".out:find "\ncuDNN +9%." then pending "needs cuDNN 9" end
    local models = program.file "models"
    program.shell(("mkdir %s && cp models/bn_lenet.lua %s"):format(quote(models), quote(models)))
    local out = program.ok("doctor --cudnn-plans", {
      before = "cd " .. quote(program.directory()) .. ";",
    }).out
    assert.truthy(out:find "bn_lenet, batch 256: 2 convolutions", out)
    assert.truthy(out:find "weight gradient +| bf16 +| engine [^|]*workspace [^|]*| engine", out)
    assert.truthy(out:find "\n2 convolutions: 54 plans, 0 without;", out)
  end)
end)
