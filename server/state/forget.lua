#!lua
-- Replaces a person's state by an empty one that says when the person was purged. It never expires.
-- KEYS  state
-- Gives {number of events that were in it, milliseconds of now}.
local state = redis.call('GET', KEYS[1])
local count = 0
if state then
  local version, _, deeds, signals, _, _, _, deeds_total, signals_total = struct.unpack('<HHHHddHHH', state)
  if version == 1 then deeds_total, signals_total = deeds, signals end
  count = math.min(deeds, deeds_total) + math.min(signals, signals_total)
end
local now = redis.call('TIME')
local purged = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('SET', KEYS[1], struct.pack('<HHHHddHHHH', 2, 0, 0, 0, 0, purged, 0, 0, 0, 0))
return {count, purged}
