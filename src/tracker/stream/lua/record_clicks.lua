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
-- ARGV[3] seconds               how long a lane is remembered
-- ARGV[4] prefix                of uniqueness buckets, unique:{p}:
-- ARGV[5] prefix                of the counts of caps, cap:{p}:
-- ARGV[6] prefix                of the ledger, ledger:{p}:
-- ARGV[7] edge                  sender of the heartbeat ARGV[8], as <slot>/<run id>; empty = no heartbeat
-- ARGV[8] heartbeat             "<until> <spooled>", kept in KEYS[3] as "<until> <time> <spooled>"; empty = removed
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
-- Returns {server's Unix milliseconds, answer}. Live and look: 17 bytes a click, the outcome's number ('0' unique,
-- '1' duplicate, '2' capped: one of its caps is full, '4' unknown: no room to remember the visitor, so the
-- first outcome) and the first hash of the visitor in the window (zeros: unknown). The entry of a spooled click
-- always has the first outcome: '3', or '5' without room for the visitor.
--
-- A script is not rolled back: all is checked before the first write.

local FIRST, CONTROL, FORMER, CAP, NO_HASH = 11, 29, 13, 14, string.rep('\0', 16)
local NETWORK = 33554432     -- 2^25: the network's number stands above the window
local FINGERPRINT = 6        -- where it is in a control
local NEAR = {0, -1, 1}      -- slices to look in, seen from the click's own
local KEPT = {0, -1, 1, -2}  -- the same of a former window: its slices may be there for longer than it
local LATE = 3600000         -- ms that slices and counts outlive their time, or the call: clicks may be late
local LEDGER = 40 * 86400    -- seconds that an hour of the ledger outlives its last new count: longer than a lane
local byte, sub, floor = string.byte, string.sub, math.floor

local function four_bytes(text, at)
  local a, b, c, d = byte(text, at, at + 3)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

local function six_bytes(text, at)
  local a, b = byte(text, at, at + 1)
  return (a * 256 + b) * 4294967296 + four_bytes(text, at + 2)
end

local function read_formers(control)
  local formers, at = {}, CONTROL + 1
  while sub(control, at, at) == 'f' and at + FORMER - 1 <= #control and four_bytes(control, at + 1) > 0 do
    formers[#formers + 1] = {window = four_bytes(control, at + 1) * 1000, fingerprint = at + 5}
    at = at + FORMER
  end
  return formers[1] and formers, at
end

local function read_caps(control, at)
  local caps = {}
  while at <= #control do
    local kind, length = sub(control, at, at), byte(control, at + CAP - 1)
    if (kind ~= 'c' and kind ~= 'u') or not length or at + CAP + length - 1 > #control then return end
    caps[#caps + 1] = {
      uniques_only = kind == 'u',
      limit = six_bytes(control, at + 1),
      expires = six_bytes(control, at + 7) * 1000,
      key = ARGV[5] .. sub(control, at + CAP, at + CAP + length - 1),
    }
    at = at + CAP + length
  end
  return caps
end

local function is_sound(control)
  local kind = sub(control, 1, 1)
  return kind == 'N' or (kind == 'U' or kind == 'D' or kind == 'L') and four_bytes(control, 2) % NETWORK > 0
end

local MODES = {live = true, look = true, spooled = true, uncertain = true}
local sequence, mode = tonumber(ARGV[1]), ARGV[2]
if not sequence or not MODES[mode] or not tonumber(ARGV[3]) or #KEYS ~= 4
    or not tonumber(ARGV[10]) or #ARGV % 2 == 1 or #ARGV[9] % 8 ~= 0 then
  return redis.error_reply('BADBATCH wrong number of keys or arguments')
end
local is_look, is_late = mode == 'look', mode == 'spooled' or mode == 'uncertain'
local formers, caps = {}, {} -- of the clicks that have any, by their place in ARGV
for i = FIRST, #ARGV, 2 do
  local control, at = ARGV[i], nil
  if #control > CONTROL then
    formers[i], at = read_formers(control)
    caps[i] = read_caps(control, at)
  end
  if #control < CONTROL or #control > CONTROL and not caps[i] or not is_sound(control) then
    return redis.error_reply('BADBATCH control ' .. i .. ' is malformed')
  end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)

local last = not is_look and redis.call('GET', KEYS[2])
local answered_before        -- the answer of the uncertain call, if it was applied
if last then
  local space = string.find(last, ' ', 1, true)
  local last_sequence, last_answer = tonumber(sub(last, 1, space - 1)), sub(last, space + 1)
  if sequence == last_sequence then return {now, last_answer} end
  if sequence < last_sequence then
    if is_late then return {now, ''} end -- done, and what comes after it
    return redis.error_reply('STALE sequence ' .. sequence)
  end
  if mode == 'uncertain' and sequence == last_sequence + 1 then answered_before = last_answer end
end

local function expire(key, at) redis.call('PEXPIREAT', key, math.max(at, now) + LATE) end

-- Visitors are packed by window into slices of time, and each slice into 65,536 buckets. A bucket is a small hash:
-- the fingerprint's first two bytes name it, and the other six point to the first click hash. A visitor takes 34
-- bytes at a million visitors, and 27 at twenty million. A running window began in this slice or in the one before,
-- or in the next one if another edge's clock is ahead.
--
-- The parts of a bucket's name before and after the slice. Numbers are slow to write, so once for all slices.
local function bucket(window, control, fingerprint)
  local high, low = byte(control, fingerprint, fingerprint + 1)
  return ARGV[4] .. window .. ':', ':' .. high * 256 + low
end

-- The first click of the window around `at`. A late click may find one that began after it.
-- It is kept by slices of `slicing`: the window itself, or the one before the offer was changed.
local function first_hash(near, slicing, window, at, before, after, field)
  local slice, later = floor(at / slicing), nil
  for i = 1, #near do
    local first = redis.call('HGET', before .. slice + near[i] .. after, field)
    local age = first and at - six_bytes(first, 1)
    if age and age >= 0 and age < window then return first end
    if age and age < 0 and age > -window then later = later or first end
  end
  return later
end

-- The first click, by the present window, of a visitor that former settings remember.
local function first_of_before(formers, window, at, control)
  for _, former in ipairs(formers) do
    local before, after = bucket(former.window, control, former.fingerprint)
    local field = sub(control, former.fingerprint + 2, former.fingerprint + 7)
    local first = first_hash(KEPT, former.window, window, at, before, after, field)
    if first then return first end
  end
end

-- The memory of visitors is estimated from one visitor in SAMPLE. All its code is in this one function: each
-- function outside of it would cost calls without a new visitor too.
local function open_memory()
  local HOUR, SAMPLE = 3600000, 64     -- ms; one visitor of so many
  local BUCKET, VISITOR = 130, 26      -- bytes of a bucket, and of each visitor in it
  local PACKED, LOOSE = 512, 60        -- a bucket of more visitors becomes a hash table; bytes of each visitor then
  local room, parts = tonumber(ARGV[10]), KEYS[4] .. ':parts'
  local share = room / 8               -- of one network
  local memory = {hour = math.floor(now / HOUR)}

  -- Once an hour memory that has become free is subtracted.
  local function recount()
    local shares, counted = {}, redis.call('HGETALL', parts)
    memory.bytes, memory.closed, memory.is_new = 0, '', not is_look
    for i = 1, #counted, 2 do
      local hour, network = string.match(counted[i], '^(%d+):(%d+)$')
      if hour and tonumber(hour) > memory.hour then
        memory.bytes = memory.bytes + counted[i + 1]
        shares[network] = (shares[network] or 0) + counted[i + 1]
      elseif not is_look then
        redis.call('HDEL', parts, counted[i])
      end
    end
    for network, bytes in pairs(shares) do
      if bytes >= share and network ~= '0' then memory.closed = memory.closed .. string.char(network) end
      if not is_look then redis.call('HSET', parts, network, bytes) end
    end
  end

  function memory.has_room(network)
    if memory.bytes >= room then return false end
    return network == 0 or memory.closed == '' or not string.find(memory.closed, string.char(network), 1, true)
  end

  -- Count a visitor, the latest of its bucket. The random end of the click's hash decides which visitors are
  -- counted, so that they cannot be chosen from outside.
  function memory.charge(network, hash, visitors, free_at)
    local bytes = visitors == PACKED + 1 and PACKED * (LOOSE - VISITOR) or 0
    if string.byte(hash, 16) % SAMPLE == 0 then
      bytes = bytes + SAMPLE * ((visitors == 1 and BUCKET or 0) + (visitors > PACKED and LOOSE or VISITOR))
    end
    if bytes == 0 then return end
    redis.call('HINCRBY', parts, math.ceil(free_at / HOUR) .. ':' .. network, bytes)
    if redis.call('HINCRBY', parts, network, bytes) >= share and network > 0 then
      memory.closed = memory.closed .. string.char(network)
    end
    memory.bytes, memory.is_new = memory.bytes + bytes, true
  end

  local hour, bytes, closed = string.match(redis.call('GET', KEYS[4]) or '', '^(%d+) (%d+) (.*)$')
  if tonumber(hour or 0) == memory.hour then
    memory.bytes, memory.closed = tonumber(bytes), closed
  else
    recount()
  end
  return memory
end

local memory                 -- once it is needed

local function remember(window, at, before, after, field, hash, network)
  local slice = floor(at / window)
  local key, ends = before .. slice .. after, (slice + 2) * window
  redis.call('HSET', key, field, hash)
  local visitors = redis.call('HLEN', key)
  if visitors == 1 then expire(key, ends) end
  memory.charge(network, hash, visitors, math.max(ends, now) + LATE)
end

local counts = {}            -- by key: a cap's count, and its growth in this call

local function count_of(cap)
  local count = counts[cap.key]
  if not count then
    count = {value = tonumber(redis.call('GET', cap.key) or 0), added = 0, expires = cap.expires}
    counts[cap.key] = count
  end
  return count
end

local function is_full(caps, is_unique)
  for _, cap in ipairs(caps) do
    if (is_unique or not cap.uniques_only) and count_of(cap).value >= cap.limit then return true end
  end
end

local function add(caps, is_unique)
  for _, cap in ipairs(caps) do
    if is_unique or not cap.uniques_only then
      local count = count_of(cap)
      count.value, count.added = count.value + 1, count.added + 1
    end
  end
end

-- Late clicks were answered: they are not refused any more, and a full cap counts them too.
local function verdict(control, at, caps, formers)
  local kind = sub(control, 1, 1)
  if kind == 'N' then return (is_late and '3' or '0') .. NO_HASH end
  local word = four_bytes(control, 2)
  local window, network = word % NETWORK * 1000, floor(word / NETWORK)
  local before, after = bucket(window, control, FINGERPRINT)
  local field = sub(control, FINGERPRINT + 2, FINGERPRINT + 7)
  local first = first_hash(NEAR, window, window, at, before, after, field)
  if formers and not first then
    first = first_of_before(formers, window, at, control)
    -- From now on the present setting remembers the visitor.
    if first and kind ~= 'L' and not is_look then
      memory = memory or open_memory()
      if memory.has_room(network) then
        remember(window, six_bytes(first, 1), before, after, field, first, network)
      end
    end
  end
  if kind == 'L' then return (is_late and '3' or '0') .. (first or NO_HASH) end
  if not is_late then
    if kind == 'D' and first then return '1' .. first end
    if caps and is_full(caps, not first) then return '2' .. (first or NO_HASH) end
  end
  memory = memory or not first and open_memory()
  local is_unique = not first and memory.has_room(network)
  if caps and not is_look then add(caps, is_unique) end
  if first then return (is_late and '3' or '1') .. first end
  if not is_unique then return (is_late and '5' or '4') .. NO_HASH end
  local hash = sub(control, 14, 29)
  if not is_look then remember(window, at, before, after, field, hash, network) end
  return (is_late and '3' or '0') .. hash
end

-- The uncertain call's answer for a click, if it was applied.
local function answer_before(i)
  local at = (i - FIRST) / 2 * 17
  return sub(answered_before, at + 1, at + 1)
end

local minutes = {}           -- of the clicks recorded in this call
local answers = {}
for i = FIRST, #ARGV, 2 do
  local control, before = ARGV[i], answered_before and answer_before(i)
  if before ~= '0' and before ~= '4' then -- else it is recorded as it was answered
    local at = six_bytes(control, 14)
    local has_counted = before == '1' and sub(control, 1, 1) == 'U'
    local answer = verdict(control, at, not has_counted and caps[i] or nil, formers[i])
    if not is_look then
      redis.call('XADD', KEYS[1], '*', 'a', answer, 'r', ARGV[i + 1])
      local minute = floor(at / 60000)
      minutes[minute] = (minutes[minute] or 0) + 1
    end
    answers[#answers + 1] = answer
  end
end
local answer = is_late and '' or table.concat(answers) -- visitors of late clicks have been answered
if is_look then return {now, answer} end

if memory and memory.is_new then
  redis.call('SET', KEYS[4], memory.hour .. ' ' .. memory.bytes .. ' ' .. memory.closed)
end
for key, count in pairs(counts) do
  if count.added > 0 then
    redis.call('INCRBY', key, count.added)
    if count.value == count.added and count.expires > 0 then expire(key, count.expires) end
  end
end

local function enter(kind, minute, clicks)
  local key = ARGV[6] .. floor(minute / 60)
  if redis.call('HINCRBY', key, minute % 60 .. ':' .. kind, clicks) == clicks then
    redis.call('EXPIRE', key, LEDGER)
  end
end

for minute, clicks in pairs(minutes) do
  enter('r', minute, clicks)
  if is_late then enter('l', minute, clicks) end
end
if not answered_before then
  for at = 1, #ARGV[9], 8 do enter('n', four_bytes(ARGV[9], at), four_bytes(ARGV[9], at + 4)) end
end
if ARGV[7] ~= '' and ARGV[8] ~= '' then
  redis.call('HSET', KEYS[3], ARGV[7], (string.gsub(ARGV[8], ' ', ' ' .. now .. ' ', 1)))
elseif ARGV[7] ~= '' then
  redis.call('HDEL', KEYS[3], ARGV[7])
end
redis.call('SET', KEYS[2], sequence .. ' ' .. answer, 'EX', ARGV[3])
return {now, answer}
