-- As in PostgreSQL: where the buyer is called back, what was recorded and is to be called back, what was not delivered at once, and
-- hosts that fail.
ALTER TABLE purchases ADD COLUMN callback_url TEXT;

CREATE TABLE callback_batches (
    batch_id TEXT NOT NULL PRIMARY KEY,
    recorded_at TEXT NOT NULL,
    claimed_until TEXT NOT NULL,
    purchase_ids TEXT NOT NULL
) STRICT;
CREATE INDEX callback_batches_by_claim ON callback_batches (claimed_until);

CREATE TABLE callbacks (
    purchase_id TEXT NOT NULL PRIMARY KEY,
    host TEXT NOT NULL,
    recorded_at TEXT NOT NULL,
    began_at TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    due_at TEXT NOT NULL,
    outcome TEXT NOT NULL,
    is_parked INTEGER NOT NULL,
    dead_since TEXT
) STRICT;
CREATE INDEX callbacks_by_due_time ON callbacks (due_at) WHERE dead_since IS NULL;
CREATE INDEX callbacks_that_are_parked ON callbacks (host, due_at) WHERE is_parked;
CREATE INDEX callbacks_that_are_dead ON callbacks (recorded_at, purchase_id) WHERE dead_since IS NOT NULL;

CREATE TABLE callback_hosts (
    host TEXT NOT NULL PRIMARY KEY,
    failing_since TEXT NOT NULL,
    failed_at TEXT NOT NULL,
    outcome TEXT NOT NULL,
    is_well INTEGER NOT NULL,
    trial_at TEXT NOT NULL,
    switched_off_at TEXT
) STRICT;
CREATE INDEX callback_hosts_by_trial ON callback_hosts (trial_at) WHERE switched_off_at IS NULL;
