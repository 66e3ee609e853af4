-- What the prompt knows of the text that it is given: tokens, what is open, top-level locals.

local locals = require "cnn.prompt.locals"
local scanner = require "cnn.prompt.scanner"
local tokens = require "cnn.prompt.tokens"

-- ----------------------------------------------------------------------------------------- tokens

-- "kind:text" of each token but space; what is missing at its end stands behind a slash.
local function told(text)
  local list = {}
  for first, last, kind, closing in tokens.each(text) do
    if kind ~= "space" then
      list[#list + 1] = kind .. ":" .. text:sub(first, last) .. (closing and "/" .. closing or "")
    end
  end
  return table.concat(list, " ")
end

local texts = {
  { "x = 1", "name:x symbol:= number:1" },
  { "local function f", "keyword:local keyword:function name:f" },
  { "locals _end é", "name:locals name:_end name:é" },
  { "0x1p-4 1e+5 3-2", "number:0x1p-4 number:1e+5 number:3 symbol:- number:2" },
  { ".5 5.", "number:.5 number:5." },
  { "0xe-1 10LL", "number:0xe symbol:- number:1 number:10LL" },
  { "a..b ... a.b", "name:a symbol:.. name:b symbol:... name:a symbol:. name:b" },
  { "a==b~=c<=d", "name:a symbol:== name:b symbol:~= name:c symbol:<= name:d" },
  { "a>=b::c", "name:a symbol:>= name:b symbol::: name:c" },
  { [['a\'b' "c\\"]], [[string:'a\'b' string:"c\\"]] },
  { "[[a]]b]]", "string:[[a]] name:b symbol:] symbol:]" },
  { "[=[c]]]=] [ [", "string:[=[c]]]=] symbol:[ symbol:[" },
  { "-- a\nb --[[c\n]] d --[=[ ]] ]=] - -", "comment:-- a name:b comment:--[[c\n]] name:d "
    .. "comment:--[=[ ]] ]=] symbol:- symbol:-" },
  { "'a\\\nb' 'a\\z  \n b'", "string:'a\\\nb' string:'a\\z  \n b'" },
  { "'a\nb", "string:'a/' name:b" },
  { "x = 'a", "name:x symbol:= string:'a/'" },
  { "x = 'a\\", "name:x symbol:= string:'a\\/'" },
  { "[==[ a ]]", "string:[==[ a ]]/]==]" },
  { "--[[ a", "comment:--[[ a/]]" },
  { "-- a", "comment:-- a/\n" },
  { "", "" },
}

describe("the tokens of", function()
  for _, row in ipairs(texts) do
    it(("%q"):format(row[1]), function() assert.equal(row[2], told(row[1])) end)
  end

  it("anything are the whole text", function()
    math.randomseed(5)
    for _ = 1, 500 do
      local bytes = {}
      for i = 1, math.random(0, 30) do
        bytes[i] = math.random(3) == 1 and string.char(math.random(0, 255))
          or ("-[]='\"\\\n.e1x"):sub(math.random(13)):sub(1, 1)
      end
      local text, at = table.concat(bytes), 1
      for first, last in tokens.each(text) do
        assert.equal(at, first)
        assert.is_true(last >= first)
        at = last + 1
      end
      assert.equal(#text + 1, at)
    end
  end)
end)

-- -------------------------------------------------------------------------------- what is open

-- lines, and what is open after each
local open = {
  { "x = 1", 0 },
  { "for i = 1, 2 do", 1, "if i then", 2, "print(i)", 2, "end", 1, "end", 0 },
  { "if a", 1, "then", 1, "elseif b then", 1, "else", 1, "end", 0 },
  { "while f(function() do end end) do", 1, "end", 0 },
  { "repeat", 1, "until", 1, "x", 0 },
  { "f(function()", 2, "end)", 0 },
  { "t = {", 1, "{ [1] = (2", 3, ") }", 1, "}", 0 },
  { "x = [==[", 1, "]] ]=] end", 1, "]==]", 0 },
  { "--[[", 1, "", 1, "]]", 0 },
  { "x = 'a\\", 1, "b'", 0 },
  { "x = 'a", 0, "b", 0 },
  { "x = )", 0, "for i = 1, 2 do", 0 },
  { "f(]", 0 },
  { "end", 0 },
  { "1 +", 1, "2", 0 },
  { "x =", 1, "-- a comment", 1, "1", 0 },
  { "f(a,", 2, "b)", 0 },
  { "x = not", 1, "a or", 1, "b", 0 },
  { "local", 1, "a,", 1, "b", 0 },
  { "x.", 1, "y:", 1, "z()", 0 },
  { "return", 0 },
  { "...", 0 },
  { "::here::", 0 },
}

describe("what is open after", function()
  for _, row in ipairs(open) do
    local lines = {}
    for i = 1, #row, 2 do lines[#lines + 1] = row[i] end
    it(("%q"):format(table.concat(lines, "\n")), function()
      local scan = scanner.new()
      for i = 1, #row, 2 do assert.equal(row[i + 1], scan:feed(row[i]), row[i]) end
    end)
  end

  it("any part of a program is what Lua's compiler finds unfinished", function()
    local text = [====[
local function area(w, h) if w then return w * h elseif h then repeat h = 1 until h end end
for k, v in pairs { [ [=[a]=] ] = 'b', c = function() while true do break end end } do
  print(k, v) end --[==[ long ]==] local x = "a\"b" .. 1e5 -- short]====]
    for at in text:gmatch "()%s" do
      local part = text:sub(1, at - 1)
      if scanner.new():feed(part) > 0 then
        local chunk, why = loadstring(part .. "\n")
        assert.is_nil(chunk, part)
        assert.truthy(why:find "<eof>" or why:find "malformed", part .. why)
      end
    end
  end)

  it("millions of bytes is known in time", function()
    local scan, before = scanner.new(), os.clock()
    scan:feed "t = {"
    for i = 1, 20000 do
      scan:feed(("  { name = 'n%d', value = %d, f = function(x) return x + 1 end }, "):format(i, i))
    end
    assert.equal(0, scan:feed "}")
    assert.is_true(os.clock() - before < 1)
  end)
end)

-- ----------------------------------------------------------------------------------------- locals

local declarations = {
  { "local x = 1", "      x = 1" },
  { "local x", "      x = nil;" },
  { "local x; y = 1", "      x = nil; y = 1" },
  { "local a, b = f()", "      a, b = f()" },
  { "local a, b", "      a, b = nil;" },
  { "local --[[ c ]] a -- d\n= 1", "      --[[ c ]] a -- d\n= 1" },
  { "local\na,\nb\n=\n1", "     \na,\nb\n=\n1" },
  { "local x = 1 local y", "      x = 1       y = nil;" },
  { "x=''local y=1", "x=''      y=1" },
  { "local function f() local a end", "      function f() local a end" },
  { "do local x = 1 end local y = 2", "do local x = 1 end       y = 2" },
  { "if a then local b elseif c then local d else local e end local f = 1",
    "if a then local b elseif c then local d else local e end       f = 1" },
  { "repeat local x until x local y = 1", "repeat local x until x       y = 1" },
  { "f = function() local x end", "f = function() local x end" },
  { "s = 'local x' -- local y\nt = [[local z]]", "s = 'local x' -- local y\nt = [[local z]]" },
  -- what Lua will complain about stays what it is
  { "local a,", "local a," },
  { "local", "local" },
  { "local function", "local function" },
  { "local function f.g() end", "local function f.g() end" },
  { "local end = 1", "local end = 1" },
  { "local 5 = 1", "local 5 = 1" },
}

-- ------------------------------------------------------------------ programs, run both ways

local random = math.random

local function pick(list) return list[random(#list)] end

local names = { "a", "b", "c", "d", "_e" }

local function space() return pick { " ", "\n", " --[[ local q ]] ", " -- local z = 1\n", "\t" } end

local function expression(depth)
  local kind = random(8)
  if kind <= 2 then return pick { "1", "2.5", "0x1p4", "1e-5", ".5", "nil", "true" } end
  if kind == 3 then
    return pick { "'local x = 1'", '"end"', "[[do\nlocal]]", "[=[ ]] ]=]", "'\\''" }
  end
  if kind <= 5 or depth == 0 then return pick(names) end
  if kind == 6 then return ("{ %s, k = 1 }"):format(expression(depth - 1)) end
  if kind == 7 then
    return ("(function(p) local a = p%sreturn a end)(%s)"):format(space(), expression(depth - 1))
  end
  return ("%s == %s"):format(expression(depth - 1), expression(depth - 1))
end

local statement

local function block(depth)
  local list = {}
  for i = 1, random(0, 3) do list[i] = statement(depth - 1) end
  return table.concat(list, space())
end

function statement(depth)
  local kind, first = random(10), random(#names)
  local name, other = names[first], names[first % #names + 1]
  if kind <= 2 then return ("local%s%s%s= %s"):format(space(), name, space(), expression(2)) end
  if kind == 3 then
    return ("local %s%s,%s%s = %s, %s"):format(name, space(), space(), other, expression(1),
      expression(1))
  end
  if kind == 4 then return ("local %s%s"):format(name, pick { "", ", " .. other, ";" }) end
  if kind == 5 then return ("%s = %s;"):format(name, expression(2)) end
  if kind <= 6 or depth == 0 then return ("out(%s, %s)"):format(name, other) end
  if kind == 7 then return ("do%s%send"):format(space(), block(depth) .. space()) end
  if kind == 8 then
    return ("if %s then %s%selse %s%send"):format(expression(1), block(depth), space(),
      block(depth), space())
  end
  if kind == 9 then return ("for i = 1, 2 do %s%send"):format(block(depth), space()) end
  return ("local function f(p, n) local a = p if n > 0 then return f(p, n - 1) end return a end "
    .. "out(f(%s, 2))"):format(expression(1))
end

local function as_text(value)
  if type(value) ~= "table" then return tostring(value) end
  return "{" .. as_text(value[1]) .. "," .. as_text(value.k) .. "}"
end

-- What a program puts out, and how it ends.
local function outcome(text)
  local list = {}
  local function out(...)
    for i = 1, select("#", ...) do list[#list + 1] = as_text((select(i, ...))) end
  end
  local chunk = assert(loadstring(text))
  setfenv(chunk, setmetatable({ out = out }, { __index = _G }))
  list[#list + 1] = tostring((pcall(chunk)))
  return table.concat(list, " ")
end

describe("a top-level local", function()
  for _, row in ipairs(declarations) do
    it(("%q"):format(row[1]), function() assert.equal(row[2], locals.to_globals(row[1])) end)
  end

  for _, wrong in ipairs { "local x + 1", "local x.y = 1", "local x == 1", "local x y" } do
    it(("that is none: %q"):format(wrong), function()
      assert.is_nil((loadstring(wrong)))
      assert.is_nil((loadstring(locals.to_globals(wrong))))
    end)
  end

  it("means the same in any program", function()
    local put_out = 0
    for seed = 1, 400 do
      math.randomseed(seed)
      local list = {}
      for i = 1, random(8) do list[i] = statement(2) end
      local text = table.concat(list, space())
      local expected, rewritten = outcome(text), locals.to_globals(text)
      assert.equal(expected, outcome(rewritten), text)
      assert.equal(select(2, text:gsub("\n", "")), select(2, rewritten:gsub("\n", "")))
      put_out = put_out + #expected
    end
    assert.is_true(put_out > 4000)
  end)

  it("is there afterwards", function()
    local environment = {}
    local text = locals.to_globals "local a, b = 1, 2\nlocal function f() end"
    setfenv(loadstring(text), environment)()
    assert.equal(1, environment.a)
    assert.equal(2, environment.b)
    assert.equal("function", type(environment.f))
  end)
end)
