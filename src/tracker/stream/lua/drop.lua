-- Deletes a dead letter for good. Returns 0 if there is no dead letter of this id.
--
-- KEYS[1] dead:{p}
-- ARGV[3] the dead letter's id, then the minute it counts for

local id, minute = ARGV[3], tonumber(ARGV[4])
if redis.call('XDEL', KEYS[1], id) == 0 then return 0 end
count(minute, 'd', -1)
count(minute, 'g', 1)
return 1
