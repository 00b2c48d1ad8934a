-- What was recorded, in the order of commits, as in PostgreSQL: one row a batch, ids and marks as JSON lists.
CREATE TABLE commits (
    kafka_partition INTEGER NOT NULL,
    number INTEGER NOT NULL,
    recorded_at TEXT NOT NULL,
    purchase_ids TEXT NOT NULL,
    userid_marks TEXT NOT NULL,
    PRIMARY KEY (kafka_partition, number)
) STRICT, WITHOUT ROWID;

-- Names this log of commits: positions in that of another database mean nothing here.
CREATE TABLE commit_log (log_id INTEGER NOT NULL) STRICT;
INSERT INTO commit_log VALUES (abs(random() % 2147483647));
