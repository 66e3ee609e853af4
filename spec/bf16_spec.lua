-- Activations in bf16, with --precision bf16 on the CPU and on a card: every op of the catalogue
-- takes them, those that have kernels for them answer in bf16, all near to what generic makes of
-- the same values, and steps are the same bits whether they run op by op, are recorded or replayed.

local cnn = require "cnn"
local bind = require "cnn.bind"
local engine = require "spec.support.engine"
local harness = require "spec.support.harness"
local inputs = require "spec.support.inputs"
local catalogue = require "spec.support.catalogue"
local scripts = require "spec.support.scripts"

local ops = bind.ops

-- Ops that answer in bf16. Of those in `every` all inputs are activations, of the others the
-- first.
local narrow, every = {}, {}
for name in ([[neg abs relu sign tanh sigmoid gelu silu exp log sqrt leaky_relu clamp affine
  contiguous clone channels_last view reshape transpose permute narrow select expand squeeze
  unsqueeze detach conv2d max_pool2d avg_pool2d adaptive_avg_pool2d batch_norm
  dropout]]):gmatch "%S+" do
  narrow[name] = true
end
for name in ("add sub mul div pow maximum minimum cat stack"):gmatch "%S+" do
  narrow[name], every[name] = true, true
end
-- Sums of many are f32 whatever they are of.
local sums = { sum = true, mean = true, linear = true, matmul = true, cross_entropy = true }
-- Where y is 1 to bf16 the gradient is 0, which is no error: their inputs are smaller.
local saturates = { tanh = true, sigmoid = true }

local function rounded(values, scale)
  local list = {}
  for i, v in ipairs(values) do list[i] = scale * v end
  if #list == 0 then return list end
  return engine.list(cnn.tensor(list):to "bf16")
end

-- On a card a step that comes again within one call is a replayed graph.
local function with_bf16(variant, f)
  return engine.with(variant, function()
    assert(engine.C.cnn_set_precision "bf16" == 0)
    return f()
  end)
end

