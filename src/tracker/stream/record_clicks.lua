-- Records one batch of clicks: decides who is unique and whether a cap is full, picks each click's outcome,
-- appends, and remembers the answer for the lane, so that a call repeated because its fate was unknown
-- changes nothing.
--
-- KEYS[1] clicks:{p}            the stream
-- KEYS[2] lane:{p}:<lane>       "<sequence> <answer>" of the lane's last call
-- ARGV[1] sequence              one more than the lane's last, or the last again; 0 = look only: the same
--                               decisions, each click's as if it came alone, and nothing is written
-- ARGV[2] seconds               how long a lane is remembered
-- ARGV[3] prefix                of uniqueness buckets, unique:{p}:
-- ARGV[4] prefix                of the counts of caps, cap:{p}:
-- then two a click:
--   control   29 bytes: what it takes: 'U' the uniqueness key and counts, 'D' both unless it is a duplicate,
--             'L' nothing, its first hash is looked up, 'N' nothing; window in seconds (4 bytes, big-endian);
--             fingerprint of (offer, visitor) (8); click hash (16).
--             Then an item for each cap: 'c' counts clicks, 'u' uniques; limit (6); when its period ends,
--             Unix seconds, 0 = never (6); length of its name (1); name
--   record    appended as it is
--
-- Returns {server's Unix milliseconds, answer}: 17 bytes a click, the outcome's number ('0' unique,
-- '1' duplicate, '2' capped: a cap it counts for is full) and the first hash of the visitor in the window
-- (zeros: none known).
--
-- A script is not rolled back: all is checked before the first write.

local FIRST, CONTROL, CAP, NO_HASH = 5, 29, 14, string.rep('\0', 16)
local NEAR = {0, -1, 1}      -- slices to look in, seen from the click's own
local LATE = 3600000         -- ms that slices and counts outlive their time, or the call: clicks may be late
local byte, sub, floor = string.byte, string.sub, math.floor

local function four_bytes(text, at)
  local a, b, c, d = byte(text, at, at + 3)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

local function six_bytes(text, at)
  local a, b = byte(text, at, at + 1)
  return (a * 256 + b) * 4294967296 + four_bytes(text, at + 2)
end

local function read_caps(control)
  local caps, at = {}, CONTROL + 1
  while at <= #control do
    local kind, length = sub(control, at, at), byte(control, at + CAP - 1)
    if (kind ~= 'c' and kind ~= 'u') or not length or at + CAP + length - 1 > #control then return end
    caps[#caps + 1] = {
      uniques_only = kind == 'u',
      limit = six_bytes(control, at + 1),
      expires = six_bytes(control, at + 7) * 1000,
      key = ARGV[4] .. sub(control, at + CAP, at + CAP + length - 1),
    }
    at = at + CAP + length
  end
  return caps
end

local function is_sound(control)
  local kind = sub(control, 1, 1)
  return kind == 'N' or (kind == 'U' or kind == 'D' or kind == 'L') and four_bytes(control, 2) > 0
end

local sequence = tonumber(ARGV[1])
if not sequence or not tonumber(ARGV[2]) or #KEYS ~= 2 or #ARGV <= FIRST or #ARGV % 2 ~= 0 then
  return redis.error_reply('BADBATCH wrong number of keys or arguments')
end
local is_look = sequence == 0
local caps = {}              -- of the clicks that have any, by their place in ARGV
for i = FIRST, #ARGV, 2 do
  local control = ARGV[i]
  if #control > CONTROL then caps[i] = read_caps(control) end
  if #control < CONTROL or #control > CONTROL and not caps[i] or not is_sound(control) then
    return redis.error_reply('BADBATCH control ' .. i .. ' is malformed')
  end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)

local last = not is_look and redis.call('GET', KEYS[2])
if last then
  local space = string.find(last, ' ', 1, true)
  local last_sequence = tonumber(sub(last, 1, space - 1))
  if sequence == last_sequence then return {now, sub(last, space + 1)} end
  if sequence < last_sequence then return redis.error_reply('STALE sequence ' .. sequence) end
end

local function expire(key, at) redis.call('PEXPIREAT', key, math.max(at, now) + LATE) end

-- Visitors are packed by window into slices of time, and each slice into 65,536 buckets: small hashes, named
-- by the fingerprint's first two bytes, of its other six -> first click hash. At a million visitors that takes
-- 34 bytes each, at twenty million 27. A window that is running began in this slice or in the one before; in
-- the next one only if another edge's clock is ahead.
local function bucket(window, slice, fingerprint)
  return ARGV[3] .. window .. ':' .. slice .. ':' .. byte(fingerprint, 1) * 256 + byte(fingerprint, 2)
end

-- The first click of the window that `at` falls into, or else of one that it comes too late to have begun.
local function first_hash(window, fingerprint, at)
  local slice, field, later = floor(at / window), sub(fingerprint, 3), nil
  for i = 1, #NEAR do
    local first = redis.call('HGET', bucket(window, slice + NEAR[i], fingerprint), field)
    local age = first and at - six_bytes(first, 1)
    if age and age >= 0 and age < window then return first end
    if age and age < 0 and age > -window then later = later or first end
  end
  return later
end

local function remember(window, fingerprint, at, hash)
  local slice = floor(at / window)
  local key = bucket(window, slice, fingerprint)
  redis.call('HSET', key, sub(fingerprint, 3), hash)
  if redis.call('HLEN', key) == 1 then expire(key, (slice + 2) * window) end
end

local counts = {}            -- by key: what a cap has counted, and how much of that in this call

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

local function verdict(control, caps)
  local kind = sub(control, 1, 1)
  if kind == 'N' then return '0' .. NO_HASH end
  local window = four_bytes(control, 2) * 1000
  local fingerprint, hash = sub(control, 6, 13), sub(control, 14, 29)
  local at = six_bytes(hash, 1)
  local first = first_hash(window, fingerprint, at)
  if kind == 'L' then return '0' .. (first or NO_HASH) end
  if kind == 'D' and first then return '1' .. first end
  if caps and is_full(caps, not first) then return '2' .. (first or NO_HASH) end
  if not is_look then
    if caps then add(caps, not first) end
    if not first then remember(window, fingerprint, at, hash) end
  end
  return first and '1' .. first or '0' .. hash
end

local answers = {}
for i = FIRST, #ARGV, 2 do
  local answer = verdict(ARGV[i], caps[i])
  if not is_look then redis.call('XADD', KEYS[1], '*', 'a', answer, 'r', ARGV[i + 1]) end
  answers[#answers + 1] = answer
end
local answer = table.concat(answers)
if is_look then return {now, answer} end

for key, count in pairs(counts) do
  if count.added > 0 then
    redis.call('INCRBY', key, count.added)
    if count.value == count.added and count.expires > 0 then expire(key, count.expires) end
  end
end
redis.call('SET', KEYS[2], sequence .. ' ' .. answer, 'EX', ARGV[2])
return {now, answer}
