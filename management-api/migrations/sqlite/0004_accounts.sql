-- Who may sign in, and their sessions, as in PostgreSQL.
CREATE TABLE accounts (
    account_id TEXT NOT NULL PRIMARY KEY,
    username TEXT NOT NULL,
    username_key TEXT NOT NULL UNIQUE,
    email TEXT NOT NULL,
    email_key TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    is_admin INTEGER NOT NULL,
    created_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    session_id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    successor_key BLOB NOT NULL,
    current_token BLOB NOT NULL,
    began_at TEXT NOT NULL,
    last_used_at TEXT NOT NULL,
    ends_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_account ON sessions (account_id, last_used_at);

CREATE TABLE spent_tokens (
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    token_hash BLOB NOT NULL,
    spent_at TEXT NOT NULL,
    PRIMARY KEY (session_id, token_hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE token_revocations (
    revoked_id TEXT NOT NULL PRIMARY KEY,
    revoked_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX token_revocations_by_time ON token_revocations (revoked_at);
