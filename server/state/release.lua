#!lua
-- Ends a visitor's state that has gone into a user's, unless it has changed since.
-- KEYS  the visitor's state
-- ARGV  the value that was merged
-- Gives 1 when it is gone, 0 when it has changed. What says that the visitor was purged stays.
local state = redis.call('GET', KEYS[1])
if state ~= ARGV[1] then return 0 end
local _, _, _, _, _, purged = struct.unpack('<HHHHdd', state)
if purged > 0 then
  redis.call('SET', KEYS[1], struct.pack('<HHHHddI8', 1, 0, 0, 0, 0, purged, 0))
else
  redis.call('DEL', KEYS[1])
end
return 1
