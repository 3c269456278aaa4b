#!lua
-- Appends events of one person to the log of the shard and to the person's packed state (server/state/packed.py).
-- KEYS  state, log
-- ARGV  ids_max, deeds_max, signals_max, ttl_ms, then for each event: id (8 bytes or none), kind ('\1' deed,
--       '\2' signal, '\0' log only), record (32 bytes, its position zero), log entry
-- Gives {number of events written, last_ms of the state}. The others were known by their ids, or happened before the
-- person was purged: a repeated delivery must not bring back what was forgotten.
local HEADER, RECORD = 32, 32
local state = redis.call('GET', KEYS[1])
local ids, deeds, signals, last, purged = '', '', '', 0, 0
if state then
  local _, n_ids, n_deeds, n_signals
  _, n_ids, n_deeds, n_signals, last, purged = struct.unpack('<HHHHdd', state)
  local at = HEADER + 1
  ids = string.sub(state, at, at + 8 * n_ids - 1)
  at = at + 8 * n_ids
  deeds = string.sub(state, at, at + RECORD * n_deeds - 1)
  signals = string.sub(state, at + RECORD * n_deeds)
end

local function known(id)
  local at = 1
  while true do
    local found = string.find(ids, id, at, true)
    if not found then return false end
    if (found - 1) % 8 == 0 then return true end
    at = found + 1
  end
end

local written = 0
for i = 5, #ARGV, 4 do
  local id, kind, record = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local forgotten = purged > 0 and (struct.unpack('<I4', record, 17) + 1) * 1000 <= purged
  if not forgotten and (id == '' or not known(id)) then
    local position = redis.call('XADD', KEYS[2], '*', 'e', ARGV[i + 3])
    last = tonumber(string.match(position, '^%d+'))
    ids = ids .. id
    if kind == '\1' then
      deeds = deeds .. struct.pack('<d', last) .. string.sub(record, 9)
    elseif kind == '\2' then
      signals = signals .. struct.pack('<d', last) .. string.sub(record, 9)
    end
    written = written + 1
  end
end

local function newest(text, size, count_max)
  local excess = #text - size * tonumber(count_max)
  return excess > 0 and string.sub(text, excess + 1) or text
end

if written > 0 then
  ids, deeds, signals = newest(ids, 8, ARGV[1]), newest(deeds, RECORD, ARGV[2]), newest(signals, RECORD, ARGV[3])
  local value = struct.pack('<HHHHddI8', 1, #ids / 8, #deeds / RECORD, #signals / RECORD, last, purged, 0)
    .. ids .. deeds .. signals
  if purged > 0 then
    redis.call('SET', KEYS[1], value) -- never expires: generations may still hold what was purged
  else
    redis.call('SET', KEYS[1], value, 'PX', ARGV[4])
  end
end
return {written, last}
