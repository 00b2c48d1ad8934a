-- What others may read. Names, digits and "which text" are the contract's; "C" collation because nobody sorts by userid,
-- and comparing bytes is the fastest way to find one.
CREATE TABLE purchases (
    purchase_id uuid PRIMARY KEY,
    userid text COLLATE "C" NOT NULL,
    username text NOT NULL,
    price numeric(19, 4) NOT NULL,
    purchased_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL
) WITH (
    -- Rows are only ever added: freeze them in small steps, and let the planner see the growth.
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.05
);

-- Newest first is read backwards: ascending, new rows land at the right end, where B-trees are fastest and fullest.
CREATE INDEX purchases_by_time ON purchases (purchased_at, purchase_id);

-- NULLS FIRST (there are none) makes this order another one than that of purchases_by_time. A user's purchases are asked
-- for in this order, so that the planner cannot walk through everybody's purchases in search of one user's.
CREATE INDEX purchases_by_user ON purchases (userid, purchased_at NULLS FIRST, purchase_id NULLS FIRST);

-- A user's total is the sum of its rows here. Each batch adds to those of one of its partitions; a partition has one owner,
-- so replicas never wait for each other's totals.
CREATE TABLE user_totals (
    userid text COLLATE "C" NOT NULL,
    kafka_partition integer NOT NULL,
    purchase_count bigint NOT NULL,
    total_spent numeric NOT NULL,
    PRIMARY KEY (userid, kafka_partition)
) WITH (
    -- Room on the page lets an update stay there (HOT): no index is touched.
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_threshold = 1000
);

-- An incarnation is one life of a topic: deleted and made again, it starts at 0.
CREATE TABLE consumer_offsets (
    topic_incarnation text NOT NULL,
    kafka_partition integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (topic_incarnation, kafka_partition)
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Records one batch in one statement: all or nothing, and no row stays locked while a client that may be frozen is waited
-- for. Both groups of arrays are columns; steps stand by partition and rows by id, so that sessions wait for each other in
-- one order and never in a circle. A row whose id is stored already is left out.
-- A plain INSERT costs a fifth less than ON CONFLICT DO NOTHING, so it is what happens unless some id is already there.
-- An id that another replica stores between that look and the INSERT is a unique violation; the caller then repeats the
-- batch with `duplicates_expected`.
-- Errors: PUR01, a stored offset is not the expected one; PUR02, an id is stored with other content.
CREATE FUNCTION record_purchases(
    incarnation text, partitions integer[], expected_offsets bigint[], next_offsets bigint[],
    ids uuid[], userids text[], usernames text[], prices numeric[], times timestamptz[],
    duplicates_expected boolean, OUT inserted bigint, OUT recording_time timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    inserted_userids text[] := userids;
    inserted_prices numeric[] := prices;
BEGIN
    -- Whoever comes second waits here for the first one's commit, and then finds the offset moved.
    FOR step IN 1 .. cardinality(partitions) LOOP
        UPDATE consumer_offsets SET next_offset = next_offsets[step]
        WHERE topic_incarnation = incarnation AND kafka_partition = partitions[step]
            AND next_offset = expected_offsets[step];
        IF NOT FOUND AND expected_offsets[step] = 0 THEN
            INSERT INTO consumer_offsets VALUES (incarnation, partitions[step], next_offsets[step])
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
