-- The leader epoch of the record before `next_offset`, so that a log that was cut and grew again is noticed.
ALTER TABLE consumer_offsets ADD COLUMN leader_epoch integer;

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

-- As version 1, with the leader epochs.
CREATE FUNCTION record_purchases_v2(
    incarnation text, partitions integer[], expected_offsets bigint[], next_offsets bigint[], leader_epochs integer[],
    ids uuid[], userids text[], usernames text[], prices numeric[], times timestamptz[],
    duplicates_expected boolean, OUT inserted bigint, OUT recording_time timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    inserted_userids text[] := userids;
    inserted_prices numeric[] := prices;
BEGIN
    -- Whoever comes second waits here for the first one's commit, and then finds the offset moved.
    FOR step IN 1 .. cardinality(partitions) LOOP
        UPDATE consumer_offsets SET next_offset = next_offsets[step], leader_epoch = leader_epochs[step]
        WHERE topic_incarnation = incarnation AND kafka_partition = partitions[step]
            AND next_offset = expected_offsets[step];
        IF NOT FOUND AND expected_offsets[step] = 0 THEN
            INSERT INTO consumer_offsets VALUES (incarnation, partitions[step], next_offsets[step], leader_epochs[step])
            ON CONFLICT DO NOTHING;
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

    INSERT INTO user_totals AS total (userid, kafka_partition, purchase_count, total_spent)
    SELECT new.userid, partitions[1], count(*), sum(new.price)
    FROM unnest(inserted_userids, inserted_prices) AS new (userid, price)
    GROUP BY new.userid
    ON CONFLICT (userid, kafka_partition) DO UPDATE SET
        purchase_count = total.purchase_count + excluded.purchase_count,
        total_spent = total.total_spent + excluded.total_spent;

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
        incarnation, partitions, expected_offsets, next_offsets,
        array_fill(NULL::integer, ARRAY[cardinality(partitions)]),
        ids, userids, usernames, prices, times, duplicates_expected
    );
$$;
