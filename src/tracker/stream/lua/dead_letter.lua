-- Moves an entry to the dead-letter stream, with the reason. An entry that is gone is left to others.
--
-- KEYS[1] clicks:{p}    KEYS[2] dead:{p}
-- ARGV[3] group, then the entry's id, the reason and the minute it counts for

local id, reason, minute = ARGV[4], ARGV[5], tonumber(ARGV[6])
local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
if entry then
  -- A full server refuses only this write. It comes first, so that nothing has changed then.
  redis.call('XADD', KEYS[2], '*', 'id', id, 'reason', reason, unpack(entry[2]))
  redis.call('XDEL', KEYS[1], id)
  count(minute, 'd', 1)
end
redis.call('XACK', KEYS[1], ARGV[3], id)
