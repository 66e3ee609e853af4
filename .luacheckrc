std = "luajit"
max_line_length = false -- scripts/lint counts characters, of every kind of file
ignore = { "581" } -- not (a < b) is no a >= b when one of them may be NaN
files["spec"] = { std = "+busted" }
