-- report.lua - what gpu-check found: as text for people, as JSON for programs.
--
-- report.text(whole), report.write(whole, folder): report.txt and report.json. `whole` is what is
-- in the JSON:
--
--   { host, started, minutes, seconds, machine, passed, failed, skipped, parts = {
--     { name, about, status, seconds, limit, reason, checks = { { name, status, text } },
--       figures = { { name, value, unit } }, tables = { { name, title, columns, rows } } } } }
--
-- Surprising: the text stays under some 12,000 characters, because that is what one gets to see of
-- a command's output on a borrowed machine; all rows of long tables are in the JSON alone.

local cjson = require "cjson"
local text = require "cnn.text"
local process = require "scripts.gpu.process"

local report = {}

local MOST_ROWS = 40

-- ----------------------------------------------------------------------------------------- values

local function number(value)
  if value % 1 == 0 and math.abs(value) < 1e15 then return text.commas(value) end
  local size = math.abs(value)
  if size >= 1000 then return text.commas(value) end
  return (size >= 100 and "%.0f" or size >= 10 and "%.1f" or size >= 0.01 and "%.3f" or "%.3g")
    :format(value)
end

local function cell(value)
  if value == nil or value == cjson.null then return "" end
  return type(value) == "number" and number(value) or tostring(value)
end

local function table_lines(t)
  local lines, left = { t.columns }, 0
  for i, row in ipairs(t.rows) do
    if i > (t.most or MOST_ROWS) then break end
    local cells = {}
    for c, column in ipairs(t.columns) do cells[c] = cell(row[column]) end
    lines[#lines + 1] = cells
  end
  for c, column in ipairs(t.columns) do -- words stand left, numbers right
    if type(t.rows[1][column]) ~= "string" then break end
    left = c
  end
  local out = text.columns(lines, left)
  if #lines - 1 < #t.rows then
    out = ("%s\n(%d more in report.json)"):format(out, #t.rows - #lines + 1)
  end
  return out
end

-- ------------------------------------------------------------------------------------------ text

local order = { "failed", "skipped", "passed" }

local function counts_of(part)
  local n, words = { passed = 0, failed = 0, skipped = 0 }, {}
  for _, check in ipairs(part.checks or {}) do n[check.status] = n[check.status] + 1 end
  for _, status in ipairs { "passed", "failed", "skipped" } do
    if n[status] > 0 then words[#words + 1] = n[status] .. " " .. status end
  end
  return #words > 0 and table.concat(words, ", ") or "nothing checked"
end

-- The skipped with the same reason share a line.
local function check_lines(part, add)
  for _, status in ipairs(order) do
    local seen = {}
    for _, check in ipairs(part.checks or {}) do
      local why = check.text or ""
      if check.status == status and status == "skipped" and seen[why] then
        seen[why] = seen[why] + 1
      elseif check.status == status then
        add(("  %-8s%s%s"):format(status, check.name, why ~= "" and ": " .. why or ""))
        seen[why] = 0
      end
    end
    for why, more in pairs(seen) do
      if more > 0 then add(("          and %d more: %s"):format(more, why)) end
    end
  end
end

local function part_text(part)
  local lines = {}
  local function add(line) lines[#lines + 1] = line end
  add(("%-10s %s, %.1f s of %.0f: %s"):format(part.name, part.status:upper(), part.seconds,
    part.limit, counts_of(part)))
  if part.reason then add("  " .. part.reason) end
  check_lines(part, add)
  for _, figure in ipairs(part.figures or {}) do
    add(("  %s: %s%s"):format(figure.name, cell(figure.value),
      figure.unit and " " .. figure.unit or ""))
  end
  for _, t in ipairs(part.tables or {}) do
    add("  " .. t.title)
    add("    " .. table_lines(t):gsub("\n", "\n    "))
  end
  return table.concat(lines, "\n")
end

report.part_text = part_text

-- Once more at the end, where one looks first.
local function failures(whole, lines)
  for _, part in ipairs(whole.parts) do
    if part.reason then lines[#lines + 1] = ("FAILED %s: %s"):format(part.name, part.reason) end
    for _, check in ipairs(part.checks or {}) do
      if check.status == "failed" then
        lines[#lines + 1] = ("FAILED %s, %s"):format(part.name, check.name)
      end
    end
  end
end

function report.text(whole)
  local lines = {
    ("cnnlua gpu-check, %s%s"):format(whole.started,
      whole.host and "; the host double, NO CARD: figures of time mean nothing" or ""),
    whole.machine,
    "",
  }
  for _, part in ipairs(whole.parts) do
    lines[#lines + 1] = part_text(part)
    lines[#lines + 1] = ""
  end
  failures(whole, lines)
  lines[#lines + 1] = ("%d checks passed, %d failed, %d skipped, in %.0f s of %.0f"):format(
    whole.passed, whole.failed, whole.skipped, whole.seconds, whole.minutes * 60)
  return table.concat(lines, "\n") .. "\n"
end

function report.write(whole, folder)
  process.write(folder .. "/report.txt", report.text(whole))
  process.write(folder .. "/report.json", cjson.encode(whole) .. "\n")
end

return report
