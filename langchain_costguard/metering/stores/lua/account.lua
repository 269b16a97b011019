-- An account is one string of little-endian doubles, exact to 2^53: spent, held, cap, idle (when it may be forgotten),
-- then for each second in which holds expire, in order: that second, amount. A clock keeps its start in `spent`.
-- All the accounts are the fields of one hash: two commands read and write a whole reservation, where a key for each
-- would cost one command each, and the accounts of a ledger stay in one Cluster slot.
local read, write, cut, call, key, arguments = struct.unpack, struct.pack, string.sub, redis.call, KEYS[1], ARGV
local HEAD = 32

-- The first three figures of a record, if it is one: others may have written over it.
local function figures(account, record)
  if #record >= HEAD and #record % 16 == 0 then
    local spent, held, cap = read('<ddd', record)
    if spent % 1 == 0 and held % 1 == 0 and cap % 1 == 0 then return spent, held, cap end
  end
  error("the account '" .. account .. "' cannot be read: mend that field of " .. key .. ", or delete it")
end

-- What is still held at `now`, and the holds that are still alive.
local function living(holds, now)
  local held, kept = 0, {}
  for at = 1, #holds, 16 do
    local second, amount = read('<dd', holds, at)
    if second > now then
      held = held + amount
      kept[#kept + 1] = cut(holds, at, at + 15)
    end
  end
  return held, table.concat(kept)
end
