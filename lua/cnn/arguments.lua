-- arguments.lua - the commands: their names, what they are about, their options (lua-argparse).
--
-- arguments.parse(command, words) returns a table of values, or ends with a usage error of one line
-- that says what would be right; arguments.glance does the same without a word, nil when the words
-- are no such options. Surprising: argparse takes "-0.1" for an option, so a negative number is
-- tied to the option before it ("--lr=-0.1") and answered by the option's own check.

local fail = require "cnn.fail"

local arguments = {}

-- ---------------------------------------------------------------------------- what a value may be

local function whole(option, least, most)
  return function(text)
    local value = tonumber(text)
    if value and value >= least and value <= (most or 2 ^ 53) and value % 1 == 0 then
      return value
    end
    return nil, ("%s takes a whole number from %d%s, got '%s'"):format(option, least,
      most and " to " .. most or "", text)
  end
end

local function positive(option)
  return function(text)
    local value = tonumber(text)
    if value and value > 0 and value < math.huge then return value end
    return nil, ("%s takes a number above 0, got '%s'"):format(option, text)
  end
end

local function choice(option, ...)
  local known = { ... }
  return function(text)
    for _, name in ipairs(known) do
      if name == text then return text end
    end
    return nil, ("%s is one of %s, got '%s'"):format(option, table.concat(known, ", "), text)
  end
end

local function device(text)
  if text == "auto" or text == "cpu" or text:match "^cuda$" or text:match "^cuda:%d+$" then
    return text
  end
  return nil, ("--device is auto, cpu, cuda or cuda:n, got '%s'"):format(text)
end

local function size(text)
  local h, w = text:match "^(%d+)x(%d+)$"
  h, w = tonumber(h or text), tonumber(w or text)
  if h and h >= 1 and h % 1 == 0 and w >= 1 and h <= 65536 and w <= 65536 then return { h, w } end
  return nil, ("--resize takes a size in pixels, such as 96 or 96x128, got '%s'"):format(text)
end

local function text_of(option)
  return function(text)
    if text ~= "" then return text end
    return nil, option .. " takes a name, got nothing"
  end
end

-- A number of an image, from 1, or a file's name.
local function image(text)
  local value = tonumber(text)
  if not value and text ~= "" then return text end
  if value and value >= 1 and value <= 2 ^ 53 and value % 1 == 0 then return value end
  return nil, ("--image takes a number from 1 or a PNG file, got '%s'"):format(text)
end

local function png(option)
  return function(text)
    local extension = text:match "%.([^./]*)$"
    if text ~= "" and (not extension or extension:lower() == "png") then return text end
    return nil, ("%s takes the name of a PNG file, such as maps.png, got '%s'"):format(option, text)
  end
end

-- ------------------------------------------------------------------------------------- the options

local MOST_THREADS = 1024 -- the engine's limit

local add = {}

function add.epochs(p)
  p:option("--epochs", "passes over the training images"):argname "N":convert(whole("--epochs", 1))
end
function add.batch(p)
  p:option("--batch", "images a step"):argname "N":convert(whole("--batch", 1))
end
function add.lr(p) p:option("--lr", "learning rate"):argname "X":convert(positive "--lr") end
function add.resize(p)
  p:option("--resize", "bring the images to this size"):argname "N|HxW":convert(size)
end
function add.seed(p)
  p:option("--seed", "of weights, order and dropout (1)"):argname "N":convert(whole("--seed", 0))
end
function add.device(p)
  p:option("--device", "auto, cpu, cuda or cuda:n"):argname "D":convert(device)
end
function add.threads(p)
  p:option("--threads", "CPU threads (one for each CPU)"):argname "N"
    :convert(whole("--threads", 1, MOST_THREADS))
end
function add.precision(p)
  p:option("--precision", "fp32, tf32 (CUDA only) or bf16"):argname "P"
    :convert(choice("--precision", "fp32", "tf32", "bf16"))
end
function add.limit(p)
  p:option("--limit", "only the first N training images"):argname "N":convert(whole("--limit", 1))
end
function add.data(p)
  p:option("--data", "directory of the data set's files"):argname "DIR":convert(text_of "--data")
end
function add.out(p)
  p:option("--out", "directory of the run (runs/NAME-TIME)"):argname "DIR"
    :convert(text_of "--out")
end
function add.resume(p)
  p:option("--resume", "go on with a run: its directory or a file of it"):argname "RUN"
    :convert(text_of "--resume")
end
function add.weights(p)
  p:option("--weights", "a safetensors file, as training writes it"):argname "FILE":count(1)
    :convert(text_of "--weights")
end
function add.set(p)
  p:option("--set", "an option of the script's own"):argname "key=value":count "*"
    :init {}:action "append"
end
function add.seconds(p)
  p:option("--seconds", "to measure, each of train, predict, layers (5)"):argname "S"
    :convert(positive "--seconds")
