#!lua
-- Ends a visitor's state that has gone into a user's, unless it has changed since. Its event ids stay for a day: an
-- event that the visitor's caller sends again after the sign-in is still known.
-- KEYS  the visitor's state
-- ARGV  the value that was merged
-- Gives 1 when it is gone, 0 when it has changed. What says that the visitor was purged stays for ever.
local HEADER, DAY_MS = 32, 86400000
local state = redis.call('GET', KEYS[1])
if state ~= ARGV[1] then return 0 end
local version, ids, _, _, last, purged, total = struct.unpack('<HHHHddH', state)
if version == 1 then total = ids end
local rest = struct.pack('<HHHHddHHHH', 2, ids, 0, 0, last, purged, total, 0, 0, 0)
  .. string.sub(state, HEADER + 1, HEADER + 8 * ids)
if purged > 0 then
  redis.call('SET', KEYS[1], rest)
elseif ids > 0 then
  redis.call('SET', KEYS[1], rest, 'PX', DAY_MS)
else
  redis.call('DEL', KEYS[1])
end
return 1
