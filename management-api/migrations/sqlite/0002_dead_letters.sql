-- The leader epoch of the record before `next_offset`; it counts only for that very offset. A table of its own, so that a
-- release from before it can still write offsets.
CREATE TABLE leader_epochs (
    topic_incarnation TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    leader_epoch INTEGER,
    PRIMARY KEY (topic_incarnation, kafka_partition)
) STRICT, WITHOUT ROWID;

-- Dead letters that the dead-letter topic does not keep, and what is remembered of all that were sent back, as in
-- PostgreSQL.
CREATE TABLE dead_letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    letter_id TEXT NOT NULL UNIQUE,
    topic_incarnation TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    kafka_offset INTEGER NOT NULL,
    original_time_ms INTEGER,
    kept_at TEXT,
    record_key BLOB,
    reason TEXT,
    error TEXT,
    redrives_sent INTEGER NOT NULL DEFAULT 0,
    redrives_returned INTEGER NOT NULL DEFAULT 0,
    redriven_at TEXT,
    record_headers BLOB,
    -- Last: what stands behind a large value can only be read through it.
    record_value BLOB
) STRICT;

CREATE INDEX dead_letters_waiting ON dead_letters (number)
WHERE kept_at IS NOT NULL AND redrives_returned >= redrives_sent;

-- What an operator stepped over because nobody could read it.
CREATE TABLE skipped_records (
    skipped_at TEXT NOT NULL,
    topic_incarnation TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    from_offset INTEGER NOT NULL,
    to_offset INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;