-- Calls f with each of the list under the best variant of the CPU, and of the card if there is one.
local function on_each_device(list, f)
  for _, variants in ipairs { engine.cpu_mixed_variants, engine.card_variants } do
    local best = variants[#variants]
    for _, item in ipairs(best and list or {}) do with_bf16(best, function() f(item) end) end
  end
end

-- x as an activation; `slice`: as the middle of a larger one, NaN on both sides.
local function activation(x, slice)
  local y = ops.to(x, "bf16")
  if not slice or y:dim() < 2 or y:numel() == 0 then return y end
  local sizes = { unpack(y:shape()) }
  sizes[2] = 3
  local beside = ops.to(inputs.dense(sizes, (function()
    local list, n = {}, 1
    for _, size in ipairs(sizes) do n = n * size end
    for i = 1, n do list[i] = 0 / 0 end
    return list
  end)()), "bf16")
  return ops.narrow(ops.cat({ beside, y, beside }, 2), 2, 4, y:size(2))
end

describe("bf16 activations", function()
  after_each(function()
    engine.clean()
    engine.use(nil)
  end)

  for _, op in ipairs(bind.list) do
    local name, row = op.name, catalogue[op.name]
    if row and not row.writes then
      local function values_of(case)
        local list = harness.values_of(case, "dense")
        for i, values in ipairs(list) do
          list[i] = rounded(values, saturates[name] and 0.25 or 1)
        end
        return list
      end

      local function as(case, slice)
        local specs = harness.tensors(case)
        return function(i, x)
          if (i > 1 and not every[name]) or specs[i].dtype then return x end
          return activation(x, slice)
        end
      end

      it("are taken by " .. name, function()
        local cases = { row.wide, unpack(row.cases) }
        for _, variant in ipairs(engine.mixed_variants) do
          for _, case in ipairs(cases) do
            local values = values_of(case)
            local expected = engine.with("generic", harness.run, name, row, case, values, "dense")
            for _, layout in ipairs(row.layouts or { "dense", "channels_last" }) do
              for _, slice in ipairs { false, true } do
                if layout == "dense" or inputs.applies(harness.tensors(case), layout) then
                  local got = with_bf16(variant, function()
                    return harness.run(name, row, case, values, layout, as(case, slice))
                  end)
                  local tolerance = math.max(row.tolerance or 0, 0.03)
                  local why = harness.difference(got, expected, tolerance, 1)
                  if why then
                    error(("%s, %s, %s%s: %s"):format(harness.describe(name, case), variant,
                      layout, slice and ", a slice" or "", why), 0)
                  end
                end
              end
            end
          end
        end
      end)

      local dtype = narrow[name] and "bf16" or sums[name] and "f32"
      if dtype then
        it(("become %s by %s"):format(dtype, name), function()
          on_each_device(row.cases, function(case)
            local values, tensors = values_of(case), {}
            for i, spec in ipairs(harness.tensors(case)) do
              tensors[i] = as(case)(i, inputs.laid_out(spec, values[i], "dense"))
            end
            if row.prepare then row.prepare(unpack(tensors)) end
            local y = harness.call(name, case, tensors)
            assert.equal(dtype, y.dtype, harness.describe(name, case))
          end)
        end)
      end

      it("give the same bits when " .. name .. " is recorded and replayed", function()
        on_each_device(row.cases, function(case)
          local values = values_of(case)
          local function run(recorded)
            return harness.run_on_clones(name, row, case, values, "dense", recorded, as(case))
          end
          local alone = run "nothing"
          for _, recorded in ipairs { "the forward", "all", "all", "all" } do
            local why = harness.difference(run(recorded), alone)
            if why then
              error(("%s, %s recorded: %s"):format(harness.describe(name, case), recorded, why), 0)
            end
          end
        end)
      end)
    end
  end

  it("stay bf16 beside numbers", function()
    on_each_device({ 1 }, function()
      local y = cnn.randn(2, 3):to(engine.device):to "bf16"
      local results = { y / 2, y ^ 3, y:maximum(0), y * cnn.tensor(2), 1 - y, (y * 2 + 1):relu() }
      for _, x in ipairs(results) do assert.equal("bf16", x.dtype) end
      assert.equal("f32", (y + y:to "f32").dtype)
    end)
  end)

  it("have gradients in bf16, weights in f32", function()
    on_each_device({ 1 }, function()
      local seen = {}
      local look = require "cnn.autograd".op {
        name = "look", forward = function(_, x) return x end,
        backward = function(_, dy) seen[#seen + 1] = dy.dtype return dy end,
      }
      local net = cnn.nn.Conv2d(2, 8, 3):to(engine.device)
      local x = cnn.randn(2, 2, 6, 6):to(engine.device)
      x.requires_grad = true
      look(net(x)):sum():backward()
      look(net(x)):backward(cnn.ones(2, 8, 4, 4):to(engine.device))
      look(look(net(x)):view(2, -1)):to("f32"):sum():backward()
      assert.same({ "bf16", "bf16", "bf16", "bf16" }, seen)
      assert.equal("f32", x.grad.dtype)
      for _, p in ipairs(net:parameters()) do assert.equal("f32", p.grad.dtype) end
    end)
  end)

  -- Twenty losses of LeNet, and the gradients of its first step.
  local function trained(precision)
    cnn.precision(precision)
    cnn.manual_seed(3)
    local net = scripts.recipe("bn_lenet").net:to(engine.device)
    local sgd = cnn.optim.SGD(net:parameters(), { lr = 0.2 })
    local losses, gradients = {}, {}
    for i = 1, 20 do
      local x, y = cnn.rand(32, 1, 28, 28), {}
      for k = 1, 32 do -- a class is where the picture is bright
        y[k] = 1 + (i + k) % 10
        x:narrow(1, k, 1):narrow(3, 2 * y[k], 6):fill(2)
      end
      sgd:zero_grad()
      local loss = net(x:to(engine.device)):cross_entropy(cnn.tensor(y):to(engine.device))
      loss:backward()
      if i == 1 then
        for k, p in ipairs(net:parameters()) do gradients[k] = p.grad:to("cpu"):clone() end
      end
      sgd:step()
      losses[i] = loss:item()
    end
    return losses, gradients
  end

  it("train as f32 does", function()
    on_each_device({ 1 }, function()
      local expected, near = trained "fp32"
      local got, gradients = trained "bf16"
      for i, loss in ipairs(expected) do
        assert.near(loss, got[i], 0.03 + 0.05 * loss, ("loss %d, %s"):format(i, engine.device))
      end
      local off, all = 0, 0
      for k, g in ipairs(near) do
        off = off + ((gradients[k] - g) ^ 2):sum():item()
        all = all + (g ^ 2):sum():item()
      end
      assert.is_true(off < 0.05 ^ 2 * all, ("off by %g of %g, %s"):format(off, all, engine.device))
    end)
  end)

  it("are measured layer by layer, and explained by Grad-CAM", function()
    on_each_device({ 1 }, function()
      local nn = cnn.nn
      local net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(36, 3)):to(engine.device)
      local x = cnn.randn(2, 1, 8, 8):to(engine.device)
      local rows = require "cnn.layer_times".measure(net, x, { seconds = 0, training = true })
      for _, row in ipairs(rows) do assert.is_number(row.forward_ms, row.label) end
      assert.has_no.errors(function() net:gradcam(x, { class = 1 }) end)
    end)
  end)
end)
