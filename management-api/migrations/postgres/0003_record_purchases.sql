-- As version 2, but ids that are stored already are the caller's affair: a unique violation tells it, and it repeats the
-- batch without them. Nobody pays for looking when there are none, which is nearly always.
-- All totals move on as those of small batches did: a large batch costs no more so, and stays flat under a snapshot too.
CREATE FUNCTION record_purchases_v3(
    incarnation text, partitions integer[], expected_offsets bigint[], expected_epochs integer[],
    next_offsets bigint[], leader_epochs integer[],
    ids uuid[], userids text[], usernames text[], prices numeric[], times timestamptz[],
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
    INSERT INTO purchases (purchase_id, userid, username, price, purchased_at, recorded_at)
    SELECT unnest(ids), unnest(userids), unnest(usernames), unnest(prices), unnest(times), recording_time;

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
