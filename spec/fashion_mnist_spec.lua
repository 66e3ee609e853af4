-- Finding Fashion-MNIST and fetching it: what is said when that fails, and the fix for it.

local idx = require "spec.support.idx"
local program = require "spec.support.program"

local quote, file = program.quote, program.file

describe("the doctor", function()
  teardown(program.sweep)

  -- how a directory of data is named, and the fix for it
  local named = {
    { "doctor --data /nowhere", nil, "/nowhere is no directory\n +fix: leave out %-%-data" },
    { "doctor", "CNNLUA_DATA=/nowhere", "/nowhere is no directory\n +fix: unset CNNLUA_DATA" },
    { "doctor --data /", nil, "/ has no train%-images.*fix: leave out %-%-data" },
  }
  for _, row in ipairs(named) do
    it("tells the fix for " .. (row[2] and row[2] .. " " or "") .. row[1], function()
      local r = program.run(row[1], { env = row[2] })
      assert.equal(1, r.status)
      assert.truthy(r.out:find(row[3]), r.out)
      assert.is_nil(r.out:find("apt-get install dataset", 1, true))
    end)
  end

  it("tells the fix for damaged data", function()
    local dir = idx.directory("damaged", { "not images" })
    local r = program.run("doctor --data " .. quote(dir))
    assert.equal(1, r.status)
    assert.truthy(r.out:find
      "damaged/train%-images.*fix: leave out %-%-data, or put the file", r.out)
  end)
end)

-- Data that are nowhere, so that they have to be fetched: the tools are false ones in a directory
-- that is all of PATH, and no network is asked.
describe("a download that fails says", function()
  teardown(program.sweep)

  local fetches_nothing = "echo 'curl: (6) Could not resolve host: nowhere' >&2; exit 6"
  -- what, what is other among the tools (false: it is not there), what the line has to say
  local cases = {
    { "that sha256sum is missing", { sha256sum = false }, "sha256sum is not there" },
    { "that gzip is missing", { gzip = false }, "gzip is not there" },
    { "that nothing can fetch", { curl = false }, "neither curl nor wget" },
    { "that the cache cannot be made", {}, "cannot create directory .*/proc/cnnlua",
      cache = "/proc" },
    { "why nothing came", { curl = fetches_nothing },
      "fetched: curl: %(6%) Could not resolve host: nowhere;" },
    { "how a silent tool ended", { curl = false, wget = "exit 4" },
      "fetched: wget ended with 4;" },
    { "that something else came", {
      curl = "while [ \"$1\" != -o ]; do shift; done; echo x >$2",
    }, "wrong checksum" },
  }

  local function make_tools(folder, changes)
    local tools = { gzip = true, sha256sum = true, mkdir = true, curl = "exit 0" }
    for name, what in pairs(changes) do tools[name] = what end
    program.shell("mkdir " .. quote(folder))
    for name, what in pairs(tools) do
      if what == true then
        program.shell(("ln -s $(command -v %s) %s/"):format(name, quote(folder)))
      elseif what then
        program.write(folder .. "/" .. name, "#!/bin/sh\n" .. what .. "\n")
        program.shell(("chmod +x %s/%s"):format(quote(folder), name))
      end
    end
  end

  for i, row in ipairs(cases) do
    local what, changes, pattern = unpack(row)
    it(what, function()
      local folder = file("tools" .. i)
      make_tools(folder, changes)
      local script = quote(file("find.lua", [[
        local ffi = require "ffi"
        ffi.cdef "int setenv(const char *name, const char *value, int replace);"
        ffi.C.setenv("PATH", arg[1], 1)
        local fashion_mnist = require "cnn.fashion_mnist"
        fashion_mnist.DISTRIBUTION = "/nowhere"
        fashion_mnist.find()]]))
      program.refuses(script .. " " .. quote(folder), 1, pattern, {
        env = "CNNLUA_DATA= XDG_CACHE_HOME=" .. quote(row.cache or file("cache " .. i)),
      })
    end)
  end
end)
