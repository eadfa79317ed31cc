-- Puts a dead letter back on the stream, in a version that every writer reads. Returns 0 if there is no dead letter of this id.
--
-- KEYS[1] dead:{p}      KEYS[2] clicks:{p}
-- ARGV[3] the dead letter's id, then the minute it counts for, then its record in that version

local OURS = 4               -- id and reason, with their names, stand before the entry's own fields

local id, minute = ARGV[3], tonumber(ARGV[4])
local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
if not entry then return 0 end
local fields = {unpack(entry[2], OURS + 1)}
for at = 1, #fields, 2 do
  if fields[at] == 'r' then fields[at + 1] = ARGV[5] end
end
redis.call('XADD', KEYS[2], '*', unpack(fields))
redis.call('XDEL', KEYS[1], id)
count(minute, 'd', -1)
return 1
