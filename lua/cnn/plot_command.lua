-- plot_command.lua - cnnlua plot: the curves of runs, as a PNG file or in the terminal.
--
-- Surprising: without -o they are drawn also where standard output is no terminal, in plain
-- characters, so that `cnnlua plot runs/a | less` shows them, and a log can keep them.

require "cnn" -- gives tensors their methods

local fail = require "cnn.fail"
local plot = require "cnn.plot"
local screen = require "cnn.terminal.screen"

local plot_command = {}

function plot_command.plot(options)
  local runs = plot.read("plot", options.runs)
  local why = options.metric and plot.unknown(options.metric, runs)
  if why then fail.usage("plot: --%s", why) end
  local curves = plot.draw("plot", runs, options)
  if options.output then
    curves:png(options.output)
    print(("%s: %s"):format(options.output, curves:describe()))
  else
    local kind = screen.kind()
    curves:show { kind = kind == "none" and "ascii" or kind }
  end
end

return plot_command
