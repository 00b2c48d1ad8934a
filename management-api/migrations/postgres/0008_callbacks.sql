-- Where the buyer is called back: a part of what the purchase is.
ALTER TABLE purchases ADD COLUMN callback_url text;

-- The outbox: what a batch has recorded that is to be called back, some hundred to a row. It is written with the purchases and deleted
-- once all of the row is delivered or is kept below. A row a callback would leave thousands of dead ones a second under another
-- session's snapshot. It belongs to somebody until `claimed_until`; then whoever comes first takes it.
CREATE TABLE callback_batches (
    batch_id uuid PRIMARY KEY,
    recorded_at timestamptz NOT NULL,
    claimed_until timestamptz NOT NULL,
    purchase_ids uuid[] NOT NULL
);
CREATE INDEX callback_batches_by_claim ON callback_batches (claimed_until);
ALTER TABLE callback_batches ALTER COLUMN purchase_ids SET STORAGE EXTERNAL;

-- Callbacks that were not delivered at once: those that wait, until `due_at`, and those that are dead. One that is being delivered
-- waits for the end of its claim. Those that are parked wait for their host, and until they are given up: however many they are, they
-- are written once.
CREATE TABLE callbacks (
    purchase_id uuid PRIMARY KEY,
    host text COLLATE "C" NOT NULL,
    recorded_at timestamptz NOT NULL,
    -- When the time began for which it is tried.
    began_at timestamptz NOT NULL,
    attempts integer NOT NULL,
    due_at timestamptz NOT NULL,
    outcome text NOT NULL,
    is_parked boolean NOT NULL,
    dead_since timestamptz
);
CREATE INDEX callbacks_by_due_time ON callbacks (due_at) WHERE dead_since IS NULL;
CREATE INDEX callbacks_that_are_parked ON callbacks (host, due_at) WHERE is_parked;
CREATE INDEX callbacks_that_are_dead ON callbacks (recorded_at, purchase_id) WHERE dead_since IS NOT NULL;

-- Hosts that fail, and those that did and are well again, which get what is parked for them. One that fails is tried with one of
-- those at `trial_at`; one that is switched off gets nothing until somebody switches it on.
CREATE TABLE callback_hosts (
    host text COLLATE "C" PRIMARY KEY,
    failing_since timestamptz NOT NULL,
    failed_at timestamptz NOT NULL,
    outcome text NOT NULL,
    is_well boolean NOT NULL,
    trial_at timestamptz NOT NULL,
    switched_off_at timestamptz
);
CREATE INDEX callback_hosts_by_trial ON callback_hosts (trial_at) WHERE switched_off_at IS NULL;

