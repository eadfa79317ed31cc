-- wrk script: the requests of a file, over and over; @N@ and @IP@ in them become new with each request.
-- Arguments: the file (requests separated by the byte 0x1e), the number to begin counting at.

local requests, at, number, varied = {}, 0, 0, false

function init(args)
  local file = assert(io.open(args[1], "rb"))
  for request in file:read("*a"):gmatch("[^\30]+") do
    requests[#requests + 1] = request
  end
  file:close()
  varied = requests[1]:find("@N@", 1, true) ~= nil
  number = tonumber(args[2])
end

function request()
  at = at % #requests + 1
  if not varied then
    return requests[at]
  end
  number = number + 1
  local n = number
  local ip = string.format("%d.%d.%d.%d", 24 + math.floor(n / 16777216) % 64, math.floor(n / 65536) % 256,
    math.floor(n / 256) % 256, n % 256)
  return (requests[at]:gsub("@N@", n, 1):gsub("@IP@", ip, 1))
end
