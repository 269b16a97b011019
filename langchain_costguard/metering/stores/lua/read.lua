-- KEYS[1]: the accounts. ARGV[1]: now, a double. ARGV[2..]: the accounts to read.
-- Returns spent, held, cap of one after the other.
local now = read('<d', ARGV[1])
local out = {}
for i, record in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV, 2))) do
  local spent, cap, held, _ = 0, 0, 0
  if record then
    spent, _, cap = figures(arguments[i + 1], record)
    held = living(cut(record, HEAD + 1), now)
  end
  out[#out + 1], out[#out + 2], out[#out + 3] = spent, held, cap
end
return out