end
function add.only(p)
  p:option("--only", "train or predict"):argname "WHAT"
    :convert(choice("--only", "train", "predict"))
end
function add.layers(p)
  p:flag("--layers", "then each layer alone, by direction: ms, rate, share of peak")
end
function add.layer(p)
  p:option("--layer", "as net:shapes names it, such as b3[1] (the first convolution)")
    :argname "NAME":convert(text_of "--layer")
end
function add.image(p)
  p:option("--image", "number of a test image, from 1, or a PNG file (1)"):argname "N|PNG"
    :convert(image)
end
function add.scale(p)
  p:option("--scale", "map: each map its own range of gray; all: one for all (map)")
    :argname "WHAT":convert(choice("--scale", "map", "all"))
end
function add.output(p)
  p:option("-o --output", "the PNG file (without it: in the terminal)"):argname "FILE"
    :convert(png "-o")
end
function add.metric(p)
  p:option("--metric", "loss, acc or a column of metrics.csv (loss and acc)"):argname "NAME"
    :convert(text_of "--metric")
end
function add.title(p)
  p:option("--title", "over the picture"):argname "TEXT":convert(text_of "--title")
end
function add.deterministic(p)
  p:flag("--deterministic", "CUDA: kernels that give the same bits every time, and no others")
end
function add.autotune(p)
  p:flag("--autotune", "CUDA: convolutions chosen by timing them, not by heuristics")
end
function add.peak(p)
  p:flag("--peak", "instead: the most multiply-adds and bytes a second that the CPU does")
end
add["cudnn-plans"] = function(p)
  p:flag("--cudnn-plans", "instead: cuDNN's plans for the convolutions of every model")
end
function add.quiet(p) p:flag("--quiet", "print the two closing lines only") end
function add.json(p) p:flag("--json", "print one JSON object only") end

local function file(p)
  p:argument("file", "a script that returns a recipe"):argname "FILE"
end

local function pictures(p)
  file(p)
  p:argument("pictures", "PNG files of any size"):argname "PICTURE":args "+"
end

local function runs(p)
  p:argument("runs", "a run's directory"):argname "RUN":args "+":convert(text_of "RUN")
end

local function topic(p)
  p:argument("topic", "such as nn.Conv2d, x.narrow, train, nn or commands"):argname "TOPIC":args "?"
end

-- In the order of the help: name, what follows it there, what it does in a few words; `about` where
-- its own help says more; the options. `module` has the function that is called, if any.
local in_order = {
  {
    name = "train", module = "cnn.commands", words = "FILE [options]", does = "trains",
    about = "Trains the model that the script returns.", positional = file,
    "epochs", "batch", "lr", "resize", "seed", "device", "threads", "precision", "limit", "data",
    "out", "resume", "set", "quiet", "json", "deterministic", "autotune",
  },
  {
    name = "shapes", module = "cnn.commands", words = "FILE",
    does = "layer by layer: output shape, parameters, multiply-adds, bytes",
    about = "Prints every layer's output shape, parameters, multiply-adds and activation bytes.",
    positional = file, "batch", "resize", "set",
  },
  {
    name = "eval", module = "cnn.commands", words = "FILE --weights W",
    does = "loss and accuracy over the test images",
    about = "Prints loss and accuracy over the test images.", positional = file,
    "weights", "batch", "resize", "device", "threads", "precision", "data", "set", "json",
  },
  {
    name = "predict", module = "cnn.predict", words = "FILE --weights W PICTURE...",
    does = "label and probability of each picture",
    about = "Prints the most probable label of each picture. As in Fashion-MNIST the object is "
      .. "taken to be light on a dark ground; nothing is inverted.",
    positional = pictures,
    "weights", "resize", "device", "threads", "precision", "set", "json",
  },
  {
    name = "maps", module = "cnn.maps_command", words = "FILE --weights W --layer NAME -o PNG",
    does = "what a layer makes of a picture, as a picture",
    about = "Writes the feature maps of a layer for one picture as a PNG file, or draws them in "
      .. "the terminal: a tile a channel, with its number. A layer that gives a vector is drawn as "
      .. "bars.",
    positional = file,
    "weights", "layer", "image", "output", "scale", "resize", "device", "threads", "data", "set",
  },
  {
    name = "plot", module = "cnn.plot_command", words = "RUN... -o PNG",
    does = "the curves of runs over each other",
    about = "Draws loss and accuracy of one run, or of several over each other, from the "
      .. "metrics.csv in their directories: a PNG file, or curves in the terminal.",
    positional = runs, "output", "metric", "title",
  },
  {
    name = "bench", module = "cnn.bench", words = "FILE",
    does = "images/s of training and of prediction; --layers: each layer's time",
    about = "Measures images/s of training and of prediction, on pictures made up in memory. "
      .. "--layers adds every layer alone, in the order of the calls, by direction (with --only "
      .. "predict: forward alone); on the CPU convolutions and linear layers show the gradients of "
      .. "data and of weights each by itself, and which kernel makes them. The rate is in "
      .. "operations a second, or in bytes where they are what the layer waits for; `of peak` "
      .. "compares the time with what the machine's peaks of both, measured before, allow: more "
      .. "than 100 % comes from caches, or from a method that saves operations (Winograd's). "
      .. "What a block does between its layers, such as additions and concatenations, is in none "
      .. "of them, nor are loss and optimizer: the last line tells what the whole step takes "
      .. "beyond the layers' sum (or less, where a step saves what layers alone cannot).",
    positional = file,
    "seconds", "only", "layers", "batch", "resize", "seed", "device", "threads", "precision", "set",
    "json", "deterministic", "autotune",
  },
  {
    name = "check", module = "cnn.check", words = "FILE",
    does = "gradient check of a script's blocks and ops",
    about = "Compares the gradients of a script's blocks and ops with difference quotients.",
    positional = file, "seed", "threads", "set",
  },
  {
    name = "doctor", module = "cnn.doctor",
    does = "what was found, what is missing, how to get it",
    about = "Says what was found, what is missing and how to get it. --peak measures for some two "
      .. "seconds what the CPU does at most, on one thread and on all: multiplications and "
      .. "additions a second in fp32 and, where it has instructions for it, in bf16, copying "
      .. "(bytes read and written) and reading beyond the caches.",
    "data", "peak", "threads", "cudnn-plans",
  },
  {
    name = "help", module = "cnn.help", words = "[TOPIC]",
    does = "functions, layers, tensors: nn.Conv2d, x.narrow; ? at the prompt",
    about = "Prints the signature, shapes, options, errors and an example of what a name stands "
      .. "for, or a list; without one a tour and the lists that there are. At the prompt, ?TOPIC "
      .. "does so.",
    positional = topic,
  },
  {
    name = "-i", words = "FILE [options]",
    does = "a prompt with net, recipe and data in scope",
    about = "A prompt with the script's net, recipe and data in scope.", positional = file,
    "epochs", "batch", "lr", "resize", "seed", "device", "threads", "precision", "limit", "data",
    "set",
  },
}

