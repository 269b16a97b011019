-- The holds with `amount` more (or less) in the bucket of `second`, and by how much that changed; an empty bucket goes.
local function changed(holds, second, amount)
  local at = 1
  while at < #holds do
    local other, present = read('<dd', holds, at)
    if other == second then
      local left = present + amount
      local bucket = left > 0 and write('<dd', second, left) or ''
      return cut(holds, 1, at - 1) .. bucket .. cut(holds, at + 16), left > 0 and amount or -present
    elseif other > second then
      break
    end
    at = at + 16
  end
  if amount <= 0 then return holds, 0 end
  return cut(holds, 1, at - 1) .. write('<dd', second, amount) .. cut(holds, at), amount
end

-- Write the accounts back. `outlive` is the seconds for which the hash must stay. Each of the `new` accounts pays for
-- looking at two old ones; where the last look ended is a field of the hash that no account can have (it is not UTF-8),
-- so long that Redis keeps the hash as a table, where looking at a few fields is cheap.
local function keep(out, new, outlive, now)
  call('HSET', key, unpack(out))
  if new > 0 then
    local last = call('HGET', key, '\255')
    local found = call('HSCAN', key, last and string.match(last, '^%d+') or '0', 'COUNT', math.max(16, 2 * new))
    local fields = found[2]
    for i = 1, #fields, 2 do
      if fields[i] ~= '\255' and #fields[i + 1] >= HEAD then
        local _, _, _, idle = read('<dddd', fields[i + 1])
        if idle <= now then call('HDEL', key, fields[i]) end
      end
    end
    call('HSET', key, '\255', string.format('%-80s', found[1]))
  end
  if outlive > 0 and call('TTL', key) < outlive then call('EXPIRE', key, string.format('%.0f', outlive)) end
end
