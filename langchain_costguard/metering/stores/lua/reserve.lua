-- KEYS[1]: the accounts. KEYS[2]: the reservation's name: it is made once, and its answer said again. ARGV[1]: doubles:
-- least, most units, second of expiry, now; then for each claim: cap, fixed, per_unit (-1: a clock), ttl, reserve.
-- ARGV[2..]: the claims' accounts, no two the same.
-- Returns the units granted (and when each clock started), or -1 and the refusal.
local request = arguments[1]
local least, most, second, now = read('<dddd', request)
local clock = math.floor(now * 1000)
local stored = call('HMGET', key, unpack(arguments, 2))
local units, out, new, outlive, started, refused

repeat -- a second time only where a claim affords fewer units than those before it were written with
  units, out, new, outlive, started = most, {}, 0, 0, nil
  local at = 33
  for i = 1, #stored do
    local cap, fixed, per_unit, ttl, reserve
    cap, fixed, per_unit, ttl, reserve, at = read('<ddddd', request, at)
    local record, spent, held, idle, holds, _ = stored[i], 0, 0, 0, nil
    if not record then
      new = new + 1
    else
      spent, held = figures(arguments[i + 1], record)
      idle = read('<d', record, 25)
    end
    if record and #record > HEAD then
      local expiry = read('<d', record, 33)
      holds = cut(record, 33)
      if expiry <= now then held, holds = living(holds, now) end
    end
    local amount, needed, by_holds = 0
    if per_unit < 0 then
      if not record then spent = clock end
      started = started or {units}
      started[#started + 1] = spent
      if clock - spent >= cap then needed, by_holds = 0, 0 end
    else
      local room = cap - reserve - spent - held - fixed
      -- who asks for nothing gets it, also of an account that is overrun
      if room < per_unit * most and (fixed > 0 or per_unit > 0) then
        if room < per_unit * least then
          needed = fixed + per_unit * least
          by_holds = spent + needed <= cap - reserve and 1 or 0
        else
          most = math.floor(room / per_unit)
        end
      end
      amount = fixed + per_unit * units
    end
    -- A refusal that waiting cannot cure says more than one that it might.
    if needed and (not refused or refused[6] > by_holds) then
      refused = {-1, i - 1, needed, per_unit < 0 and clock - spent or spent, held, by_holds}
    end
    local due = now + ttl
    if due < second then due = second end
    if idle < due then
      idle = due + ttl / 8
      if idle - now > outlive then outlive = math.ceil(idle - now) + 1 end
    end
    out[2 * i - 1] = arguments[i + 1]
    if holds then
      out[2 * i] = write('<dddd', spent, held + amount, cap, idle) .. changed(holds, second, amount)
    elseif amount > 0 then
      out[2 * i] = write('<dddddd', spent, amount, cap, idle, second, amount)
    else
      out[2 * i] = write('<dddd', spent, 0, cap, idle)
    end
  end
until refused or most == units

local name = KEYS[2]
if refused then
  local before = call('GET', name) -- which may be in its own way
  return before and cmsgpack.unpack(before) or refused
end
if not call('SET', name, cmsgpack.pack(started or units), 'NX', 'EX', 15) then
  return cmsgpack.unpack(call('GET', name))
end
keep(out, new, outlive, now)
return started or units
