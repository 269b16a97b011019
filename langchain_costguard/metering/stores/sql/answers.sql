-- Remembered answers, as SQLiteCache has them; caches of other prefixes keep theirs in the same tables.
CREATE TABLE IF NOT EXISTS costguard_answer (
  prefix text NOT NULL, key text NOT NULL, entry bytea NOT NULL, feature text NOT NULL, model text NOT NULL,
  tenant text NOT NULL, tags text[] NOT NULL, cost bigint NOT NULL, created double precision NOT NULL,
  expires double precision NOT NULL, used double precision NOT NULL, PRIMARY KEY (prefix, key));
CREATE INDEX IF NOT EXISTS costguard_answer_used ON costguard_answer (prefix, used, key);
CREATE INDEX IF NOT EXISTS costguard_answer_expires ON costguard_answer (prefix, expires);
CREATE TABLE IF NOT EXISTS costguard_claim (
  prefix text NOT NULL, key text NOT NULL, holder text NOT NULL, until double precision NOT NULL,
  PRIMARY KEY (prefix, key));
