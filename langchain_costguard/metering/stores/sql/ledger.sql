-- The rules of an account (account.py) for PostgreSQL: one call reserves, one settles, whatever the number of accounts.
-- An account's holds are pairs of numbers: the second in which they expire, and the amount. A clock keeps its start in
-- `spent`. The functions carry their version in their names: processes of two versions may share a database.
CREATE TABLE IF NOT EXISTS costguard_account (
  ledger text NOT NULL, name text NOT NULL, spent bigint NOT NULL, cap bigint NOT NULL, idle double precision NOT NULL,
  holds bigint[] NOT NULL, PRIMARY KEY (ledger, name));
CREATE INDEX IF NOT EXISTS costguard_account_idle ON costguard_account (ledger, idle);
CREATE TABLE IF NOT EXISTS costguard_flag (
  ledger text NOT NULL, name text NOT NULL, text text NOT NULL, PRIMARY KEY (ledger, name));
-- What was answered to reservations of the last moments: one of the same name is made once.
CREATE UNLOGGED TABLE IF NOT EXISTS costguard_once (
  name text PRIMARY KEY, answer bigint[] NOT NULL, at timestamptz NOT NULL DEFAULT now());
CREATE INDEX IF NOT EXISTS costguard_once_at ON costguard_once (at);

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
BEGIN
  IF cardinality(names) = 1 THEN
    PERFORM pg_advisory_xact_lock(hashtextextended(names[1], hashtextextended(l, 0)));
  ELSE
    PERFORM pg_advisory_xact_lock(s.h)
    FROM (SELECT DISTINCT hashtextextended(n, hashtextextended(l, 0)) AS h FROM unnest(names) AS n ORDER BY h) AS s;
  END IF;
END $$;

-- Each of the `new` accounts pays for looking at idle ones.
CREATE OR REPLACE FUNCTION costguard_sweep_1(l text, new int, now double precision) RETURNS void LANGUAGE sql AS $$
  DELETE FROM costguard_account WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM costguard_account WHERE ledger = l AND idle <= now LIMIT greatest(16, 2 * new)
    FOR UPDATE SKIP LOCKED)) $$;

