"""The meter of `edge.admission.rate` as a script, so that no two nodes grant the same.

All limits of one tenant's plan are in one value and are judged in one call: all have room and are
spent, or none is. What is given back late is not given twice, as there: each open reservation knows
the least that was in use since it was made. The server's clock counts, and no node's.

An open reservation that nobody settled within an hour, as its node died, or that is beyond the
last 256, keeps what it took; that runs out like all that is used.
"""

OPEN_S = 3_600
OPEN_MAX = 256

SCRIPT = f"""
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1e6
end
local what, id = ARGV[2], ARGV[3]
local limits = {{}}
for at = 4, #ARGV, 3 do
  local units, window = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  limits[#limits + 1] = {{window = window, one = window / units, asked = tonumber(ARGV[at + 2])}}
end
local kept = redis.call('GET', KEYS[1])
local sound, state = pcall(cmsgpack.unpack, kept or '')
if not (sound and type(state) == 'table' and type(state.full) == 'table'
        and type(state.open) == 'table') then
  state = {{full = {{}}, open = {{}}}}
end
local full, open = state.full, state.open

local function in_use(at)
  return math.max((full[at] or 0) - now, 0) / limits[at].one
end

local function spend(at, units)
  local level = in_use(at)
  for _, other in ipairs(open) do
    other.low[at] = math.min(other.low[at], level)
  end
  full[at] = math.max(full[at] or 0, now) + units * limits[at].one
end

if what == 'take' then
  for at, limit in ipairs(limits) do
    local late = math.max((full[at] or 0) - now, 0) + limit.asked * limit.one - limit.window
    if late > 1e-6 then
      return {{at, tostring(late)}}
    end
  end
  local mine = {{id = id, since = now, units = {{}}, low = {{}}}}
  for at, limit in ipairs(limits) do
    spend(at, limit.asked)
    mine.units[at], mine.low[at] = limit.asked, in_use(at)
  end
  open[#open + 1] = mine
  while #open > {OPEN_MAX} or open[1].since < now - {OPEN_S} do
    table.remove(open, 1)
  end
else
  for place, mine in ipairs(open) do
    if mine.id == id then
      table.remove(open, place)
      for at, limit in ipairs(limits) do
        local back = mine.units[at] - limit.asked
        if back <= 0 then
          spend(at, -back)
        else
          back = math.max(math.min(back, mine.low[at], in_use(at)), 0)
          full[at] = full[at] - back * limit.one
          for _, other in ipairs(open) do
            other.low[at] = other.low[at] - back
          end
        end
      end
      break
    end
  end
end
local keep = #open > 0 and {OPEN_S} or 1
for at in ipairs(limits) do
  keep = math.max(keep, (full[at] or 0) - now)
end
redis.call('SET', KEYS[1], cmsgpack.pack(state), 'PX', math.ceil(keep * 1000))
return {{0, '0'}}
"""
