-- SQLite has no exact decimals, no times and no UUIDs: prices and sums are TEXT digits (a NUMERIC column would make
-- binary floats of them), times RFC 3339 with milliseconds and ids lower-case UUIDs, both of which sort as they should.
CREATE TABLE purchases (
    purchase_id TEXT NOT NULL PRIMARY KEY,
    userid TEXT NOT NULL,
    username TEXT NOT NULL,
    price TEXT NOT NULL,
    purchased_at TEXT NOT NULL,
    recorded_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX purchases_by_time ON purchases (purchased_at, purchase_id);
CREATE INDEX purchases_by_user ON purchases (userid, purchased_at, purchase_id);

-- A user's total is the sum of its rows here, as in PostgreSQL.
CREATE TABLE user_totals (
    userid TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    purchase_count INTEGER NOT NULL,
    total_spent TEXT NOT NULL,
    PRIMARY KEY (userid, kafka_partition)
) STRICT, WITHOUT ROWID;

-- An incarnation is one life of a topic: deleted and made again, it starts at 0.
CREATE TABLE consumer_offsets (
    topic_incarnation TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic_incarnation, kafka_partition)
) STRICT, WITHOUT ROWID;
