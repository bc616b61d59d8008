-- As varied.lua, but requests say nothing of a trace: whoever serves them is the head of it.
local COUNT = 10007
local made, turn = {}, 0

function init(arguments)
   wrk.headers["traceparent"] = nil
   for number = 1, COUNT do
      made[number] = wrk.format("GET", string.format("%s/%d?page=%d", wrk.path, number, number % 10))
   end
end

function request()
   turn = turn % COUNT + 1
   return made[turn]
end