-- As record_purchases_unlogged, with where to call back; no list at all where nobody wants it.
CREATE FUNCTION record_purchase_rows(
    incarnation text, partitions integer[], expected_offsets bigint[], expected_epochs integer[],
    next_offsets bigint[], leader_epochs integer[],
    ids uuid[], userids text[], usernames text[], prices numeric[], times timestamptz[], callback_urls text[],
    OUT recording_time timestamptz
) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    missed bigint;
BEGIN
    -- Whoever comes second waits here for the first one's commit, and then finds the offset moved.
    FOR step IN 1 .. cardinality(partitions) LOOP
        UPDATE consumer_offsets SET next_offset = next_offsets[step], leader_epoch = leader_epochs[step]
        WHERE topic_incarnation = incarnation AND kafka_partition = partitions[step]
            AND next_offset = expected_offsets[step]
            -- The same number in another history of a log that was cut is another place. Who knows of no epoch does not ask.
            AND (expected_epochs[step] <> consumer_offsets.leader_epoch) IS NOT TRUE;
        IF NOT FOUND AND expected_offsets[step] = 0 THEN
            INSERT INTO recorded_partitions VALUES (incarnation, partitions[step]) ON CONFLICT DO NOTHING;
            IF FOUND THEN
                INSERT INTO consumer_offsets
                VALUES (incarnation, partitions[step], next_offsets[step], leader_epochs[step]);
            END IF;
        END IF;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'another consumer has moved the offsets' USING ERRCODE = 'PUR01';
        END IF;
    END LOOP;

    recording_time := date_trunc('milliseconds', clock_timestamp());
    INSERT INTO purchases (purchase_id, userid, username, price, purchased_at, recorded_at, callback_url)
    SELECT unnest(ids), unnest(userids), unnest(usernames), unnest(prices), unnest(times), recording_time,
        unnest(callback_urls);

    WITH given AS MATERIALIZED (
        SELECT new.userid, new.purchases, new.spent, newest.place
        FROM (
            SELECT one.userid, count(*) AS purchases, sum(one.price) AS spent
            FROM unnest(userids, prices) AS one (userid, price) GROUP BY one.userid
        ) AS new
        LEFT JOIN LATERAL (
            SELECT total.ctid AS place FROM user_totals AS total
            WHERE total.userid = new.userid AND total.kafka_partition = partitions[1] AND total.rotation > 0
            ORDER BY total.rotation DESC LIMIT 1
        ) AS newest ON true
    ), added AS (
        UPDATE user_totals AS total SET
            purchase_count = total.purchase_count + given.purchases,
            total_spent = total.total_spent + given.spent,
            rotation = 1 + (total.purchase_count + given.purchases) / 64
        FROM given WHERE total.ctid = given.place
        RETURNING 1
    ), begun AS (
        INSERT INTO user_totals (userid, kafka_partition, purchase_count, total_spent, rotation)
        SELECT given.userid, partitions[1], given.purchases, given.spent, 1 + given.purchases / 64
        FROM given WHERE given.place IS NULL
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM given) - (SELECT count(*) FROM added) - (SELECT count(*) FROM begun) INTO missed;
    IF missed <> 0 THEN
        -- A batch of another life or topic with the same partition has moved the row on in the same moment.
        RAISE EXCEPTION 'totals were moved by another session' USING ERRCODE = 'serialization_failure';
    END IF;
END
$$;

-- What older releases call.
CREATE OR REPLACE FUNCTION record_purchases_unlogged(
    incarnation text, partitions integer[], expected_offsets bigint[], expected_epochs integer[],
    next_offsets bigint[], leader_epochs integer[],
    ids uuid[], userids text[], usernames text[], prices numeric[], times timestamptz[],
    OUT recording_time timestamptz
) LANGUAGE plpgsql AS $$
BEGIN
    recording_time := record_purchase_rows(
        incarnation, partitions, expected_offsets, expected_epochs, next_offsets, leader_epochs,
        ids, userids, usernames, prices, times, NULL
    );
END
$$;

-- As version 5, with the outbox: `callback_ids` are those among `ids` that are called back, each with its row's id in
-- `callback_batch_ids`.
CREATE FUNCTION record_purchases_v6(
    incarnation text, partitions integer[], expected_offsets bigint[], expected_epochs integer[],
    next_offsets bigint[], leader_epochs integer[],
    ids uuid[], userids text[], usernames text[], prices numeric[], times timestamptz[], userid_marks integer[],
    callback_urls text[], callback_ids uuid[], callback_batch_ids uuid[], callback_lease interval,
    key_ids uuid[], key_days date[], key_purchases bigint[],
    OUT recording_time timestamptz
) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    recording_time := record_purchase_rows(
        incarnation, partitions, expected_offsets, expected_epochs, next_offsets, leader_epochs,
        ids, userids, usernames, prices, times, callback_urls
    );
    PERFORM append_commit(partitions[1], ids, userid_marks, recording_time);
    IF cardinality(callback_ids) > 0 THEN
        INSERT INTO callback_batches (batch_id, recorded_at, claimed_until, purchase_ids)
        SELECT given.batch_id, recording_time, clock_timestamp() + callback_lease, array_agg(given.purchase_id)
        FROM unnest(callback_batch_ids, callback_ids) AS given (batch_id, purchase_id)
        GROUP BY given.batch_id;
    END IF;
    IF cardinality(key_ids) > 0 THEN
        INSERT INTO api_key_purchases AS counted (key_id, day, kafka_partition, purchases)
        SELECT unnest(key_ids), unnest(key_days), partitions[1], unnest(key_purchases)
        ON CONFLICT (key_id, day, kafka_partition) DO UPDATE SET purchases = counted.purchases + excluded.purchases;
    END IF;
END
$$;
