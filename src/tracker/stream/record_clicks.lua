-- Records one batch of clicks: decides who is unique, picks each click's outcome, appends, and remembers the
-- answer for the lane, so that a call repeated because its fate was unknown changes nothing.
--
-- KEYS[1] clicks:{p}            the stream
-- KEYS[2] lane:{p}:<lane>       "<sequence> <answer>" of the lane's last call
-- ARGV[1] sequence              one more than the lane's last, or the last again
-- ARGV[2] seconds               how long a lane is remembered
-- ARGV[3] prefix                of uniqueness buckets, unique:{p}:
-- then two a click:
--   control (29 bytes)  'U' takes the uniqueness key, 'L' looks it up, 'N' neither; window in seconds (4 bytes,
--                       big-endian); fingerprint of (offer, visitor) (8 bytes); click hash (16 bytes)
--   record              appended as it is
--
-- Returns {server's Unix milliseconds, answer}: 17 bytes a click, the outcome's number ('0' unique,
-- '1' duplicate, '2' capped) and the first hash of the visitor in the window (zeros: none known).
--
-- A script is not rolled back: all is checked before the first write.

local CONTROL, NO_HASH = 29, string.rep('\0', 16)
local BUCKETS = 16384        -- of a window and slice: about 60 visitors each at a million
local LATE = 3600000         -- ms a slice outlives its window: clicks of a spool come late

local sequence = tonumber(ARGV[1])
if not sequence or not tonumber(ARGV[2]) or #KEYS ~= 2 or #ARGV < 5 or #ARGV % 2 == 0 then
  return redis.error_reply('BADBATCH wrong number of keys or arguments')
end
for i = 4, #ARGV, 2 do
  if #ARGV[i] ~= CONTROL then return redis.error_reply('BADBATCH control ' .. i .. ' is not 29 bytes') end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local last = redis.call('GET', KEYS[2])
if last then
  local space = string.find(last, ' ', 1, true)
  local last_sequence = tonumber(string.sub(last, 1, space - 1))
  if sequence == last_sequence then return {now, string.sub(last, space + 1)} end
  if sequence < last_sequence then return redis.error_reply('STALE sequence ' .. sequence) end
end

local function number(text, from, to)
  local value = 0
  for i = from, to do value = value * 256 + string.byte(text, i) end
  return value
end

-- Visitors are packed by window into slices of time, and each slice into buckets: small hashes of
-- fingerprint -> first click hash. A window that is running began in this slice or in the one before; in the
-- next one only if another edge's clock is ahead.
local function bucket(window, slice, fingerprint)
  return ARGV[3] .. window .. ':' .. slice .. ':' .. number(fingerprint, 1, 2) % BUCKETS
end

local function first_hash(window, fingerprint, at)
  local slice = math.floor(at / window)
  for _, near in ipairs({slice, slice - 1, slice + 1}) do
    local first = redis.call('HGET', bucket(window, near, fingerprint), fingerprint)
    if first and at - number(first, 1, 6) < window then return first end
  end
end

local function remember(window, fingerprint, at, hash)
  local slice = math.floor(at / window)
  local key = bucket(window, slice, fingerprint)
  redis.call('HSET', key, fingerprint, hash)
  if redis.call('HLEN', key) == 1 then redis.call('PEXPIREAT', key, (slice + 2) * window + LATE) end
end

local function verdict(control)
  local kind = string.sub(control, 1, 1)
  if kind == 'N' then return '0' .. NO_HASH end
  local window = number(control, 2, 5) * 1000
  local fingerprint, hash = string.sub(control, 6, 13), string.sub(control, 14, 29)
  local at = number(hash, 1, 6)
  local first = first_hash(window, fingerprint, at)
  if kind == 'L' then return '0' .. (first or NO_HASH) end
  if first then return '1' .. first end
  remember(window, fingerprint, at, hash)
  return '0' .. hash
end

local answers = {}
for i = 4, #ARGV, 2 do
  local answer = verdict(ARGV[i])
  redis.call('XADD', KEYS[1], '*', 'a', answer, 'r', ARGV[i + 1])
  answers[#answers + 1] = answer
end
local answer = table.concat(answers)
redis.call('SET', KEYS[2], sequence .. ' ' .. answer, 'EX', ARGV[2])
return {now, answer}
