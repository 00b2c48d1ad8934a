-- Keys of accounts, and their use, as in PostgreSQL.
CREATE TABLE api_keys (
    key_id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    rate_per_second INTEGER,
    secret_hash BLOB NOT NULL UNIQUE,
    secret_start TEXT NOT NULL,
    old_secret_hash BLOB UNIQUE,
    old_ends_at TEXT,
    created_at TEXT NOT NULL,
    expires_at TEXT,
    revoked_at TEXT,
    version INTEGER NOT NULL,
    changed_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX api_keys_by_account ON api_keys (account_id, key_id);
CREATE INDEX api_keys_by_change ON api_keys (changed_at);

CREATE TABLE api_key_purchases (
    key_id TEXT NOT NULL,
    day TEXT NOT NULL,
    kafka_partition INTEGER NOT NULL,
    purchases INTEGER NOT NULL,
    PRIMARY KEY (key_id, day, kafka_partition)
) STRICT, WITHOUT ROWID;

CREATE TABLE api_key_requests (
    key_id TEXT NOT NULL,
    day TEXT NOT NULL,
    class TEXT NOT NULL,
    requests INTEGER NOT NULL,
    last_at TEXT NOT NULL,
    PRIMARY KEY (key_id, day, class)
) STRICT, WITHOUT ROWID;

CREATE TABLE usage_flushes (
    flush_id TEXT NOT NULL PRIMARY KEY,
    flushed_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_flushes_by_time ON usage_flushes (flushed_at);
