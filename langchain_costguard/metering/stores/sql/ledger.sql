-- The rules of an account (account.py) for PostgreSQL: one call reserves, one settles, whatever the number of accounts.
-- An account's holds are pairs of numbers: the second in which they expire, and the amount. A clock keeps its start in
-- `spent`. The functions carry their version in their names: processes of two versions may share a database.
CREATE TABLE IF NOT EXISTS costguard_account (
  ledger text NOT NULL, name text NOT NULL, spent bigint NOT NULL, cap bigint NOT NULL, idle double precision NOT NULL,
  holds bigint[] NOT NULL, PRIMARY KEY (ledger, name));
CREATE INDEX IF NOT EXISTS costguard_account_idle ON costguard_account (ledger, idle);
CREATE TABLE IF NOT EXISTS costguard_flag (
  ledger text NOT NULL, name text NOT NULL, text text NOT NULL, PRIMARY KEY (ledger, name));

-- The holds that are alive at `now`.
CREATE OR REPLACE FUNCTION costguard_live_1(holds bigint[], now double precision) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE live bigint[] := '{}'; i int := 1;
BEGIN
  WHILE i < cardinality(holds) LOOP
    IF holds[i] > now THEN live := live || holds[i:i + 1]; END IF;
    i := i + 2;
  END LOOP;
  RETURN live;
END $$;

-- What they add up to.
CREATE OR REPLACE FUNCTION costguard_held_1(holds bigint[]) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE total bigint := 0; i int := 2;
BEGIN
  WHILE i <= cardinality(holds) LOOP
    total := total + holds[i];
    i := i + 2;
  END LOOP;
  RETURN total;
END $$;

-- The holds with `amount` more (or less) in the bucket of `second`; an empty bucket goes.
CREATE OR REPLACE FUNCTION costguard_put_1(holds bigint[], at_second bigint, amount bigint) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE i int := 1;
BEGIN
  WHILE i < cardinality(holds) LOOP
    IF holds[i] = at_second THEN
      IF holds[i + 1] + amount > 0 THEN
        holds[i + 1] := holds[i + 1] + amount;
        RETURN holds;
      END IF;
      RETURN holds[:i - 1] || holds[i + 2:];
    END IF;
    i := i + 2;
  END LOOP;
  RETURN CASE WHEN amount > 0 THEN holds || ARRAY[at_second, amount] ELSE holds END;
END $$;

-- Take the accounts' locks, in one order for everybody, until the end of the transaction.
CREATE OR REPLACE FUNCTION costguard_lock_1(l text, names text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE k bigint;
BEGIN
  FOR k IN SELECT DISTINCT hashtextextended(n, hashtextextended(l, 0)) AS h FROM unnest(names) AS n ORDER BY h LOOP
    PERFORM pg_advisory_xact_lock(k);
  END LOOP;
END $$;

-- Each of the `new` accounts pays for looking at idle ones.
CREATE OR REPLACE FUNCTION costguard_sweep_1(l text, new int, now double precision) RETURNS void LANGUAGE sql AS $$
  DELETE FROM costguard_account WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM costguard_account WHERE ledger = l AND idle <= now LIMIT greatest(16, 2 * new)
    FOR UPDATE SKIP LOCKED)) $$;

-- `n` has for each name: cap, fixed, per unit (-1: a clock), ttl, reserve. The answer of a grant begins with 1 and the
-- units, then when each clock started; that of a refusal is 0, index, needed, spent, held, whether by holds.
CREATE OR REPLACE FUNCTION costguard_reserve_1(
  l text, names text[], n bigint[], lowest bigint, most bigint, until bigint, now double precision)
RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  i int; at int; total int := cardinality(names); granted bigint := most; new int := 0; refused bigint[];
  room bigint; needed bigint; amount bigint; by_holds bigint; started bigint[] := '{}';
  kept costguard_account; live bigint[];
  known boolean[] := '{}'; spent bigint[] := '{}'; held bigint[] := '{}'; holds text[] := '{}';
