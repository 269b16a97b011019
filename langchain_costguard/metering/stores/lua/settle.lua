-- KEYS[1]: the accounts. ARGV[1]: doubles: second of expiry, now; then for each claim: cap, ttl, held (-1: a clock
-- to be moved), actual. ARGV[2..]: the claims' accounts, no two the same. Returns each account's new total (clock: 0).
local request = arguments[1]
local second, now, at = read('<dd', request)
local stored = call('HMGET', key, unpack(arguments, 2))
local out, totals, new, outlive = {}, {}, 0, 0
for i = 1, #stored do
  local cap, ttl, release, actual
  cap, ttl, release, actual, at = read('<dddd', request, at)
  local record, spent, held, idle, holds, _ = stored[i], 0, 0, 0, ''
  if not record then
    new = new + 1
  else
    spent, held = figures(arguments[i + 1], record)
    idle = read('<d', record, 25)
  end
  if record and #record > HEAD then
    local expiry, amount = read('<dd', record, 33)
    if #record == 48 and expiry == second and amount <= release then
      held = 0 -- most often: the only hold, all of it
    else
      holds = cut(record, 33)
      if expiry <= now then held, holds = living(holds, now) end
      local change
      holds, change = changed(holds, second, -release)
      held = held + change
    end
  end
  local clock = release < 0
  spent = clock and spent - actual or spent + actual
  totals[i] = clock and 0 or spent
  local due = now + ttl
  if idle < due then
    idle = due + ttl / 8
    if idle - now > outlive then outlive = math.ceil(idle - now) + 1 end
  end
  if record or not clock then -- one that has not started is not moved
    out[#out + 1] = arguments[i + 1]
    out[#out + 1] = write('<dddd', spent, held, cap, idle) .. holds
  end
end
if #out > 0 then keep(out, new, outlive, now) end
return totals
