-- Goes before the scripts that move entries, whose first arguments are the same:
-- ARGV[1] prefix        of the ledger's hours, ledger:{p}:
-- ARGV[2] seconds       an hour is kept, from when a field of it is counted for the first time

local function count(minute, kind, number)
  local hour = math.floor(minute / 60)
  local key = ARGV[1] .. hour
  if redis.call('HINCRBY', key, minute - hour * 60 .. ':' .. kind, number) == number then
    redis.call('EXPIRE', key, ARGV[2])
  end
end
