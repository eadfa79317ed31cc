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
  local host = number % 1073741824 * 7046029 % 1073741824 -- as load_generator.py does
  local ip = string.format("%d.%d.%d.%d", 24 + math.floor(host / 16777216), math.floor(host / 65536) % 256,
    math.floor(host / 256) % 256, host % 256)
  return (requests[at]:gsub("@N@", number, 1):gsub("@IP@", ip, 1))
end
