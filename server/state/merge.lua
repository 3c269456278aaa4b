#!lua
-- Takes a visitor's packed state into a user's. Doing it twice changes nothing.
-- KEYS  the user's state
-- ARGV  ids_max, deeds_max, signals_max, ttl_ms, the visitor's state
-- Gives last_ms of the user's state.
local HEADER, RECORD = 32, 32

local FORM = '<HHHHddHHHH'

-- Ids, deeds and signals as they came, oldest first, then last_ms and purged_ms.
local function parts(state)
  local version, ids_room, deeds_room, signals_room, last, purged, ids_total, deeds_total, signals_total =
    struct.unpack(FORM, state)
  if version > 2 then error('a state of version ' .. version) end
  if version == 1 then ids_total, deeds_total, signals_total = ids_room, deeds_room, signals_room end
  local at = HEADER
  local function section(size, room, total)
    local held, oldest = math.min(total, room), total > room and total % room or 0
    local text = string.sub(state, at + oldest * size + 1, at + held * size)
      .. string.sub(state, at + 1, at + oldest * size)
    at = at + room * size
    return text
  end
  local ids = section(8, ids_room, ids_total)
  local deeds = section(RECORD, deeds_room, deeds_total)
  return ids, deeds, section(RECORD, signals_room, signals_total), last, purged
end

local function pieces(text, size)
  local list = {}
  for at = 1, #text, size do list[#list + 1] = string.sub(text, at, at + size - 1) end
  return list
end

-- What is in `theirs` and not in `mine`; equal pieces count as often as they occur.
local function beyond(mine, theirs)
  local have, rest = {}, {}
  for _, piece in ipairs(mine) do have[piece] = (have[piece] or 0) + 1 end
  for _, piece in ipairs(theirs) do
    if (have[piece] or 0) > 0 then have[piece] = have[piece] - 1 else rest[#rest + 1] = piece end
  end
  return rest
end

local function newest(list, count_max)
  local first = math.max(1, #list - tonumber(count_max) + 1)
  return table.concat(list, '', first), #list - first + 1
end

local function records(mine, theirs, count_max)
  local list = pieces(mine, RECORD)
  for _, record in ipairs(beyond(list, pieces(theirs, RECORD))) do list[#list + 1] = record end
  local order = {}
  for i, record in ipairs(list) do order[i] = {(struct.unpack('<d', record)), i, record} end
  table.sort(order, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
  for i, entry in ipairs(order) do list[i] = entry[3] end
  return newest(list, count_max)
end

local ids, deeds, signals, last, purged = '', '', '', 0, 0
local state = redis.call('GET', KEYS[1])
if state then ids, deeds, signals, last, purged = parts(state) end
local their_ids, their_deeds, their_signals, their_last = parts(ARGV[5])
local own_ids = pieces(ids, 8)
local all = beyond(own_ids, pieces(their_ids, 8))
for _, id in ipairs(own_ids) do all[#all + 1] = id end -- the user's own last: they are the newest
local n_ids, n_deeds, n_signals
ids, n_ids = newest(all, ARGV[1])
deeds, n_deeds = records(deeds, their_deeds, ARGV[2])
signals, n_signals = records(signals, their_signals, ARGV[3])
last = math.max(last, their_last)

local function packed(n_ids, n_deeds, n_signals, last, purged)
  return struct.pack(FORM, 2, n_ids, n_deeds, n_signals, last, purged, n_ids, n_deeds, n_signals, 0)
end

local value = packed(n_ids, n_deeds, n_signals, last, purged) .. ids .. deeds .. signals
if value ~= (state or packed(0, 0, 0, 0, 0)) then
  if purged > 0 then
    redis.call('SET', KEYS[1], value)
  else
    redis.call('SET', KEYS[1], value, 'PX', ARGV[4])
  end
end
return last
