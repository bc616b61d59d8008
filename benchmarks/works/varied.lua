-- Every request has a path and a trace id of its own, for all contenders alike: as many as no cache of heads
-- holds, made before the clock runs and sent in turn.
local COUNT = 10007
local made, turn = {}, 0

function init(arguments)
   for number = 1, COUNT do
      wrk.headers["traceparent"] = string.format("00-%032x-%016x-01", number * 7919, number)
      made[number] = wrk.format("GET", string.format("%s/%d?page=%d", wrk.path, number, number % 10))
   end
end

function request()
   turn = turn % COUNT + 1
   return made[turn]
end
