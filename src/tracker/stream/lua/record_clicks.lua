-- Records one batch of clicks: decides which are unique and whether a cap is full, picks each click's outcome,
-- appends and counts. It remembers the answer for the lane, so that a repeated call changes nothing.
--
-- KEYS[1] clicks:{p}            the stream
-- KEYS[2] lane:{p}:<lane>       "<sequence> <answer>" of the lane's last call
-- KEYS[3] edges:{p}             each edge's last heartbeat
-- KEYS[4] remembered:{p}        "<hour> <bytes> <closed>": memory of visitors at the last count, and the networks that
--                               have used up their share. Its parts are in KEYS[4]:parts, bytes by "<hour>:<network>",
--                               the hour in which they are free again, and by "<network>"
-- ARGV[1] sequence              one more than the lane's last, or the last again
-- ARGV[2] mode                  live      clicks whose visitors wait
--                               look      the same decisions, for each click alone; nothing is written
--                               spooled   clicks that were answered with their first outcome
--                               uncertain as spooled, but the lane's previous call had the same clicks and may have
--                                         been applied
--                               copied    clicks that were answered as ARGV[8] says, by a server that may be lost
-- ARGV[3] seconds               how long a lane is remembered
-- ARGV[4] prefix                of uniqueness buckets, unique:{p}:
-- ARGV[5] prefix                of the counts of caps, cap:{p}:
-- ARGV[6] prefix                of the ledger, ledger:{p}:
-- ARGV[7] edge                  sender of the heartbeat ARGV[8], as <slot>/<run id>; empty = no heartbeat
-- ARGV[8] heartbeat             "<until> <spooled>", kept in KEYS[3] as "<until> <time> <spooled>"; empty = removed.
--                               copied: the answer that the clicks got
-- ARGV[9] answered              clicks that were answered since the last call: minute (4 bytes), clicks (4); repeated
-- ARGV[10] room                 most bytes that this partition's visitors may take
-- then two a click:
--   control   29 bytes: 'U' takes the uniqueness key and counts, 'D' does both unless it is a duplicate,
--             'L' only looks the first hash up, 'N' does nothing; number of the visitor's network (7 bits,
--             0 = none) and window in seconds (25 bits), big-endian; fingerprint of (offer, visitor) (8);
--             click hash (16).
--             Then an item for each former setting of uniqueness that may remember the visitor: 'f'; window in
--             seconds (4); fingerprint (8).
--             Then an item for each cap: 'c' counts clicks, 'u' uniques; limit (6); when its period ends,
--             Unix seconds, 0 = never (6); length of its name (1); name
--   record    appended as it is
--
-- Returns one text: the server's Unix milliseconds (6 bytes, big-endian), then the answer. A table of the two would
-- cost the server more. The answer to live and look has 17 bytes a click: the outcome's number
-- ('0' unique, '1' duplicate, '2' capped: one of its caps is full, '4' unknown: no room to remember the visitor, so
-- the first outcome) and the first hash of the visitor in the window (zeros: unknown). Late clicks get none: the entry
-- of a spooled click always has the first outcome, '3', or '5' without room for the visitor.
--
-- A script is not rolled back: all is checked before the first write.

-- The server runs the whole script in each call. Each function costs it time, and so does each local of outside that
-- a function uses. So what few calls need uses globals, or stands in one function that is called when it is needed.
-- Numbers are slow to write as text. format('%d') takes half as long as '..', and cuts fractions off.

local FIRST, CONTROL = 11, 29
local NETWORK = 33554432     -- 2^25: the network's number stands above the window
local LATE = 3600000         -- ms that slices and counts outlive their time, or the call: clicks may be late
local NO_HASH = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
local arguments, call, unpack, format, sub = ARGV, redis.call, struct.unpack, string.format, string.sub

