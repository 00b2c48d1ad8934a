-- What was ever sent back, by its content, as in PostgreSQL.
CREATE TABLE sent_dead_letters (
    letter_id TEXT NOT NULL,
    content_digest BLOB NOT NULL,
    PRIMARY KEY (letter_id, content_digest)
) STRICT, WITHOUT ROWID;
