-- tour.lua - the screen that `?` alone shows: lines to type, from an empty prompt to a picture.
--
--   tour.rows(environment)    { { what for, code }, ... }, which can be typed one after the other
--   tour.text(environment, lists, width)    lists: the topics that list others, { "?nn", ... }
--
-- Surprising: where net, recipe or data are at hand the lines are about them and make no others.

local format = require "cnn.format"
local handle = require "cnn.handle"
local members = require "cnn.members"
local pages = require "cnn.prompt.pages"
local text = require "cnn.text"

local tour = {}

local SHOWN = 6 -- names at hand

-- ------------------------------------------------------------------------------------------- rows

local function recipe_of(environment)
  local recipe = environment and rawget(environment, "recipe")
  return type(recipe) == "table" and recipe or nil
end

-- A script's recipe comes with data, which is not read before it is asked for.
local function has_data(environment)
  local recipe = recipe_of(environment)
  return recipe ~= nil and recipe.script ~= nil and rawget(environment, "data") == nil
end

-- What the net is given: "1, 28, 28" of the recipe's input, or of an MNIST.
local function input_of(environment)
  local recipe = recipe_of(environment)
  local ok, sizes = pcall(table.concat, recipe and recipe.input, ", ")
  return ok and sizes or "1, 28, 28"
end

local function add(rows, what, ...)
  for i, code in ipairs { ... } do rows[#rows + 1] = { i == 1 and what or "", code } end
end

function tour.rows(environment)
  local rows, input = {}, input_of(environment)
  local with_net = environment ~= nil and members.is_module(rawget(environment, "net"))
  local with_recipe = with_net and recipe_of(environment) ~= nil
  local with_data = with_recipe and (has_data(environment) or rawget(environment, "data") ~= nil)
  if not with_net then
    add(rows, "build", "net = nn.Sequential(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(4))",
      "net:add(nn.Flatten()):add(nn.Linear(nil, 10))")
  end
  add(rows, "shapes", ("net:shapes { 1, %s }"):format(input))
  local batch = with_data and "x, y = data.test:take(1, 8)" or ("x = cnn.rand(4, %s)"):format(input)
  add(rows, "try", batch, "net(x):softmax(2):argmax(2)")
  if not with_net then add(rows, "check", "cnn.gradcheck(net, { x })") end
  if not with_recipe then
    add(rows, "train", ("recipe = { net = net, input = { %s } }"):format(input))
  end
  add(rows, with_recipe and "train" or "", "cnn.train(recipe, { epochs = 1, limit = 2000 })")
  add(rows, "look", "net:probe(x)", "net:profile(x)", 'net:find "Conv2d"')
  add(rows, "draw", "net:maps(x):show()", 'cnn.image.grid(x):png "batch.png"')
  if with_data then add(rows, "", "net:confusion(data.test, { limit = 500 })") end
  add(rows, "keep", 'net:save "mine.safetensors"')
  return rows
end

-- ----------------------------------------------------------------------------------- names at hand

local function kind_of(value)
  if handle.is_tensor(value) then return format.head(value) end
  if members.is_module(value) then return value.kind end
  if members.is_class(value) then return "nn.module" end
  return type(value)
end

-- "net (Sequential)", "x (f32[4x1x28x28])": what was given a name, nets and tensors first, the
-- library apart.
local function names_in(environment)
  local names, others = {}, { has_data(environment) and "data" or nil }
  for name, value in pairs(environment or {}) do
    if type(name) == "string" and not name:find "^_%d*$" and name ~= "cnn" and name ~= "nn" then
      local first = handle.is_tensor(value) or members.is_module(value)
      table.insert(first and names or others, ("%s (%s)"):format(name, kind_of(value)))
    end
  end
  table.sort(names)
  table.sort(others)
  for _, name in ipairs(others) do names[#names + 1] = name end
  return text.some(names, SHOWN)
end

-- ------------------------------------------------------------------------------------------- text

function tour.text(environment, lists, width)
  local rows = tour.rows(environment)
  local lines = pages.wrap("An expression shows its value, and _ is the last one. Tab completes, "
    .. "Ctrl-C stops what runs, Ctrl-D ends. Lines to type:", width, "", "")
  rows[#rows + 1] = { "help", "?nn.Conv2d  ?x.narrow  ?net.maps  ?train" }
  rows[#rows + 1] = { "lists", table.concat(lists, "  ") }
  local names = names_in(environment)
  if names ~= "" then rows[#rows + 1] = { "here", names } end
  lines[#lines + 1] = pages.labelled(rows, width)
  return table.concat(lines, "\n")
end

return tour