local function read_formers(control, at)
  local FORMER = 13
  local formers = {}
  while string.sub(control, at, at) == 'f' and at + FORMER - 1 <= #control do
    local window = struct.unpack('>I4', control, at + 1)
    if window == 0 then break end
    formers[#formers + 1] = {window = window * 1000, fingerprint = at + 5}
    at = at + FORMER
  end
  return formers[1] and formers, at
end

local function read_caps(items)
  local CAP = 14
  local caps, at = {}, 1
  while at <= #items do
    local length = string.byte(items, at + CAP - 1)
    if not length or at + CAP + length - 1 > #items then return end
    local kind, limit_high, limit, expires_high, expires = struct.unpack('>c1I2I4I2I4', items, at)
    if kind ~= 'c' and kind ~= 'u' then return end
    caps[#caps + 1] = {
      uniques_only = kind == 'u',
      limit = limit_high * 4294967296 + limit,
      expires = (expires_high * 4294967296 + expires) * 1000,
      key = ARGV[5] .. string.sub(items, at + CAP, at + CAP + length - 1),
    }
    at = at + CAP + length
  end
  return caps
end

local sequence, mode = tonumber(arguments[1]), arguments[2]
local copied = mode == 'copied' and arguments[8]
local is_look, is_late = mode == 'look', mode == 'spooled' or mode == 'uncertain' or mode == 'copied'
if not sequence or not (mode == 'live' or is_look or is_late) or not tonumber(arguments[3]) or #KEYS ~= 4
    or not tonumber(arguments[10]) or #arguments % 2 == 1 or #arguments[9] % 8 ~= 0
    or copied and #copied ~= (#arguments - FIRST + 1) / 2 * 17 then
  return redis.error_reply('BADBATCH wrong number of keys or arguments')
end
local formers, caps = {}, {} -- of the clicks that have any, by their place in the arguments
local caps_read = {}         -- by their bytes: the clicks of an offer mostly have the same
for i = FIRST, #arguments, 2 do
  local control = arguments[i]
  local is_sound = #control >= CONTROL
  if is_sound then
    local kind, word = unpack('>c1I4', control)
    is_sound = kind == 'N' or (kind == 'U' or kind == 'D' or kind == 'L') and word % NETWORK > 0
  end
  if is_sound and #control > CONTROL then
    local at
    formers[i], at = read_formers(control, CONTROL + 1)
    local items = sub(control, at)
    caps_read[items] = caps_read[items] or read_caps(items)
    caps[i] = caps_read[items]
    is_sound = caps[i]
  end
  if not is_sound then return redis.error_reply('BADBATCH control ' .. i .. ' is malformed') end
end

local time = call('TIME')
local millis = math.floor(time[2] / 1000)
local now = time[1] * 1000 + millis
local moment = struct.pack('>I6', now)

local last = not is_look and call('GET', KEYS[2])
local answered_before        -- the answer of the uncertain call, if it was applied
if last then
  local last_sequence, answer_at = string.match(last, '^(%S+) ()')
  last_sequence = tonumber(last_sequence)
  -- A repeat writes too. Otherwise WAIT would have nothing to wait for on a new connection.
  if sequence <= last_sequence then call('EXPIRE', KEYS[2], arguments[3]) end
  if sequence == last_sequence then return moment .. sub(last, answer_at) end
  if sequence < last_sequence then
    if is_late then return moment end -- done, and what comes after it
    return redis.error_reply('STALE sequence ' .. sequence)
  end
  if mode == 'uncertain' and sequence == last_sequence + 1 then answered_before = sub(last, answer_at) end
end

-- Visitors are packed by window into slices of time, and each slice into 65,536 buckets. A bucket is a small hash:
-- the fingerprint's first two bytes name it, and the other six point to the first click hash. A visitor takes 34
-- bytes at a million visitors, and 27 at twenty million. A running window began in this slice or in the one before,
-- or in the next one if another edge's clock is ahead.
local prefixes = {}          -- of buckets' names, by window and slice

-- The first click of the window around `at`, and its time. A late click may find one that began after it.
-- It is kept by slices of `slicing`: the window itself, or the one before the offer was changed.
local function first_hash(near, slicing, window, at, bucket, field)
  local own, known, later, later_at = (at - at % slicing) / slicing, prefixes[slicing], nil, nil
  if not known then
    known = {}
    prefixes[slicing] = known
  end
  for i = 1, #near do
    local slice = own + near[i]
    local prefix = known[slice]
    if not prefix then
      prefix = ARGV[4] .. format('%d000:%d:', slicing / 1000, slice)
      known[slice] = prefix
    end
    local first = call('HGET', prefix .. bucket, field)
    if first then
      local high, low = unpack('>I2I4', first)
      local began = high * 4294967296 + low
      if began <= at and at < began + window then return first, began end
      if began > at and began < at + window and not later then later, later_at = first, began end
    end
  end
  return later, later_at
end

-- The first click, by the present window, of a visitor that former settings remember.
local function first_of_before(formers, window, at, control)
  local near = {0, -1, 1, -2} -- slices of a former window may be there for longer than it
  for _, former in ipairs(formers) do
    local bucket, field = struct.unpack('>I2c6', control, former.fingerprint)
    local first, began = first_hash(near, former.window, window, at, string.format('%d', bucket), field)
    if first then return first, began end
  end
end

-- The memory of visitors is estimated from one visitor in SAMPLE.
local function open_memory()
  local HOUR, SAMPLE = 3600000, 64     -- ms; one visitor of so many
  local BUCKET, VISITOR = 130, 26      -- bytes of a bucket, and of each visitor in it
  local PACKED, LOOSE = 512, 60        -- a bucket of more visitors becomes a hash table; bytes of each visitor then
  local call = redis.call
  local room, parts = tonumber(ARGV[10]), KEYS[4] .. ':parts'
  local share = room / 8               -- of one network
  local memory = {hour = math.floor(now / HOUR)}

  -- Once an hour memory that has become free is subtracted.
  local function recount()
    local shares, counted = {}, call('HGETALL', parts)
    memory.bytes, memory.closed, memory.is_new = 0, '', not is_look
    for i = 1, #counted, 2 do
      local hour, network = string.match(counted[i], '^(%d+):(%d+)$')
      if hour and tonumber(hour) > memory.hour then
        memory.bytes = memory.bytes + counted[i + 1]
        shares[network] = (shares[network] or 0) + counted[i + 1]
      elseif not is_look then
        call('HDEL', parts, counted[i])
      end
    end
    for network, bytes in pairs(shares) do
      if bytes >= share and network ~= '0' then memory.closed = memory.closed .. string.char(network) end
      if not is_look then call('HSET', parts, network, bytes) end
    end
  end

  function memory.has_room(network)
    if memory.bytes >= room then return false end
    return network == 0 or memory.closed == '' or not string.find(memory.closed, string.char(network), 1, true)
  end

  -- Count a visitor, the latest of its bucket.
  local function charge(network, visitors, is_sampled, free_at)
    local bytes = visitors == PACKED + 1 and PACKED * (LOOSE - VISITOR) or 0
    if is_sampled then
      bytes = bytes + SAMPLE * ((visitors == 1 and BUCKET or 0) + (visitors > PACKED and LOOSE or VISITOR))
    end
    call('HINCRBY', parts, math.ceil(free_at / HOUR) .. ':' .. network, bytes)
    if call('HINCRBY', parts, network, bytes) >= share and network > 0 then
      memory.closed = memory.closed .. string.char(network)
    end
    memory.bytes, memory.is_new = memory.bytes + bytes, true
  end

  function memory.remember(window, at, bucket, field, hash, network)
    if is_look then return end
    local slice = (at - at % window) / window
    -- The first hash has been looked for in this slice, so its prefix is known.
    local key, free_at = prefixes[window][slice] .. bucket, math.max((slice + 2) * window, now) + LATE
    call('HSET', key, field, hash)
    local visitors = call('HLEN', key)
    if visitors == 1 then call('PEXPIREAT', key, free_at) end
    -- The random end of the click's hash decides which visitors are counted, so that they cannot be chosen from
    -- outside.
    local is_sampled = string.byte(hash, 16) % SAMPLE == 0
    if is_sampled or visitors == PACKED + 1 then charge(network, visitors, is_sampled, free_at) end
  end

  local hour, bytes, closed = string.match(call('GET', KEYS[4]) or '', '^(%d+) (%d+) (.*)$')
  if tonumber(hour or 0) == memory.hour then
    memory.bytes, memory.closed = tonumber(bytes), closed
  else
    recount()
  end
  return memory
end

-- The counts of caps.
local function open_counts()
  local counts, by_key = {}, {}        -- a cap's count, and its growth in this call

  local function count_of(cap)
    local count = by_key[cap.key]
    if not count then
      count = {value = tonumber(redis.call('GET', cap.key) or 0), added = 0, expires = cap.expires}
      by_key[cap.key] = count
    end
    return count
  end

  function counts.is_full(caps, is_unique)
    for _, cap in ipairs(caps) do
      if (is_unique or not cap.uniques_only) and count_of(cap).value >= cap.limit then return true end
    end
  end

  function counts.add(caps, is_unique)
    if is_look then return end
    for _, cap in ipairs(caps) do
      if is_unique or not cap.uniques_only then
        local count = count_of(cap)
        count.value, count.added = count.value + 1, count.added + 1
      end
    end
  end

  function counts.write()
    for key, count in pairs(by_key) do
      if count.added > 0 then
        redis.call('INCRBY', key, count.added)
        if count.value == count.added and count.expires > 0 then
          redis.call('PEXPIREAT', key, math.max(count.expires, now) + LATE)
        end
      end
    end
  end
  return counts
end

local NEAR = {0, -1, 1}      -- slices to look in, seen from the click's own
local memory, counts         -- once they are needed

-- The number of a click's outcome, if it is live, and the visitor's first hash.
-- Late clicks were answered: they are not refused any more, and a full cap counts them too.
local function verdict(control, kind, network, window, bucket, field, at, caps, formers)
  local first, began = first_hash(NEAR, window, window, at, bucket, field)
  if formers and not first then
    first, began = first_of_before(formers, window, at, control)
    -- From now on the present setting remembers the visitor.
    if first and kind ~= 'L' then
      memory = memory or open_memory()
      if memory.has_room(network) then memory.remember(window, began, bucket, field, first, network) end
    end
  end
  if kind == 'L' then return '0', first end
  counts = counts or caps and open_counts()
  if not is_late then
    if kind == 'D' and first then return '1', first end
    if caps and counts.is_full(caps, not first) then return '2', first end
  end
  memory = memory or not first and open_memory()
  local is_unique = not first and memory.has_room(network)
  if caps then counts.add(caps, is_unique) end
  if first then return '1', first end
  if not is_unique then return '4' end
  first = string.sub(control, 14, 29)
  memory.remember(window, at, bucket, field, first, network)
  return '0', first
end

local minutes = {}           -- of the clicks recorded in this call, by their first millisecond
local answers, answered = {}, 0
for i = FIRST, #arguments, 2 do
  local control = arguments[i]
  local kind, word, bucket, field, high, low = unpack('>c1I4I2c6I2I4', control)
  local before = answered_before and sub(answered_before, (i - FIRST) / 2 * 17 + 1, (i - FIRST) / 2 * 17 + 1)
  if before ~= '0' and before ~= '4' then -- else it is recorded as it was answered
    local at = high * 4294967296 + low
    local number, first = '0', nil
    if kind ~= 'N' then
      local seconds, has_counted = word % NETWORK, before == '1' and kind == 'U'
      number, first = verdict(control, kind, (word - seconds) / NETWORK, seconds * 1000, format('%d', bucket),
        field, at, not has_counted and caps[i] or nil, formers[i])
    end
    if is_late then number = number == '4' and '5' or '3' end
    local answer = number .. (first or NO_HASH)
    if copied then
      answer = sub(copied, (i - FIRST) / 2 * 17 + 1, (i - FIRST) / 2 * 17 + 17)
      -- The lost server's entry may be in the table. The writer then counts that row as this entry's.
      call('XADD', KEYS[1], '*', 'a', answer, 'r', arguments[i + 1], 'c', '')
    elseif not is_look then
      call('XADD', KEYS[1], '*', 'a', answer, 'r', arguments[i + 1])
    end
    if not is_look then
      local minute = at - at % 60000
      minutes[minute] = (minutes[minute] or 0) + 1
    end
    answered = answered + 1
    answers[answered] = answer
  end
end
local answer = is_late and '' or table.concat(answers) -- visitors of late clicks have been answered
if is_look then return moment .. answer end

if memory and memory.is_new then
  call('SET', KEYS[4], memory.hour .. ' ' .. memory.bytes .. ' ' .. memory.closed)
end
if counts then counts.write() end

local entered, hour, field   -- the last minute, and its names

local function enter(kind, minute, clicks)
  local LEDGER = 40 * 86400  -- seconds that an hour of the ledger outlives its last new count: longer than a lane
  if minute ~= entered then
    entered, hour, field = minute, ARGV[6] .. format('%d', minute / 60), format('%d:', minute % 60)
  end
  if call('HINCRBY', hour, field .. kind, clicks) == clicks then call('EXPIRE', hour, LEDGER) end
end

for minute, clicks in pairs(minutes) do
  enter('r', minute / 60000, clicks)
  if is_late and not copied then enter('l', minute / 60000, clicks) end
end
if not answered_before then
  for at = 1, #arguments[9], 8 do enter('n', unpack('>I4I4', arguments[9], at)) end
end
local edge, heartbeat = arguments[7], arguments[8]
if edge ~= '' and heartbeat ~= '' then
  call('HSET', KEYS[3], edge, (string.gsub(heartbeat, ' ', format(' %s%03d ', time[1], millis), 1)))
elseif edge ~= '' then
  call('HDEL', KEYS[3], edge)
end
call('SET', KEYS[2], arguments[1] .. ' ' .. answer, 'EX', arguments[3])
return moment .. answer
