-- Pictures in the terminal: what the encoders send is decoded and compared with the pixels, and
-- which of them is taken goes by the environment and by what the terminal answers.

local cnn = require "cnn"
local blocks = require "cnn.terminal.blocks"
local inline = require "cnn.terminal.inline"
local pixel = require "cnn.terminal.pixels"
local sixel = require "cnn.terminal.sixel"
local show = require "cnn.terminal.show"
local engine = require "spec.support.engine"
local errors = require "spec.support.errors"
local program = require "spec.support.program"
local pty = require "spec.support.pty"

local quote, values = program.quote, engine.list

-- ----------------------------------------------------------------------------------- the pictures

-- A picture whose pixel (y, x) is color(y, x), a list of one or three numbers; both count from 0.
local function picture(channels, height, width, color)
  local list = {}
  for c = 1, channels do
    for y = 0, height - 1 do
      for x = 0, width - 1 do list[#list + 1] = color(y, x)[c] end
    end
  end
  return cnn.tensor(list, { channels, height, width }):to "u8"
end

local function noise(channels, height, width)
  local random = engine.random(7)
  return picture(channels, height, width, function()
    return { math.floor(random() * 256), math.floor(random() * 256), math.floor(random() * 256) }
  end)
end

-- The pixels as a list of rows of "r;g;b".
local function rows_of(x)
  local list, c, h, w = values(x), unpack(x:shape())
  local rows = {}
  for y = 0, h - 1 do
    rows[y + 1] = {}
    for i = y * w + 1, y * w + w do
      local g, b = c == 3 and list[i + h * w] or list[i], c == 3 and list[i + 2 * h * w] or list[i]
      table.insert(rows[y + 1], ("%d;%d;%d"):format(list[i], g, b))
    end
  end
  return rows
end

-- ----------------------------------------------------------------------------------- the decoders

-- The rows of pixels that lines of half blocks show; "default" where no colour was set.
local function decode_blocks(text)
  local rows, colors = {}, 0
  for line in text:gmatch "([^\n]*)\n" do
    local upper, lower, at = {}, {}, 1
    local fore, back = "default", "default"
    while at <= #line do
      local which, color, ending = line:match("^\27%[([34])8;2;(%d+;%d+;%d+)m()", at)
      if which then
        colors = colors + 1
        if which == "3" then fore = color else back = color end
      elseif line:find("^\27%[0m", at) then
        fore, back, ending = "default", "default", at + 4
      else
        local block = line:find("^▀", at) ~= nil
        assert.is_true(block or line:sub(at, at) == " ", "a character that is no block")
        table.insert(upper, block and fore or back)
        table.insert(lower, back)
        ending = at + (block and 3 or 1)
      end
      at = ending
    end
    assert.equal("default", fore .. (back == "default" and "" or back)) -- nothing leaks
    rows[#rows + 1] = upper
    rows[#rows + 1] = lower
  end
  return rows, colors
end

-- The colours of the pixels, { r, g, b } of 0 to 255 by y * width + x; the sizes and the palette.
local function decode_sixel(text)
  local width, height, body = text:match '^\27P0;1;0q"1;1;(%d+);(%d+)(.*)\27\\$'
  local palette, canvas = {}, {}
  local x, y, color, at = 0, 0, nil, 1
  width, height = tonumber(width), tonumber(height)
  local function paint(bits, count)
    for column = x, x + count - 1 do
      for bit_number = 0, 5 do
        if math.floor(bits / 2 ^ bit_number) % 2 == 1 then
          local place = (y + bit_number) * width + column
          assert.is_nil(canvas[place], "a pixel is painted twice")
          assert.is_true(column < width and y + bit_number < height, "a pixel is outside")
          canvas[place] = color
        end
      end
    end
    x = x + count
  end
  while at <= #body do
    local n, r, g, b, ending = body:match("^#(%d+);2;(%d+);(%d+);(%d+)()", at)
    local pick, after_pick = body:match("^#(%d+)()", at)
    local count, char, after_run = body:match("^!(%d+)([?-~])()", at)
    local first = body:sub(at, at)
    if n then
      palette[tonumber(n)], at = { r * 2.55, g * 2.55, b * 2.55 }, ending
    elseif pick then
      color, at = assert(palette[tonumber(pick)]), after_pick
    elseif count then
      paint(char:byte() - 63, tonumber(count))
      at = after_run
    elseif first == "$" then
      x, at = 0, at + 1
    elseif first == "-" then
      x, y, at = 0, y + 6, at + 1
    else
      paint(first:byte() - 63, 1)
      at = at + 1
    end
  end
  return canvas, width, height, palette
end

-- The largest and the mean distance of a channel between a sixel text and the picture.
local function sixel_error(text, x)
  local canvas, width, height = decode_sixel(text)
  local list, c, h, w = values(x), unpack(x:shape())
  assert.same({ h, w }, { height, width })
  local most, sum = 0, 0
  for i = 0, h * w - 1 do
    for channel = 1, 3 do
      local want = list[(c == 3 and (channel - 1) * h * w or 0) + i + 1]
      local off = math.abs(assert(canvas[i], "a pixel is not painted")[channel] - want)
      most, sum = math.max(most, off), sum + off
    end
  end
  return most, sum / (3 * h * w)
end

local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function decode_base64(text)
  assert.equal(0, #text % 4)
  local bytes = text:gsub("....", function(group)
    local word = 0
    for i = 1, 4 do
      local char = group:sub(i, i)
      word = word * 64 + (char == "=" and 0 or assert(DIGITS:find(char, 1, true)) - 1)
    end
    local all = string.char(math.floor(word / 65536), math.floor(word / 256) % 256, word % 256)
    return all:sub(1, 3 - #group:match "=*$")
  end)
  return bytes
end

local function assert_png(bytes, x)
  local file = program.file("sent.png", bytes)
  local back = cnn.image.read(file, { channels = x:size(1) })
  assert.same({ unpack(x:shape()) }, { unpack(back:shape()) })
  assert.same(values(x), values(back))
end

describe("half blocks", function()
  it("show every pixel in its own colour, of gray and of coloured pictures", function()
    for _, x in ipairs { noise(3, 6, 9), noise(1, 8, 5), noise(3, 2, 1) } do
      assert.same(rows_of(x), (decode_blocks(blocks.encode(x))))
    end
  end)

  it("leave the terminal's own colour below the last row of an odd number", function()
    local x = noise(3, 5, 4)
    local shown, rows = decode_blocks(blocks.encode(x)), rows_of(x)
    rows[6] = { "default", "default", "default", "default" }
    assert.same(rows, shown)
  end)

  it("send a colour only when it changes", function()
    local flat = picture(3, 8, 30, function() return { 9, 9, 9 } end)
    local _, colors = decode_blocks(blocks.encode(flat))
    assert.equal(4, colors) -- one a line: both halves are one background
    local stripes = picture(1, 8, 30, function(y) return { y % 2 * 255 } end)
    _, colors = decode_blocks(blocks.encode(stripes))
    assert.equal(8, colors)
  end)

  it("read pictures of any layout", function()
    local x = noise(3, 6, 4)
    local turned = x:transpose(2, 3)
    assert.same(rows_of(turned:contiguous()), (decode_blocks(blocks.encode(turned))))
  end)

  it("of a 96x96 map take less than 20 ms", function()
    local x, best = noise(1, 96, 96), math.huge
    local write = io.write
    for _ = 1, 5 do
      io.write = function() end -- luacheck: ignore 122
      local before = os.clock()
      show(x, { kind = "blocks", columns = 80 })
      best = math.min(best, os.clock() - before)
      io.write = write -- luacheck: ignore 122
    end
    assert.is_true(best < 0.02, ("%.1f ms"):format(best * 1e3))
  end)
end)

describe("plain characters", function()
  it("are the denser the lighter the pixel", function()
    local ramp = picture(1, 2, 10, function(_, x) return { x * 25.6 + 12 } end)
    assert.equal(" .:-=+*#%@\n .:-=+*#%@\n", blocks.ascii(ramp))
    local colors = { { 255, 255, 255 }, { 0, 255, 0 }, { 0, 0, 0 } }
    local x = picture(3, 1, 3, function(_, column) return colors[column + 1] end)
    assert.equal("@+\n", blocks.ascii(x)) -- no blanks at the end
  end)
end)

describe("sixel", function()
  teardown(program.sweep)

  it("has each pixel of a picture of up to 256 colours, but for its percents", function()
    for _, size in ipairs { { 16, 16 }, { 7, 13 }, { 6, 4 }, { 1, 1 }, { 13, 3 } } do
      for _, channels in ipairs { 1, 3 } do
        local x = noise(channels, unpack(size))
        local most = sixel_error(sixel.encode(x), x)
        assert.is_true(most <= 1.3, ("%dx%d: off by %g"):format(size[1], size[2], most))
      end
    end
  end)

  it("uses runs where a colour repeats", function()
    local flat = picture(3, 12, 500, function() return { 255, 0, 51 } end)
    assert.equal('\27P0;1;0q"1;1;500;12#0;2;100;0;20#0!500~-#0!500~-\27\\', sixel.encode(flat))
  end)

  it("brings more colours to 256 that are near them", function()
    local smooth = picture(3, 60, 80, function(y, x) return { x * 3, y * 4, 255 - x - y } end)
    local text = sixel.encode(smooth)
    local _, _, _, palette = decode_sixel(text)
    local count = 0
    for _ in pairs(palette) do count = count + 1 end
    assert.equal(256, count)
    local most, mean = sixel_error(text, smooth)
    assert.is_true(mean < 5 and most < 32, ("mean %g, most %g"):format(mean, most))
    most, mean = sixel_error(sixel.encode(noise(3, 40, 40)), noise(3, 40, 40))
    assert.is_true(mean < 20 and most < 100, ("mean %g, most %g"):format(mean, most))
  end)
end)

describe("kitty and iTerm2", function()
  teardown(program.sweep)

  it("get the picture as a PNG file, kitty in chunks of 4096", function()
    for _, x in ipairs { noise(3, 70, 50), noise(1, 3, 2), noise(3, 1, 1) } do
      local text, parts, last = inline.kitty(x), {}, 1
      for keys, payload, ending in text:gmatch "\27_G([^;]*);([^\27]*)\27\\()" do
        assert.equal(last, text:find("\27_G", last, true)) -- nothing between
        parts[#parts + 1], last = payload, ending
        assert.is_true(#payload <= 4096 and (#payload % 4 == 0))
        assert.equal(last <= #text and "1" or "0", keys:match "m=(%d)")
        assert.equal(#parts == 1 and "a=T,f=100,q=2," or "", keys:match "^(.-)m=%d$")
      end
      assert.equal(#text + 1, last)
      assert_png(decode_base64(table.concat(parts)), x)
    end
    assert.truthy(inline.kitty(noise(3, 70, 50)):find("m=1", 1, true))
  end)

  it("iTerm2 is told the sizes", function()
    for _, x in ipairs { noise(3, 20, 30), noise(1, 1, 2), noise(1, 2, 3) } do
      local size, width, height, payload = inline.iterm(x):match(
        "^\27%]1337;File=inline=1;size=(%d+);width=(%d+)px;height=(%d+)px:(.*)\7$")
      local bytes = decode_base64(payload)
      assert.same({ #bytes, x:size(3), x:size(2) },
        { tonumber(size), tonumber(width), tonumber(height) })
      assert_png(bytes, x)
    end
  end)
end)

-- What show writes.
local function shown(x, options)
  local parts, write = {}, io.write
  io.write = function(...) -- luacheck: ignore 122
    for _, part in ipairs { ... } do parts[#parts + 1] = part end
  end
  local ok, why = pcall(show, x, options)
  io.write = write -- luacheck: ignore 122
  assert.is_true(ok, why)
  return table.concat(parts)
end

describe("the size of what is shown", function()
  teardown(program.sweep)

  it("fits into any width", function()
    local x = noise(3, 90, 250)
    for _, columns in ipairs { 1, 7, 20, 33, 80, 200 } do
      local rows = decode_blocks(shown(x, { kind = "blocks", columns = columns }))
      assert.equal(columns, #rows[1])
      local height = math.floor(90 * columns / 250 + 0.5)
      assert.is_true(#rows - math.max(1, height) <= 1)
      for line in shown(x, { kind = "ascii", columns = columns }):gmatch "[^\n]+" do
        assert.is_true(#line <= columns)
      end
      local _, width = decode_sixel(shown(x, { kind = "sixel", columns = columns }):sub(1, -2))
      assert.equal(math.min(250, columns * 8), width)
    end
  end)

  it("is no higher than 200 lines", function()
    local x = noise(3, 2000, 20)
    assert.same({ 400, 4 }, { #decode_blocks(shown(x, { kind = "blocks", columns = 80 })),
      #decode_blocks(shown(x, { kind = "blocks", columns = 80 }))[1] })
    assert.equal(200, select(2, shown(x, { kind = "ascii", columns = 80 }):gsub("\n", "")))
    local _, width, height = decode_sixel(
      shown(noise(1, 6400, 2), { kind = "sixel", columns = 80 }):sub(1, -2))
    assert.same({ 1, 3200 }, { width, height })
  end)

  it("is that of areas' averages where it gets less", function()
    local x = picture(1, 4, 6, function(y, column) return { 10 * y + column } end)
    assert.same({ 6, 8, 10, 26, 28, 30 }, values(pixel.reduce(x, 2, 3)))
  end)

  it("is a whole multiple of what is small", function()
    local x = noise(3, 5, 4)
    local rows, own = decode_blocks(shown(x, { kind = "blocks", columns = 80 })), rows_of(x)
    assert.same({ 30, 24 }, { #rows, #rows[1] }) -- 6 times: below 32
    for y = 1, 30 do
      for column = 1, 24 do
        assert.equal(own[math.ceil(y / 6)][math.ceil(column / 6)], rows[y][column])
      end
    end
    local _, width, height = decode_sixel(shown(x, { kind = "sixel", columns = 80 }):sub(1, -2))
    assert.same({ 204, 255 }, { width, height })
    rows = decode_blocks(shown(x, { kind = "blocks", columns = 9 }))
    assert.equal(8, #rows[1])
  end)

  it("is right where the characters are twice as high as wide", function()
    local x = picture(1, 40, 40, function(y) return { y < 20 and 255 or 0 } end)
    local text = shown(x, { kind = "ascii", columns = 80 })
    assert.equal((("@"):rep(40) .. "\n"):rep(10) .. ("\n"):rep(10), text)
  end)

  it("is a line where there is no terminal, and options are checked", function()
    local x = noise(3, 5, 40)
    assert.equal("picture 40x5: the output is no terminal; :png(file) writes it\n",
      shown(x, { kind = "none" }))
    errors.expect("picture:show: kind: expected one of kitty, .*got the string 'braille'",
      function() show(x, { kind = "braille" }) end)
    errors.expect("columns: expected a whole number >= 1, got 0",
      function() show(x, { columns = 0 }) end)
    errors.expect("unknown option 'column'.*did you mean 'columns'",
      function() show(x, { column = 80 }) end)
  end)
end)

-- ----------------------------------------------------------------------------------- the terminal

local CODE = quote [[
  io.write("kind=", require "cnn.terminal.screen".kind(), ";")
  io.flush()]]

local kinds = {
  { "", "blocks" }, { "TERM=dumb", "ascii" }, { "TERM=", "ascii" }, { "NO_COLOR=1", "ascii" },
  { "NO_COLOR=", "blocks" }, { "TERM=xterm-kitty", "kitty" }, { "KITTY_WINDOW_ID=1", "kitty" },
  { "TERM=xterm-ghostty", "kitty" }, { "TERM_PROGRAM=WezTerm", "kitty" },
  { "TERM_PROGRAM=iTerm.app", "iterm" }, { "LC_TERMINAL=iTerm2", "iterm" },
  { "TERM_PROGRAM=mintty", "iterm" }, { "TERM=foot", "sixel" }, { "TERM=mlterm", "sixel" },
  { "TERM=yaft-256color-sixel", "sixel" }, { "TERM=xterm-kitty NO_COLOR=1", "ascii" },
  { "TERM=xterm-kitty TMUX=x,1,0", "blocks" }, { "LC_TERMINAL=iTerm2 STY=1.x", "blocks" },
  { "TERM=tmux-256color KITTY_WINDOW_ID=1", "blocks" }, { "TERM=screen-256color", "blocks" },
  { "LC_ALL=de_DE.ISO-8859-1", "ascii" }, { "LC_ALL=C.UTF-8", "blocks" }, { "LC_ALL=C", "blocks" },
  { "CNNLUA_PICTURES=sixel TERM=dumb", "sixel" }, { "CNNLUA_PICTURES=none", "none" },
  { "CNNLUA_PICTURES=ascii TERM=xterm-kitty", "ascii" },
}

local probe = pty.open(80, 24)
if probe then probe:close() end
local with_pty = probe and it or function(name) pending(name .. ": no pseudo-terminals") end

-- What a terminal is taken for that answers, if it is asked, without a 4.
local function kind_in(env)
  local t = pty.open(80, 24)
  t:start("-e " .. CODE, env)
  if (t:wait "[=\27]" or ""):find "\27" then t:answer "\27[?1;2c" end
  local kind = t:wait ";"
  t:close()
  return kind and kind:match "%a+;$"
end

describe("the kind of a terminal", function()
  teardown(program.sweep)

  with_pty("goes by the environment, then by its answer", function()
    for _, row in ipairs(kinds) do assert.equal(row[2] .. ";", kind_in(row[1]), row[1]) end
  end)

  with_pty("is sixel where the terminal says so, also inside of tmux", function()
    for _, env in ipairs { "", "TMUX=x,1,0" } do
      local t = pty.open(80, 24)
      t:start("-e " .. CODE, env)
      assert.truthy(t:wait "\27%[c", "there was no question")
      t:answer "\27[?62;4;22c"
      assert.truthy(t:wait "^kind=sixel;")
      t:close()
    end
  end)

  it("is none where the output is no terminal; a wrong one is told in a line", function()
    assert.equal("kind=none;", program.ok("-e " .. CODE, { env = "TERM=xterm-kitty" }).out)
    assert.equal("kind=kitty;", program.ok("-e " .. CODE, { env = "CNNLUA_PICTURES=kitty" }).out)
    program.refuses("-e " .. CODE, 1, "CNNLUA_PICTURES is one of kitty, .*none, got 'braille'",
      { env = "CNNLUA_PICTURES=braille" })
  end)

  with_pty("is blocks after a tenth of a second without an answer, which is taken when it comes",
    function()
      local t = pty.open(80, 24)
      t:start("-e " .. quote [[
        local screen = require "cnn.terminal.screen"
        local clock = require "cnn.ffi".C.cnn_seconds
        local before = clock()
        local kind = screen.kind()
        io.write(("<%s %s>"):format(kind, clock() - before < 0.25))
        io.flush()
        screen.settle()
        io.write(("<%s>"):format(screen.kind()))
        io.flush()
        io.write("<", io.read "*l", ">")]])
      assert.truthy(t:wait "\27%[c")
      assert.truthy(t:wait "^<blocks true>$", "it waited too long")
      t:answer "\27[?62;4c"
      assert.truthy(t:wait "^<sixel>$", "the late answer was not taken")
      t:answer "typed\n"
      assert.truthy(t:wait "^typed\r\n<typed>", "the terminal has other settings than before")
      t:close()
    end)

  with_pty("is not asked for while somebody has typed ahead", function()
    local t = pty.open(80, 24)
    t:answer "ahead\n"
    t:start("-e " .. quote [[
      io.write("<", require "cnn.terminal.screen".kind(), ">", io.read "*l", ">")]])
    assert.truthy(t:wait "ahead.*<blocks>ahead>")
    t:close()
  end)
end)

describe("a terminal without colours", function()
  teardown(program.sweep)

  with_pty("gets no escape at all with TERM=dumb, and no colour with NO_COLOR", function()
    local code = "-e " .. quote [[
      local x = require "cnn".ones(1, 4, 8):to "u8" * 255
      require "cnn.terminal.show"(x:to "u8")
      io.write "<end>"]]
    for _, env in ipairs { "TERM=dumb", "NO_COLOR=1" } do
      local t = pty.open(20, 24)
      t:start(code, env)
      local text = t:wait "<end>"
      assert.truthy(text:find "@@@@", text)
      assert.is_nil(text:find "\27")
      t:close()
    end
  end)
end)
