-- What was recorded, in the order of commits, for whoever follows it: one row a batch, kept for some minutes. A row belongs to
-- the first partition of its batch, which has one owner; its number follows that of the row before, which is never deleted before
-- there is a newer one. No counter is kept: under another session's snapshot its dead versions would have to be walked through.
CREATE TABLE commits (
    kafka_partition integer NOT NULL,
    number bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    purchase_ids uuid[] NOT NULL,
    -- Of each purchase's userid, to tell which are of no interest; absent where an older release has recorded.
    userid_marks integer[],
    PRIMARY KEY (kafka_partition, number)
);
-- Random bytes: trying to compress them costs time and gains nothing.
ALTER TABLE commits ALTER COLUMN purchase_ids SET STORAGE EXTERNAL;
ALTER TABLE commits ALTER COLUMN userid_marks SET STORAGE EXTERNAL;

-- Names this log of commits: positions in that of another database mean nothing here.
CREATE TABLE commit_log (log_id integer NOT NULL);
INSERT INTO commit_log VALUES (floor(random() * 2147483647)::integer);

CREATE FUNCTION append_commit(
    partition_of_batch integer, ids uuid[], marks integer[], recording_time timestamptz
) RETURNS void LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    IF cardinality(ids) > 0 THEN
        INSERT INTO commits (kafka_partition, number, recorded_at, purchase_ids, userid_marks)
        SELECT partition_of_batch, 1 + coalesce((
            SELECT newest.number FROM commits AS newest WHERE newest.kafka_partition = partition_of_batch
            ORDER BY newest.number DESC LIMIT 1
        ), 0), recording_time, ids, marks;
    END IF;
END
$$;

-- What older releases call goes into the log too, while they roll out or back.
ALTER FUNCTION record_purchases_v3(
    text, integer[], bigint[], integer[], bigint[], integer[], uuid[], text[], text[], numeric[], timestamptz[]
) RENAME TO record_purchases_unlogged;

CREATE FUNCTION record_purchases_v3(
    incarnation text, partitions integer[], expected_offsets bigint[], expected_epochs integer[],
    next_offsets bigint[], leader_epochs integer[],
    ids uuid[], userids text[], usernames text[], prices numeric[], times timestamptz[],
    OUT recording_time timestamptz
) LANGUAGE plpgsql AS $$
BEGIN
    recording_time := record_purchases_unlogged(
        incarnation, partitions, expected_offsets, expected_epochs, next_offsets, leader_epochs,
        ids, userids, usernames, prices, times
    );
    PERFORM append_commit(partitions[1], ids, NULL, recording_time);
END
$$;

-- As version 4, and into the log with the marks of userids.
CREATE FUNCTION record_purchases_v5(
    incarnation text, partitions integer[], expected_offsets bigint[], expected_epochs integer[],
    next_offsets bigint[], leader_epochs integer[],
    ids uuid[], userids text[], usernames text[], prices numeric[], times timestamptz[], userid_marks integer[],
    key_ids uuid[], key_days date[], key_purchases bigint[],
    OUT recording_time timestamptz
) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    recording_time := record_purchases_unlogged(
        incarnation, partitions, expected_offsets, expected_epochs, next_offsets, leader_epochs,
        ids, userids, usernames, prices, times
    );
    PERFORM append_commit(partitions[1], ids, userid_marks, recording_time);
    IF cardinality(key_ids) > 0 THEN
        INSERT INTO api_key_purchases AS counted (key_id, day, kafka_partition, purchases)
        SELECT unnest(key_ids), unnest(key_days), partitions[1], unnest(key_purchases)
        ON CONFLICT (key_id, day, kafka_partition) DO UPDATE SET purchases = counted.purchases + excluded.purchases;
    END IF;
END
$$;
