-- script.lua - runs a file of which only its value tells what it is: a recipe, or any program.
--
-- script.run(command, file, words) runs it with the words as its arguments and returns its value;
-- for a recipe also the words read as the options of `command`, and only then are they asked to be
-- such. Surprising: --set and --seed have to be known before, because the recipe's net is made by
-- the script; so the words are glanced at first, and what is wrong with them is said afterwards.

local recipe = require "cnn.recipe"
local arguments = require "cnn.arguments"

local script = {}

function script.run(command, file, words)
  local all = { file, unpack(words) }
  local glance = #words > 0 and arguments.glance(command, all) or {}
  local ready, why = pcall(recipe.prepare,
    { set = glance.set, seed = glance.seed, resume = glance.resume })
  local value = recipe.run_script(file, unpack(words))
  if not recipe.looks_like(value) then return value end
  local options = #words > 0 and arguments.parse(command, all) or { file = file }
  if not ready then error(why, 0) end
  require "cnn.options".check()
  if options.threads then require "cnn".set_threads(options.threads) end
  return value, options
end

return script
