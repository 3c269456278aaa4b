#!lua
-- Appends events of one person to the log of the shard and to the person's packed state (server/state/packed.py).
-- KEYS  state, log
-- ARGV  ids_max, deeds_max, signals_max, ttl_ms, then for each event: id (8 bytes or none), kind ('\1' deed,
--       '\2' signal, '\0' log only), record (32 bytes, its position zero), log entry
-- Gives {number of events written, last_ms of the state}. The others were known by their ids, or happened before the
-- person was purged: a repeated delivery must not bring back what was forgotten.
-- Each section is a ring, written in place: the append-only file takes some bytes for an event, not the whole state.
local HEADER, ID, RECORD, ROOM_MIN = 32, 8, 32, 2
local FORM = '<HHHHddHHHH'
local call, find, pack, unpack, sub = redis.call, string.find, struct.pack, struct.unpack, string.sub
local state, log, ttl_ms = KEYS[1], KEYS[2], tonumber(ARGV[4])
local ids_max, deeds_max, signals_max = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local ids_room, deeds_room, signals_room, last, purged = 0, 0, 0, 0, 0
local ids_total, deeds_total, signals_total, ids = 0, 0, 0, ''
local header = call('GETRANGE', state, 0, HEADER - 1)
if header ~= '' then
  local version
  version, ids_room, deeds_room, signals_room, last, purged, ids_total, deeds_total, signals_total =
    unpack(FORM, header)
  if version > 2 then return redis.error_reply('the state ' .. state .. ' is of version ' .. version) end
  if version == 1 then ids_total, deeds_total, signals_total = ids_room, deeds_room, signals_room end
  local held = ids_total < ids_room and ids_total or ids_room
  if held > 0 then ids = call('GETRANGE', state, HEADER, HEADER + ID * held - 1) end
end
local before = last

local function whole(body)
  local value = pack(FORM, 2, ids_room, deeds_room, signals_room, last, purged, ids_total, deeds_total, signals_total, 0)
    .. body
  if purged > 0 then
    call('SET', state, value) -- never expires: generations may still hold what was purged
  else
    call('SET', state, value, 'PX', ttl_ms)
  end
end

-- Lays the state out anew: a section that needs room gets twice as much, none has more than its limit.
local function lay_out(more_ids, more_deeds, more_signals)
  local value, at = call('GET', state) or '', HEADER
  local function section(size, room, total, limit, more)
    local held, oldest = total < room and total or room, total > room and total % room or 0
    local text = sub(value, at + oldest * size + 1, at + held * size) .. sub(value, at + 1, at + oldest * size)
    at = at + room * size
    if more and held == room then room = math.max(ROOM_MIN, 2 * room) end
    if room > limit then room = limit end
    if held > room then text, held = sub(text, (held - room) * size + 1), room end
    return text .. string.rep('\0', (room - held) * size), room, held
  end
  local id_part, deed_part, signal_part
  id_part, ids_room, ids_total = section(ID, ids_room, ids_total, ids_max, more_ids)
  deed_part, deeds_room, deeds_total = section(RECORD, deeds_room, deeds_total, deeds_max, more_deeds)
  signal_part, signals_room, signals_total = section(RECORD, signals_room, signals_total, signals_max, more_signals)
  whole(id_part .. deed_part .. signal_part)
end

local written = 0
for i = 5, #ARGV, 4 do
  local id, kind, record = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local new = not (purged > 0 and (unpack('<I4', record, 17) + 1) * 1000 <= purged)
  if new and id ~= '' then
    local found = find(ids, id, 1, true)
    while found and found % ID ~= 1 do found = find(ids, id, found + 1, true) end
    new = not found
  end
  if new then
    local position = call('XADD', log, '*', 'e', ARGV[i + 3])
    last = tonumber(string.match(position, '^%d+'))
    local has_id, is_deed, is_signal = id ~= '' and ids_max > 0, kind == '\1', kind == '\2'
    if ids_room > ids_max or deeds_room > deeds_max or signals_room > signals_max
      or (has_id and ids_total == ids_room and ids_room < ids_max)
      or (is_deed and deeds_total == deeds_room and deeds_room < deeds_max)
      or (is_signal and signals_total == signals_room and signals_room < signals_max) then
      lay_out(has_id, is_deed, is_signal)
    elseif header == '' and written == 0 then
      whole('')
    end
    if has_id then
      call('SETRANGE', state, HEADER + ID * (ids_total % ids_room), id)
      ids_total = ids_total + 1
      if ids_total == 2 * ids_room then ids_total = ids_room end
      if i + 4 < #ARGV then ids = ids .. id end
    end
    local at = HEADER + ID * ids_room
    if is_deed and deeds_room > 0 then
      call('SETRANGE', state, at + RECORD * (deeds_total % deeds_room), pack('<d', last) .. sub(record, 9))
      deeds_total = deeds_total + 1
      if deeds_total == 2 * deeds_room then deeds_total = deeds_room end
    elseif is_signal and signals_room > 0 then
      at = at + RECORD * (deeds_room + signals_total % signals_room)
      call('SETRANGE', state, at, pack('<d', last) .. sub(record, 9))
      signals_total = signals_total + 1
      if signals_total == 2 * signals_room then signals_total = signals_room end
    end
    written = written + 1
  end
end

if written > 0 then
  call('SETRANGE', state, 0, pack(
    FORM, 2, ids_room, deeds_room, signals_room, last, purged, ids_total, deeds_total, signals_total, 0))
  -- Renewing the time to live is a write of its own: with the first event of each hundredth of it is enough.
  local step = ttl_ms / 100
  if purged == 0 and math.floor(last / step) ~= math.floor(before / step) then call('PEXPIRE', state, ttl_ms) end
end
return {written, last}
