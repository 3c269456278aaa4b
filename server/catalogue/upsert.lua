#!lua
-- Writes documents of items, all of them or none.
-- KEYS: the hash of documents, the stream of changes.
-- ARGV: for each item its id, the document that it must have now ('' for none), and the new one without "at".
-- Returns the place of the last change, or false when an item has another document by now.
for at = 1, #ARGV, 3 do
  if (redis.call('HGET', KEYS[1], ARGV[at]) or '') ~= ARGV[at + 1] then
    return false
  end
end
local last = false
for at = 1, #ARGV, 3 do
  local id, document = ARGV[at], ARGV[at + 2]
  last = redis.call('XADD', KEYS[2], '*', 'k', 'item', 'id', id, 'd', document)
  redis.call('HSET', KEYS[1], id, string.sub(document, 1, -2) .. ',"at":"' .. last .. '"}')
end
return last