BEGIN
  PERFORM costguard_lock_1(l, names);
  FOR i IN 1..total LOOP
    at := 5 * (i - 1);
    SELECT * INTO kept FROM costguard_account WHERE ledger = l AND name = names[i];
    known[i] := FOUND;
    new := new + (NOT FOUND)::int;
    spent[i] := coalesce(kept.spent, 0);
    live := costguard_live_1(coalesce(kept.holds, '{}'), now);
    held[i] := costguard_held_1(live);
    holds[i] := live::text;
    IF n[at + 3] < 0 THEN
      amount := CASE WHEN known[i] THEN floor(now * 1000)::bigint - spent[i] ELSE 0 END;
      IF amount >= n[at + 1] AND (refused IS NULL OR refused[6] = 1) THEN
        refused := ARRAY[0, i - 1, 0, amount, 0, 0];
      END IF;
      CONTINUE;
    END IF;
    room := n[at + 1] - n[at + 5] - spent[i] - held[i] - n[at + 2];
    IF n[at + 2] = 0 AND n[at + 3] = 0 THEN CONTINUE; END IF; -- who asks for nothing gets it, of an overrun account, too
    IF room >= 0 AND (n[at + 3] = 0 OR granted <= room / n[at + 3]) THEN CONTINUE; END IF;
    IF room >= 0 AND n[at + 3] > 0 AND lowest <= room / n[at + 3] THEN
      granted := room / n[at + 3];
      CONTINUE;
    END IF;
    needed := n[at + 2] + n[at + 3] * lowest;
    by_holds := (spent[i] + needed <= n[at + 1] - n[at + 5])::int;
    IF refused IS NULL OR (refused[6] = 1 AND by_holds = 0) THEN
      refused := ARRAY[0, i - 1, needed, spent[i], held[i], by_holds];
    END IF;
  END LOOP;
  IF refused IS NOT NULL THEN RETURN refused; END IF;
  FOR i IN 1..total LOOP
    at := 5 * (i - 1);
    live := holds[i]::bigint[];
    IF n[at + 3] < 0 THEN
      IF NOT known[i] THEN spent[i] := floor(now * 1000)::bigint; END IF;
      started := started || spent[i];
    ELSE
      live := costguard_put_1(live, until, n[at + 2] + n[at + 3] * granted);
    END IF;
    PERFORM costguard_save_1(l, names[i], spent[i], n[at + 1], now + n[at + 4], live);
  END LOOP;
  IF new > 0 THEN PERFORM costguard_sweep_1(l, new, now); END IF;
  RETURN ARRAY[1, granted] || started;
END $$;

CREATE OR REPLACE FUNCTION costguard_save_1(
  l text, account text, spent bigint, cap bigint, idle double precision, holds bigint[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE i int := 1;
BEGIN
  WHILE i < cardinality(holds) LOOP
    idle := greatest(idle, holds[i]);
    i := i + 2;
  END LOOP;
  INSERT INTO costguard_account AS a VALUES (l, account, spent, cap, idle, holds)
  ON CONFLICT (ledger, name) DO UPDATE SET
    spent = excluded.spent, cap = excluded.cap, idle = excluded.idle, holds = excluded.holds;
END $$;

-- `n` has for each name: cap, ttl, what was held (-1: a clock), what was really spent. Returns the new totals.
CREATE OR REPLACE FUNCTION costguard_settle_1(l text, names text[], n bigint[], until bigint, now double precision)
RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE i int; at int; new int := 0; kept costguard_account; live bigint[]; total bigint; totals bigint[] := '{}';
BEGIN
  PERFORM costguard_lock_1(l, names);
  FOR i IN 1..cardinality(names) LOOP
    at := 4 * (i - 1);
    SELECT * INTO kept FROM costguard_account WHERE ledger = l AND name = names[i];
    IF n[at + 3] < 0 THEN
      totals := totals || 0::bigint;
      IF FOUND AND n[at + 4] <> 0 THEN
        PERFORM costguard_save_1(l, names[i], kept.spent - n[at + 4], n[at + 1], now + n[at + 2], kept.holds);
      END IF;
      CONTINUE;
    END IF;
    new := new + (NOT FOUND)::int;
    live := costguard_live_1(coalesce(kept.holds, '{}'), now);
    IF until > now AND n[at + 3] > 0 THEN live := costguard_put_1(live, until, -n[at + 3]); END IF;
    total := coalesce(kept.spent, 0) + n[at + 4];
    totals := totals || total;
    PERFORM costguard_save_1(l, names[i], total, n[at + 1], now + n[at + 2], live);
  END LOOP;
  IF new > 0 THEN PERFORM costguard_sweep_1(l, new, now); END IF;
  RETURN totals;
END $$;
