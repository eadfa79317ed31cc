-- Stands before each script that moves entries. These scripts have the same first arguments:
-- ARGV[1] prefix        of the ledger's hours, ledger:{p}:
-- ARGV[2] seconds       that an hour is kept after one of its fields is first counted

local function count(minute, kind, number)
  local hour = math.floor(minute / 60)
  local key = ARGV[1] .. hour
  if redis.call('HINCRBY', key, minute - hour * 60 .. ':' .. kind, number) == number then
    redis.call('EXPIRE', key, ARGV[2])
  end
end
