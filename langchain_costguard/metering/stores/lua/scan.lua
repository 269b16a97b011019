-- KEYS[1]: the accounts. ARGV[1]: now, a double. ARGV[2]: where to go on, at first '0'.
-- Returns where to go on ('0': it was all), then account, spent, held, cap of one after the other.
local now = read('<d', ARGV[1])
local found = redis.call('HSCAN', KEYS[1], ARGV[2], 'COUNT', 500)
local out, fields = {found[1]}, found[2]
for i = 1, #fields, 2 do
  if fields[i] ~= '\255' then
    local spent, _, cap = figures(fields[i], fields[i + 1])
    local held = living(cut(fields[i + 1], HEAD + 1), now)
    out[#out + 1], out[#out + 2], out[#out + 3], out[#out + 4] = fields[i], spent, held, cap
  end
end
return out