-- Write an account back. Where nothing indexed changes (`idle` seldom does), PostgreSQL writes no index. One that is
-- new, or was idle and is dropped meanwhile, is inserted.
CREATE OR REPLACE FUNCTION costguard_keep_2(
  l text, account text, total bigint, most bigint, due double precision, live bigint[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE costguard_account SET spent = total, cap = most, idle = due, holds = live WHERE ledger = l AND name = account;
  IF NOT FOUND THEN
    INSERT INTO costguard_account VALUES (l, account, total, most, due, live)
    ON CONFLICT (ledger, name) DO UPDATE SET
      spent = excluded.spent, cap = excluded.cap, idle = excluded.idle, holds = excluded.holds;
  END IF;
END $$;

-- `n` has for each name: cap, fixed, per unit (-1: a clock), ttl, reserve. The answer of a grant begins with 1 and the
-- units, then when each clock started; that of a refusal is 0, index, needed, spent, held, whether by holds.
CREATE OR REPLACE FUNCTION costguard_reserve_3(
  l text, names text[], n bigint[], lowest bigint, most bigint, until bigint, now double precision, once text)
RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  at int := 0; new int := 0; granted bigint := most; refused bigint[]; started bigint[] := '{}';
  room bigint; needed bigint; amount bigint; by_holds bigint; held bigint; ends double precision; due double precision;
  total bigint; live bigint[]; kept costguard_account;
  said bigint[]; totals bigint[] := '{}'; idles double precision[] := '{}'; lasts double precision[] := '{}'; lives text[] := '{}';
BEGIN
  PERFORM costguard_lock_1(l, names);
  SELECT o.answer INTO said FROM costguard_once o WHERE o.name = once;
  IF FOUND THEN RETURN said; END IF;
  FOR i IN 1..cardinality(names) LOOP
    SELECT * INTO kept FROM costguard_account WHERE ledger = l AND name = names[i];
    total := kept.spent; due := kept.idle; live := kept.holds; held := 0; ends := 0;
    IF NOT FOUND THEN
      new := new + 1; total := 0; due := 0; live := '{}';
    ELSIF live <> '{}' THEN
      IF cardinality(live) > 2 OR live[1] <= now THEN live := costguard_live_1(live, now); END IF;
      FOR j IN 1..cardinality(live) / 2 LOOP
        held := held + live[2 * j]; ends := greatest(ends, live[2 * j - 1]);
      END LOOP;
    END IF;
    IF n[at + 3] < 0 THEN
      IF kept.name IS NULL THEN total := floor(now * 1000)::bigint; END IF;
      amount := floor(now * 1000)::bigint - total;
      started := started || total;
      IF amount >= n[at + 1] AND (refused IS NULL OR refused[6] = 1) THEN
        refused := ARRAY[0, i - 1, 0, amount, 0, 0];
      END IF;
    ELSIF n[at + 2] > 0 OR n[at + 3] > 0 THEN -- who asks for nothing gets it, of an account that is overrun, too
      room := n[at + 1] - n[at + 5] - total - held - n[at + 2];
      IF room < 0 OR (n[at + 3] > 0 AND granted > room / n[at + 3]) THEN
        IF room >= 0 AND lowest <= room / n[at + 3] THEN
          granted := room / n[at + 3];
        ELSE
          needed := n[at + 2] + n[at + 3] * lowest;
          by_holds := (total + needed <= n[at + 1] - n[at + 5])::int;
          IF refused IS NULL OR (refused[6] = 1 AND by_holds = 0) THEN
            refused := ARRAY[0, i - 1, needed, total, held, by_holds];
          END IF;
        END IF;
      END IF;
    END IF;
    totals[i] := total; idles[i] := due; lasts[i] := ends; lives[i] := live::text;
    at := at + 5;
  END LOOP;
  IF refused IS NOT NULL THEN RETURN refused; END IF;
  at := 0;
  FOR i IN 1..cardinality(names) LOOP
    ends := lasts[i]; live := lives[i]::bigint[];
    amount := n[at + 2] + n[at + 3] * granted;
    IF n[at + 3] >= 0 AND amount > 0 THEN
      live := CASE WHEN ends = 0 THEN ARRAY[until, amount] ELSE costguard_put_1(live, until, amount) END;
      ends := greatest(ends, until);
    END IF;
    ends := greatest(ends, now + n[at + 4]);
    PERFORM costguard_keep_2(l, names[i], totals[i], n[at + 1],
      CASE WHEN idles[i] < ends THEN ends + n[at + 4] / 8 ELSE idles[i] END, live);
    at := at + 5;
  END LOOP;
  IF new > 0 THEN PERFORM costguard_sweep_1(l, new, now); END IF;
  said := ARRAY[1, granted] || started;
  INSERT INTO costguard_once VALUES (once, said);
  IF random() < 0.01 THEN
    DELETE FROM costguard_once WHERE ctid = ANY (ARRAY(
      SELECT o.ctid FROM costguard_once o WHERE o.at < now() - interval '15 s' FOR UPDATE SKIP LOCKED));
  END IF;
  RETURN said;
END $$;

-- `n` has for each name: cap, ttl, what was held (-1: a clock), what was really spent. Returns the new totals.
CREATE OR REPLACE FUNCTION costguard_settle_2(l text, names text[], n bigint[], until bigint, now double precision)
RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  at int := 0; new int := 0; kept costguard_account; live bigint[]; total bigint; totals bigint[] := '{}';
  due double precision; ends double precision;
BEGIN
  PERFORM costguard_lock_1(l, names);
  FOR i IN 1..cardinality(names) LOOP
    SELECT * INTO kept FROM costguard_account WHERE ledger = l AND name = names[i];
    live := kept.holds; due := kept.idle;
    IF n[at + 3] < 0 THEN -- a clock: one that has not started is not moved
      total := kept.spent - n[at + 4];
      totals[i] := 0;
    ELSE
      IF NOT FOUND THEN
        new := new + 1; live := '{}'; due := 0; kept.spent := 0;
      ELSIF cardinality(live) = 2 AND live[1] = until AND live[2] <= n[at + 3] THEN
        live := '{}'; -- most often: the only hold, all of it
      ELSIF live <> '{}' THEN
        live := costguard_live_1(live, now);
        IF until > now AND n[at + 3] > 0 THEN live := costguard_put_1(live, until, -n[at + 3]); END IF;
      END IF;
      total := kept.spent + n[at + 4];
      totals[i] := total;
    END IF;
    IF total IS NOT NULL AND (n[at + 3] >= 0 OR n[at + 4] <> 0) THEN
      ends := now + n[at + 2];
      PERFORM costguard_keep_2(l, names[i], total, n[at + 1],
        CASE WHEN due < ends THEN ends + n[at + 2] / 8 ELSE due END, live);
    END IF;
    at := at + 4;
  END LOOP;
  IF new > 0 THEN PERFORM costguard_sweep_1(l, new, now); END IF;
  RETURN totals;
END $$;
