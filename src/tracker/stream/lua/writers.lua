-- Returns the writers of a partition: consumer, milliseconds since it last read, and the holder of its slot.
--
-- KEYS[1] clicks:{p}
-- ARGV[1] group
-- ARGV[2] prefix        of consumers' names, before the slot
-- ARGV[3] prefix        of the locks of slots

local writers = {}
local reply = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if reply.err then return writers end -- nothing was written to this partition yet, or nothing was read
for _, info in ipairs(reply) do
  local consumer, idle = info[2], info[6]
  local holder = redis.call('GET', ARGV[3] .. string.sub(consumer, #ARGV[2] + 1))
  writers[#writers + 1] = {consumer, idle, holder or ''}
end
return writers
