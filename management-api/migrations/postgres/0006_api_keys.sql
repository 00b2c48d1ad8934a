-- Keys of accounts. A secret stands here as its SHA-256. One that was followed by another counts on for a while, as the old
-- one. A deleted account's keys stay, revoked, and with them what they were used for.
CREATE TABLE api_keys (
    key_id uuid PRIMARY KEY,
    account_id uuid NOT NULL,
    name text NOT NULL,
    scopes text NOT NULL,
    rate_per_second integer,
    secret_hash bytea NOT NULL UNIQUE,
    secret_start text NOT NULL,
    old_secret_hash bytea UNIQUE,
    old_ends_at timestamptz,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    -- Counts the changes, so that whoever knows the key as it was can tell.
    version integer NOT NULL,
    changed_at timestamptz NOT NULL
);
CREATE INDEX api_keys_by_account ON api_keys (account_id, key_id);
CREATE INDEX api_keys_by_change ON api_keys (changed_at);

-- Recorded purchases by the key that bought them and the day of their timestamps. By partition, too, which has one owner: so
-- replicas never wait for each other. No key need be known for it: recording depends on nothing of accounts.
CREATE TABLE api_key_purchases (
    key_id uuid NOT NULL,
    day date NOT NULL,
    kafka_partition integer NOT NULL,
    purchases bigint NOT NULL,
    PRIMARY KEY (key_id, day, kafka_partition)
) WITH (fillfactor = 50);

-- Other requests, as web-server has counted them.
CREATE TABLE api_key_requests (
    key_id uuid NOT NULL,
    day date NOT NULL,
    class text COLLATE "C" NOT NULL,
    requests bigint NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (key_id, day, class)
) WITH (fillfactor = 50);

-- What was added to them, for as long as anybody could say it again.
CREATE TABLE usage_flushes (
    flush_id uuid PRIMARY KEY,
    flushed_at timestamptz NOT NULL
);
CREATE INDEX usage_flushes_by_time ON usage_flushes (flushed_at);

-- As version 3, for a batch of which keys have bought something: what they have bought is counted in the same transaction.
CREATE FUNCTION record_purchases_v4(
    incarnation text, partitions integer[], expected_offsets bigint[], expected_epochs integer[],
    next_offsets bigint[], leader_epochs integer[],
    ids uuid[], userids text[], usernames text[], prices numeric[], times timestamptz[],
    key_ids uuid[], key_days date[], key_purchases bigint[],
    OUT recording_time timestamptz
) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    recording_time := record_purchases_v3(
        incarnation, partitions, expected_offsets, expected_epochs, next_offsets, leader_epochs,
        ids, userids, usernames, prices, times
    );
    INSERT INTO api_key_purchases AS counted (key_id, day, kafka_partition, purchases)
    SELECT unnest(key_ids), unnest(key_days), partitions[1], unnest(key_purchases)
    ON CONFLICT (key_id, day, kafka_partition) DO UPDATE SET purchases = counted.purchases + excluded.purchases;
END
$$;