local commands = {}
for _, command in ipairs(in_order) do commands[command.name] = command end

local function parser(command)
  local spec = commands[command]
  local found, argparse = pcall(require, "argparse")
  if not found then
    fail.run("the options of %s cannot be read without lua-argparse: apt-get install lua-argparse",
      command)
  end
  local p = argparse("cnnlua " .. command, spec.about)
  p:usage_margin(2)
  p:help_max_width(80)
  if spec.positional then spec.positional(p) end
  for _, name in ipairs(spec) do add[name](p) end
  return p
end

local function join_negatives(words)
  local joined = {}
  for _, word in ipairs(words) do
    local last = joined[#joined]
    if last and last:match "^%-%-[%a-]+$" and word:match "^%-[%d%.in]" then
      joined[#joined] = last .. "=" .. word
    else
      joined[#joined + 1] = word
    end
  end
  return joined
end

local function options_of(command)
  local list = {}
  for _, name in ipairs(commands[command]) do list[#list + 1] = "--" .. name end
  return table.concat(list, " ")
end

function arguments.parse(command, words)
  local ok, values = parser(command):pparse(join_negatives(words))
  if ok then return values end
  local why = values
  if why:match "^unknown option" then
    local tip = why:match "Did you mean ([^\n]*)%?"
    why = why:match "^unknown option '[^']*'"
      .. (tip and "; did you mean " .. tip .. "?" or "; there are " .. options_of(command))
  elseif why:match "^missing option '%-%-weights'" then
    why = why .. ": what training wrote, such as runs/NAME-TIME/best.safetensors"
  end
  fail.usage("%s: %s", command, (why:gsub("\n", " ")))
end

-- A --help among the words is none of the options here: it would print and end the program.
function arguments.glance(command, words)
  local found, p = pcall(parser, command)
  if not found then return nil end
  local ok, values = p:add_help(false):pparse(join_negatives(words))
  return ok and values or nil
end

-- The module of a command word, or nil.
function arguments.module(name)
  return commands[name] and commands[name].module
end

-- The commands in the order of the help: name, words, does, about.
function arguments.list() return in_order end

-- A line for each command, or two where its words are many.
function arguments.help()
  local lines = {}
  for _, command in ipairs(in_order) do
    local words = "cnnlua " .. command.name .. (command.words and " " .. command.words or "")
    local gap = #words < 32 and (" "):rep(32 - #words) or "\n" .. (" "):rep(32)
    lines[#lines + 1] = words .. gap .. command.does
  end
  return table.concat(lines, "\n")
end

return arguments
