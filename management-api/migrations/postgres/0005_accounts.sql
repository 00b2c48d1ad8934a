-- Who may sign in. What is unique are the keys: e-mail and username as they are compared, not as they were written.
CREATE TABLE accounts (
    account_id uuid PRIMARY KEY,
    username text NOT NULL,
    username_key text COLLATE "C" NOT NULL UNIQUE,
    email text NOT NULL,
    email_key text COLLATE "C" NOT NULL UNIQUE,
    password_hash text NOT NULL,
    is_admin boolean NOT NULL,
    created_at timestamptz NOT NULL
);

-- A session is a family of refresh tokens, of which one is current. Tokens stand here as their SHA-256; the successor of
-- each is made of it and the session's own key, so that all replicas make the same one and none has to keep it.
CREATE TABLE sessions (
    session_id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    successor_key bytea NOT NULL,
    current_token bytea NOT NULL,
    began_at timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL
);
CREATE INDEX sessions_by_account ON sessions (account_id, last_used_at);

-- Tokens that were used a moment ago, and may be used again for as long.
CREATE TABLE spent_tokens (
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    token_hash bytea NOT NULL,
    spent_at timestamptz NOT NULL,
    PRIMARY KEY (session_id, token_hash)
);

-- Sessions and accounts that have ended, for as long as an access token of theirs could be in use.
CREATE TABLE token_revocations (
    revoked_id uuid PRIMARY KEY,
    revoked_at timestamptz NOT NULL
);
CREATE INDEX token_revocations_by_time ON token_revocations (revoked_at);
