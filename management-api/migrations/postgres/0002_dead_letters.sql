-- The leader epoch of the record before `next_offset`, so that a log that was cut and grew again is noticed.
ALTER TABLE consumer_offsets ADD COLUMN leader_epoch integer;

-- While somebody keeps a snapshot open (a dump), no dead version of a row can be removed, and whoever looks for the row by
-- a key that stays walks through all of them: 16 us a thousand. So the offset is part of the key: each version is found by
-- what it says, and none of those before it is met. Which of two is the first for a partition is decided by a table of its
-- own, for a key with the offset in it cannot tell.
ALTER TABLE consumer_offsets DROP CONSTRAINT consumer_offsets_pkey;
ALTER TABLE consumer_offsets ADD PRIMARY KEY (topic_incarnation, kafka_partition, next_offset);
CREATE TABLE recorded_partitions (
    topic_incarnation text NOT NULL,
    kafka_partition integer NOT NULL,
    PRIMARY KEY (topic_incarnation, kafka_partition)
);
INSERT INTO recorded_partitions SELECT topic_incarnation, kafka_partition FROM consumer_offsets;

-- The same for totals, of which a user may now have two rows a partition. Large batches add to the one of rotation 0, as
-- ever: they are few a second. Small ones, which may be hundreds, add to the other one. Every 64 purchases that moves on in
-- its index, so that no more than 64 versions share a key, and most updates touch no index.
ALTER TABLE user_totals ADD COLUMN rotation bigint NOT NULL DEFAULT 0;
ALTER TABLE user_totals DROP CONSTRAINT user_totals_pkey;
ALTER TABLE user_totals ADD PRIMARY KEY (userid, kafka_partition, rotation);

-- Dead letters that the dead-letter topic does not keep, and what is remembered of all that were sent back. A letter has
-- one row, named after the place and time of the original, however often it comes back.
CREATE TABLE dead_letters (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    letter_id uuid NOT NULL UNIQUE,
    topic_incarnation text NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset bigint NOT NULL,
    original_time_ms bigint,
    -- From here to `error` nothing, unless it is kept here: `kept_at` tells.
    kept_at timestamptz,
    record_key bytea,
    record_value bytea,
    record_headers bytea,
    reason text,
    error text,
    -- The how manieth time it was sent back, and the last of these times that it came back: as long as it is out, it is
    -- not sent again. Numbers and no flag, because the two events may be written in either order.
    redrives_sent integer NOT NULL DEFAULT 0,
    redrives_returned integer NOT NULL DEFAULT 0,
    redriven_at timestamptz
);

CREATE INDEX dead_letters_waiting ON dead_letters (number)
WHERE kept_at IS NOT NULL AND redrives_returned >= redrives_sent;

-- What an operator stepped over because nobody could read it.
CREATE TABLE skipped_records (
    skipped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    topic_incarnation text NOT NULL,
    kafka_partition integer NOT NULL,
    from_offset bigint NOT NULL,
    to_offset bigint NOT NULL,
    reason text NOT NULL
);

-- As version 1, with the leader epochs, and flat under other sessions' snapshots. Its plans are made once: the statement
-- for totals would be planned anew each time, which takes longer than running it.
CREATE FUNCTION record_purchases_v2(
    incarnation text, partitions integer[], expected_offsets bigint[], expected_epochs integer[],
    next_offsets bigint[], leader_epochs integer[],
    ids uuid[], userids text[], usernames text[], prices numeric[], times timestamptz[],
    duplicates_expected boolean, OUT inserted bigint, OUT recording_time timestamptz
) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    inserted_userids text[] := userids;
    inserted_prices numeric[] := prices;
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
    IF duplicates_expected OR EXISTS (SELECT FROM purchases WHERE purchase_id = ANY (ids)) THEN
        WITH new AS (
            INSERT INTO purchases AS stored (purchase_id, userid, username, price, purchased_at, recorded_at)
            SELECT unnest(ids), unnest(userids), unnest(usernames), unnest(prices), unnest(times), recording_time
            ON CONFLICT (purchase_id) DO NOTHING
            RETURNING stored.userid, stored.price
        )
        SELECT array_agg(new.userid), array_agg(new.price) INTO inserted_userids, inserted_prices FROM new;
        IF EXISTS (
            SELECT FROM unnest(ids, userids, usernames, prices) AS given (id, userid, username, price)
            LEFT JOIN purchases AS stored ON stored.purchase_id = given.id
            WHERE (stored.userid, stored.username, stored.price)
                IS DISTINCT FROM (given.userid, given.username, given.price)
        ) THEN
            RAISE EXCEPTION 'an id is stored with other content' USING ERRCODE = 'PUR02';
        END IF;
    ELSE
        INSERT INTO purchases (purchase_id, userid, username, price, purchased_at, recorded_at)
        SELECT unnest(ids), unnest(userids), unnest(usernames), unnest(prices), unnest(times), recording_time;
    END IF;

    IF cardinality(inserted_userids) >= 500 THEN
        INSERT INTO user_totals AS total (userid, kafka_partition, purchase_count, total_spent)
        SELECT new.userid, partitions[1], count(*), sum(new.price)
        FROM unnest(inserted_userids, inserted_prices) AS new (userid, price)
        GROUP BY new.userid
        ON CONFLICT (userid, kafka_partition, rotation) DO UPDATE SET
            purchase_count = total.purchase_count + excluded.purchase_count,
            total_spent = total.total_spent + excluded.total_spent;
    ELSE
        WITH given AS MATERIALIZED (
            SELECT new.userid, new.purchases, new.spent, newest.place
            FROM (
                SELECT one.userid, count(*) AS purchases, sum(one.price) AS spent
                FROM unnest(inserted_userids, inserted_prices) AS one (userid, price) GROUP BY one.userid
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
    END IF;

    inserted := coalesce(cardinality(inserted_userids), 0);
END
$$;

-- While a new release rolls out, old replicas call this one. They know of no epochs, and an old epoch must not stay.
CREATE OR REPLACE FUNCTION record_purchases(
    incarnation text, partitions integer[], expected_offsets bigint[], next_offsets bigint[],
    ids uuid[], userids text[], usernames text[], prices numeric[], times timestamptz[],
    duplicates_expected boolean, OUT inserted bigint, OUT recording_time timestamptz
) LANGUAGE sql AS $$
    SELECT inserted, recording_time FROM record_purchases_v2(
        incarnation, partitions, expected_offsets, array_fill(NULL::integer, ARRAY[cardinality(partitions)]),
        next_offsets, array_fill(NULL::integer, ARRAY[cardinality(partitions)]),
        ids, userids, usernames, prices, times, duplicates_expected
    );
$$;
