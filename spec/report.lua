-- report.lua - what `make test` prints: a line for each spec file, failures and skips in full, and
-- at the end `N passed, N failed, N skipped`.
--
-- An output handler of busted. Contract: the exit status is 0 only when nothing failed and
-- something ran. Surprising: busted's own status is the number of failures, which a shell takes
-- modulo 256, so 256 failures would pass; hence the exit here.

return function(options)
  local busted = require "busted"
  local handler = require "busted.outputHandlers.base"()
  local file = { passed = 0, failed = 0, skipped = 0 }

  local function say(...)
    io.write(...)
    io.write "\n"
    io.flush()
  end

  local function summary(n)
    return ("%d passed, %d failed, %d skipped"):format(n.passed, n.failed, n.skipped)
  end

  local function place(item)
    local trace = item.element.trace or item.trace
    if not trace or not trace.short_src then return "" end
    return ("%s:%d: "):format(trace.short_src, trace.currentline)
  end

  local function text(message)
    if message == nil then return "no message" end
    return type(message) == "string" and message or require "pl.pretty".write(message)
  end

  local function indented(message)
    return "    " .. text(message):gsub("\n", "\n    ")
  end

  local function file_start()
    file = { passed = 0, failed = 0, skipped = 0 }
    return nil, true
  end

  local names = { success = "passed", failure = "failed", error = "failed", pending = "skipped" }
  local function test_end(_, _, status)
    local name = names[status]
    file[name] = file[name] + 1
    return nil, true
  end

  local function outside_test(element) -- in a setup, a teardown or the file itself
    if element.descriptor ~= "it" then file.failed = file.failed + 1 end
    return nil, true
  end

  local function file_end(element)
    say(("%-28s %s (%.1f s)"):format(element.name, summary(file), element.duration))
    return nil, true
  end

  local function totals()
    return {
      passed = handler.successesCount,
      failed = handler.failuresCount + handler.errorsCount,
      skipped = handler.pendingsCount,
    }
  end

  local function suite_end()
    for _, list in ipairs { handler.failures, handler.errors } do
      for _, item in ipairs(list) do
        say("\nFAILED ", place(item), item.name)
        say(indented(item.message))
        if options.verbose and item.trace and item.trace.traceback then
          say(indented(item.trace.traceback))
        end
      end
    end
    for _, item in ipairs(handler.pendings) do
      say("\nskipped ", place(item), item.name)
      if item.message ~= nil then say(indented(item.message)) end
    end
    say("\n", summary(totals()))
    return nil, true
  end

  local function exit()
    local n = totals()
    os.exit(n.failed == 0 and n.passed + n.skipped > 0, true)
  end

  busted.subscribe({ "file", "start" }, file_start)
  busted.subscribe({ "file", "end" }, file_end)
  busted.subscribe({ "test", "end" }, test_end, { predicate = handler.cancelOnPending })
  busted.subscribe({ "error" }, outside_test)
  busted.subscribe({ "failure" }, outside_test)
  busted.subscribe({ "suite", "end" }, suite_end)
  busted.subscribe({ "exit" }, exit)
  return handler
end
