-- Takes postbacks off the stream, and their bytes off the count. Done twice, it changes nothing.
--
-- KEYS[1] postbacks:{0}   KEYS[2] postback-bytes:{0}
-- ARGV[1] bytes           of the server's own for each entry, then the entries' ids

for place = 2, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[place], ARGV[place])[1]
  if entry then
    redis.call('XDEL', KEYS[1], ARGV[place])
    -- pcall: a server out of memory deletes entries but refuses to count. An empty stream resets the count.
    redis.pcall('DECRBY', KEYS[2], #entry[2][2] + tonumber(ARGV[1]))
  end
end
if redis.call('XLEN', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[2])
end
