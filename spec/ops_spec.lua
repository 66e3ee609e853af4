-- Every op of core/cnn.h, multiplied by kernel variants, memory layouts and numbers of threads.
-- The rows are in spec/support/catalogue.lua.

local cnn = require "cnn"
local bind = require "cnn.bind"
local engine = require "spec.support.engine"
local compare = require "spec.support.compare"
local harness = require "spec.support.harness"
local inputs = require "spec.support.inputs"
local catalogue = require "spec.support.catalogue"

local function fail_at(op, case, where, why)
  error(("%s, %s: %s"):format(harness.describe(op, case), where, why), 0)
end

-- What generic makes of the same values stored row-major.
local function reference(op, row, case, layout)
  local values = harness.values_of(case, layout)
  return engine.with("generic", harness.run, op, row, case, values, "dense"), values
end

local function check_clean(op, case, where, results)
  for _, result in ipairs(results) do
    local why = compare.clean(result.values, result.n)
    if why then fail_at(op, case, where, result.what .. ": " .. why) end
  end
end

local function check_variants(op, row, case, layout)
  local expected, values = reference(op, row, case, layout)
  for _, variant in ipairs(engine.variants) do
    local where = variant .. ", " .. layout
    local got = engine.with(variant, harness.run, op, row, case, values, layout)
    check_clean(op, case, where, got)
    local why = harness.difference(got, expected, row.tolerance or 2e-6, row.floor or 0.5)
    if why then fail_at(op, case, where, why) end
  end
end

-- An op may only write to what it is meant to write to.
local function check_untouched(op, row, case)
  local values = harness.values_of(case, "dense")
  local results = harness.run(op, row, case, values, "dense")
  local specs = harness.tensors(case)
  for i = 1, #specs do
    local after = results[#results - #specs + i]
    for k, v in ipairs(values[i]) do
      local stored = cnn.tensor(v):item()
      if after.values[k - 1] ~= stored then
        fail_at(op, case, "input " .. i, ("element %d became %.9g, it was %.9g"):format(k,
          after.values[k - 1], stored))
      end
    end
  end
end

local function check_recorded(op, row, case, layout)
  local values = harness.values_of(case, layout)
  for _, variant in ipairs(engine.variants) do
    local function run(recorded)
      return engine.with(variant, harness.run_on_clones, op, row, case, values, layout, recorded)
    end
    local alone = run "nothing"
    for _, recorded in ipairs { "the forward", "all" } do
      local why = harness.difference(run(recorded), alone)
      if why then fail_at(op, case, ("%s, %s recorded"):format(variant, recorded), why) end
    end
  end
end

local function check_gradient(op, row, case)
  local values = harness.values_of(case, "dense")
  local results = engine.with("generic", harness.run, op, row, case, values, "dense")
  local checked = 0
  for _, result in ipairs(results) do
    local which = tonumber(result.what:match "^the gradient of input (%d+)$")
    if which then
      local numeric, analytic, norm = engine.with("generic", harness.gradient_pair, op, row, case,
        which, result)
      checked = checked + 1
      if not (math.abs(numeric - analytic) <= 4e-3 * norm + 2e-4) then
        fail_at(op, case, result.what, ("along a random direction backward says %.7g, central " ..
          "differences say %.7g"):format(analytic, numeric))
      end
    end
  end
  return checked
end

-- The worst and the best variant: those between are cut into pieces by the same code.
local function check_threads(op, row, layout)
  local case = row.wide
  local values = harness.values_of(case, layout)
  local cpu = engine.cpu_variants
  for _, variant in ipairs { cpu[1], cpu[#cpu] } do
    local first
    for _, threads in ipairs { 1, 2, 7 } do
      cnn.set_threads(threads)
      local got = engine.with(variant, harness.run, op, row, case, values, layout)
      check_clean(op, case, variant, got)
      first = first or got
      local why = harness.difference(got, first)
      if why then fail_at(op, case, ("%s, %d threads"):format(variant, threads), why) end
    end
  end
end

describe("the catalogue of ops", function()
  it("has a row for every op of core/cnn.h, and no other", function()
    local missing, known = {}, {}
    for _, op in ipairs(bind.list) do
      known[op.name] = true
      if not catalogue[op.name] then missing[#missing + 1] = op.name end
    end
    assert.same({}, missing)
    for name in pairs(catalogue) do assert.is_true(known[name], name .. " is not in core/cnn.h") end
  end)

  it("runs on more than one kernel variant", function()
    assert.equal("generic", engine.variants[1])
    assert.is_true(#engine.variants >= 2)
  end)
end)

for _, op in ipairs(bind.list) do
  local name, row = op.name, catalogue[op.name]
  if row then
    describe(name, function()
      after_each(function()
        cnn.set_threads(0)
        engine.clean()
        engine.use(nil)
      end)

      it("agrees with generic, in every variant and layout", function()
        local ran = 0
        for _, case in ipairs(row.cases) do
          for _, layout in ipairs(row.layouts or inputs.layouts) do
            if inputs.applies(harness.tensors(case), layout) then
              check_variants(name, row, case, layout)
              ran = ran + 1
            end
          end
        end
        assert.is_true(ran > 0)
      end)

      if not row.writes and not row.changes then
        it("leaves its inputs alone", function()
          for _, case in ipairs(row.cases) do check_untouched(name, row, case) end
        end)
      end

      if not row.writes then
        it("gives the same bits recorded in a step, in memory of its dying inputs", function()
          for _, layout in ipairs { "dense", "channels_last" } do
            for _, case in ipairs(row.cases) do
              if layout == "dense" or inputs.applies(harness.tensors(case), layout) then
                check_recorded(name, row, case, layout)
              end
            end
          end
        end)
      end

      if row.grad ~= false then
        it("has the gradient that differences show", function()
          local checked = 0
          for _, case in ipairs(row.cases) do
            checked = checked + check_gradient(name, row, case)
          end
          assert.is_true(checked > 0)
        end)
      end

      it("gives the same bits for 1, 2 and 7 threads", function()
        check_threads(name, row, "dense")
        if inputs.applies(harness.tensors(row.wide), "channels_last") and not row.layouts then
          check_threads(name, row, "channels_last")
        end
      end)
    end)
  end
end
