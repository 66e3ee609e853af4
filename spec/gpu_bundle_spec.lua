-- What one command shows of a GPU, and the archive that brings it to a bare machine: the runner's
-- own ways, on made-up parts and on the host double. What it finds on a card only a card shows.

local cjson = require "cjson"
local program = require "spec.support.program"

local quote = program.quote
local double = os.getenv "CNN_CUDA_HOST_LIB"

local function has_double() return double and program.exists(double) end

-- The status and what was said, without the end of the last line.
local function shell(command)
  local status, text = program.shell(command)
  return status, (text:gsub("\n$", ""))
end

-- gpu-check with these words: how it ended, its report, what it printed, where the report is.
local function check(words, where)
  local out = program.file "gpu-report"
  os.execute("rm -rf " .. quote(out))
  local status, text = shell(("export OUT=%s; %s %s"):format(quote(out),
    where or "CNNLUA=" .. quote(program.command) .. " scripts/gpu-check", words))
  local file = out .. "/report.json"
  local report = program.exists(file) and cjson.decode(program.read(file)) or nil
  return status, report, text, out
end

local function part_of(report, name)
  for _, part in ipairs(report.parts) do
    if part.name == name then return part end
  end
end

local function found(part, name)
  for _, one in ipairs(part.checks) do
    if one.name == name then return one end
  end
end

-- A directory of parts: name -> the body of its run, each with the checks "first" and "second".
local function made_up(parts)
  local folder, order = program.file "parts", {}
  os.execute("mkdir -p " .. quote(folder))
  for i, part in ipairs(parts) do
    order[i] = ("%q"):format(part[1])
    program.write(("%s/%s.lua"):format(folder, part[1]), ([[
      return {
        about = "made up", seconds = 2, checks = { "first", "second" }, cut = %s,
        tables = { { name = "t", title = "a table", columns = { "what", "size" } } },
        run = function(part) %s end,
      }]]):format(part.cut and "true" or "false", part[2]))
  end
  program.write(folder .. "/order.lua", "return { " .. table.concat(order, ", ") .. " }")
  return folder
end

describe("gpu-check", function()
  teardown(program.sweep)

  it("lists by name what waits for a card", function()
    local status, report, text = check "--list"
    assert.equal(0, status)
    assert.is_nil(report)
    for _, name in ipairs {
      "every op in every variant agrees with generic", "memcheck", "racecheck",
      "resnet: 20 losses of replayed graphs in fp32", "alexnet: ten epochs land in the published",
      "train in bf16: every net beside PyTorch's best mode", "1,000 steps take no more memory",
    } do assert.truthy(text:find(name, 1, true), name) end
  end)

  it("refuses what it does not know, in one line", function()
    local status, _, text = check "--only specs,nothing"
    assert.equal(2, status)
    assert.equal("gpu-check: there is no part 'nothing'; --list shows them", text)
  end)

  it("goes on past parts that fail, raise, crash and hang, and reports each", function()
    local alive = program.file "alive"
    local folder = made_up {
      { "hangs", ([[part:passed "first"; os.execute "sleep 20 && touch %s"]]):format(alive) },
      { "cut", [[part:passed "first"; while true do end]], cut = true },
      { "well", [[part:passed("first", "fine"); part:skipped("second", "for a reason")
                  part:figure("length", 12.5, "m")
                  part:row("t", { what = "a", size = 1 })
                  part:row("t", { what = "b", size = 2000 })]] },
      { "wrong", [[part:check("first", 1 == 2, "1 is not 2")]] },
      { "raises", [[part:passed "first"; error("what a pity", 0)]] },
      { "crashes", [[part:passed "first"; os.execute "kill -ABRT $PPID"]] },
      { "last", [[part:passed "first"; part:passed "second"]] },
    }
    local status, report, text, out = check("--minutes 0.28 --parts " .. quote(folder))
    assert.equal(1, status, text)
    assert.same({ 7, 4, 6 }, { report.passed, report.failed, report.skipped })
    local states = {}
    for i, part in ipairs(report.parts) do states[i] = part.name .. " " .. part.status end
    assert.same({
      "hangs failed", "cut passed", "well passed", "wrong failed", "raises failed",
      "crashes failed", "last passed",
    }, states)
    local well = part_of(report, "well")
    assert.same({ name = "first", status = "passed", text = "fine" }, found(well, "first"))
    assert.same({ name = "length", value = 12.5, unit = "m" }, well.figures[1])
    assert.same({ { what = "a", size = 1 }, { what = "b", size = 2000 } }, well.tables[1].rows)
    assert.equal("1 is not 2", found(part_of(report, "wrong"), "first").text)
    assert.same({ name = "second", status = "skipped", text = "not reached" },
      found(part_of(report, "wrong"), "second"))
    assert.equal("what a pity", part_of(report, "raises").reason)
    assert.equal("passed", found(part_of(report, "raises"), "first").status)
    assert.truthy(part_of(report, "crashes").reason:find "^ended by signal 6")
    assert.truthy(part_of(report, "hangs").reason:find "^out of time after %d+ s")
    assert.is_true(report.seconds < 60 * 0.28, report.seconds)
    local written = program.read(out .. "/report.txt")
    for _, line in ipairs {
      "\nwell       PASSED, ", "  passed  first: fine\n", "  skipped second: for a reason\n",
      "  length: 12.5 m\n", "    a    |     1\n    b    | 2,000\n",
      "\nFAILED wrong, first\n", "\nFAILED raises: what a pity\n",
      "\n7 checks passed, 4 failed, 6 skipped, in ",
    } do
      assert.truthy(written:find(line, 1, true), line .. written)
      assert.truthy(text:find(line, 1, true), line)
    end
    assert.truthy(program.read(out .. "/log.txt"):find("==== last, status 0", 1, true))
    assert.is_false(program.exists(alive))
  end)

  it("runs nothing in place of a card that is not there", function()
    local without = "export CNN_CUDA_LIB=/nowhere.so; CNNLUA=" .. quote(program.command)
      .. " scripts/gpu-check"
    local status, report = check("--only machine,specs,compile", without)
    assert.equal(1, status)
    assert.equal("failed", part_of(report, "machine").status)
    for _, name in ipairs { "specs", "compile" } do
      for _, one in ipairs(part_of(report, name).checks) do
        assert.equal("skipped", one.status)
        assert.truthy(one.text:find "^no card: .*/nowhere.so", one.text)
      end
    end
  end)

  it("keeps to its minutes: what has no time is skipped by name", function()
    local folder = made_up { { "long", "while true do end" }, { "late", "part:passed 'first'" } }
    local status, report = check("--minutes 0.1 --parts " .. quote(folder))
    assert.equal(1, status)
    assert.is_true(report.seconds < 60 * 0.1, report.seconds)
    assert.equal("failed", part_of(report, "long").status)
    assert.equal("passed", found(part_of(report, "late"), "first").status)
    status, report = check("--minutes 0.06 --parts " .. quote(folder))
    assert.equal(1, status)
    assert.same({ 0, 0, 4 }, { report.passed, report.failed, report.skipped })
    assert.same({ name = "first", status = "skipped", text = "no time was left" },
      found(part_of(report, "late"), "first"))
  end)

  it("runs its parts in small on the host double", function()
    if not has_double() then pending "needs the host double: make specs builds it" end
    local status, report, text = check "--host --only machine,memory,gradients,losses,epochs,bench"
    assert.equal(0, status, text)
    assert.is_true(report.host)
    local names = {}
    for i, part in ipairs(report.parts) do names[i] = part.name end
    assert.same({ "machine", "memory", "gradients", "losses", "epochs", "bench" }, names)
    assert.equal("passed", found(part_of(report, "machine"), "a card is found and computes").status)
    for _, one in ipairs(part_of(report, "memory").checks) do
      assert.equal("passed", one.status, one.name)
    end
    local run = part_of(report, "epochs").tables[1].rows[1]
    assert.equal("bn_lenet", run.net)
    assert.is_true(run.loss > 1 and run.seconds > 0)
    local rate = part_of(report, "bench").tables[1].rows[1]
    assert.is_true(rate.cnnlua > 0 and rate.precision == "tf32")
  end)
end)

