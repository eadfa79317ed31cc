-- Gives a writer entries that other writers have read and not stored: soon if their slot is free, and after a
-- long time from any writer, itself included.
--
-- KEYS[1] clicks:{p}
-- ARGV[1] group         ARGV[2] consumer that takes over
-- ARGV[3] prefix        of consumers' names, before the slot
-- ARGV[4] prefix        of the locks of slots
-- ARGV[5] number of entries at most
-- ARGV[6] milliseconds  an entry of a free slot has been idle; ARGV[7] any entry

local left, taken = tonumber(ARGV[5]), {}

local function take(consumer, idle)
  local ids = {}
  for _, pending in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', idle, '-', '+', left, consumer)) do
    ids[#ids + 1] = pending[1]
  end
  if #ids == 0 then return end
  for _, entry in ipairs(redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, unpack(ids))) do
    if entry and entry[2] then taken[#taken + 1] = entry end
  end
  left = left - #ids
end

for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer, pending = info[2], info[4]
  local is_free = redis.call('EXISTS', ARGV[4] .. string.sub(consumer, #ARGV[3] + 1)) == 0
  if pending > 0 and left > 0 then take(consumer, is_free and ARGV[6] or ARGV[7]) end
end
return taken
