-- nn.lua - cnn.nn: everything nets are made of, under one name.

local autograd = require "cnn.autograd"
local container = require "cnn.container"
local functions = require "cnn.functions"
local layers = require "cnn.layers"
local members = require "cnn.members"
local module = require "cnn.module"
local weights = require "cnn.weights"

--- nn.Module
-- The class that every module inherits from; ?module lists what it can do. nn.module makes classes.
-- Example: nn.module("Scale", nn.Module).kind --> "Scale"
-- See: nn.module, net:init, net:forward
local nn = {
  module = module.class,
  Module = module.base,
  Parameter = members.Parameter,
  is_module = module.is_module,
  op = autograd.op,
  init = weights.init,
}

for _, source in ipairs { container, functions, layers } do
  for name, value in pairs(source) do
    if module.is_class(value) then nn[name] = value end
  end
end

return nn