-- ------------------------------------------------------------------------------------ the archive

-- A build directory whose card library is the double, or `library`.
local function build(name, library)
  local folder = program.file(name)
  local beside = os.getenv "CNN_LIB" or program.command:gsub("[^/]*$", "libcnn.so")
  local status, said = shell(([[mkdir -p %s/bundle && cp %s %s/bundle/cnnlua &&
    cp %s %s/libcnn.so && cp %s %s/libcnn_cuda.so && cp %s %s/libcnn_cuda_host.so]]):gsub("%%s",
    "%%q"):format(folder, program.command, folder, beside, folder, library or double, folder,
    double, folder))
  assert.equal(0, status, said)
  return folder
end

describe("gpu-bundle", function()
  teardown(program.sweep)

  it("says in one line what is not there to be packed", function()
    local status, text = shell("B=/nowhere scripts/gpu-bundle")
    assert.equal(1, status)
    assert.truthy(text:find "^gpu%-bundle: no /nowhere/bundle/cnnlua: [^\n]+$", text)
  end)

  it("packs what runs from any directory, with the libraries and packages in it", function()
    if not has_double() then pending "needs the host double: make specs builds it" end
    local folder = build "build"
    local status, text = shell(("B=%s scripts/gpu-bundle"):format(quote(folder)))
    assert.equal(0, status, text)
    local where = program.file "somewhere else"
    status, text = shell(("mkdir %s && tar xf %s/gpu-bundle.tar.gz -C %s"):format(
      quote(where), quote(folder), quote(where)))
    assert.equal(0, status, text)
    local top = where .. "/gpu-bundle"
    for _, file in ipairs {
      "lib/libluajit-5.1.so.2", "lib/libpng16.so.16", "lib/libz.so.1", "lib/libcnn_cuda.so",
      "packages/argparse.lua", "packages/busted/runner.lua", "packages/cjson.so", "LICENSE",
      "data/train-images-idx3-ubyte.gz", "models/resnet.lua", "scripts/torch_nets.py",
    } do assert.is_true(program.exists(top .. "/" .. file), file) end
    local report
    status, report, text = check("--host --only machine,specs",
      "cd / && env -u LUA_PATH -u LUA_CPATH -u CNN_LIB " .. quote(top .. "/gpu-check"))
    assert.equal(0, status, text)
    for _, part in ipairs(report.parts) do assert.equal("passed", part.status, part.name) end
    assert.truthy(shell("! ls " .. quote(top .. "/gpu-report")) == 0)
  end)

  it("refuses to be too large", function()
    if not has_double() then pending "needs the host double: make specs builds it" end
    local large = program.file "large"
    shell(("head -c 40000000 /dev/urandom >%s"):format(quote(large)))
    local folder = build("large-build", large)
    local status, text = shell(("B=%s scripts/gpu-bundle"):format(quote(folder)))
    assert.equal(1, status)
    assert.truthy(text:find "^gpu%-bundle: the archive is %d+ bytes, 60000000 is the limit$", text)
    assert.is_false(program.exists(folder .. "/gpu-bundle.tar.gz"))
  end)
end)
