-- Removes stored entries from the stream, and counts those that were still there. An entry that is acknowledged
-- twice counts once.
--
-- KEYS[1] clicks:{p}
-- ARGV[3] group
-- then for each minute and kind ('x' stored, 'u' duplicate): minute, kind, number of entries, their ids

local CHUNK = 1000           -- unpack has a limit

local at = 4
while at <= #ARGV do
  local minute, kind, stop = tonumber(ARGV[at]), ARGV[at + 1], at + 2 + tonumber(ARGV[at + 2])
  local deleted = 0
  for first = at + 3, stop, CHUNK do
    local last = math.min(first + CHUNK - 1, stop)
    redis.call('XACK', KEYS[1], ARGV[3], unpack(ARGV, first, last))
    deleted = deleted + redis.call('XDEL', KEYS[1], unpack(ARGV, first, last))
  end
  if deleted > 0 then count(minute, kind, deleted) end
  at = stop + 1
end
