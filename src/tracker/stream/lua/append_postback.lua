-- Appends a postback, unless too many bytes of them wait.
--
-- KEYS[1] postbacks:{0}   KEYS[2] postback-bytes:{0}
-- ARGV[1] record
-- ARGV[2] bytes           of the server's own for each entry
-- ARGV[3] bytes           that may wait at most

local bytes = #ARGV[1] + tonumber(ARGV[2])
if tonumber(redis.call('GET', KEYS[2]) or 0) + bytes > tonumber(ARGV[3]) then
  return redis.error_reply('FULL too many postbacks wait')
end
redis.call('INCRBY', KEYS[2], bytes)
return redis.call('XADD', KEYS[1], '*', 'r', ARGV[1])
