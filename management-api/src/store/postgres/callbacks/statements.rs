//! What is asked of PostgreSQL about callbacks.

/// Entries of rows that are gone stay in the index while somebody holds a snapshot: those before `$1` are not walked through.
pub(super) const CLAIM_BATCHES: &str = "
    WITH due AS (
        SELECT batch_id FROM callback_batches
        WHERE claimed_until > coalesce($1, '-infinity') AND claimed_until <= clock_timestamp()
        ORDER BY claimed_until LIMIT $2 FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE callback_batches AS batch SET claimed_until = clock_timestamp() + $3
        FROM due WHERE batch.batch_id = due.batch_id
        RETURNING batch.batch_id, batch.purchase_ids
    )
    SELECT purchase.purchase_id, userid, username, price::text, purchased_at, recorded_at, callback_url, batch_id
    FROM claimed, unnest(purchase_ids) AS given (id) JOIN purchases AS purchase ON purchase.purchase_id = given.id";

pub(super) const CLAIM_RETRIES: &str = "
    WITH due AS (
        SELECT purchase_id FROM callbacks
        WHERE dead_since IS NULL AND due_at > coalesce($1, '-infinity') AND due_at <= clock_timestamp()
        ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE callbacks AS callback SET due_at = clock_timestamp() + $3, is_parked = false
        FROM due WHERE callback.purchase_id = due.purchase_id
        RETURNING callback.purchase_id, host, attempts, clock_timestamp() - began_at AS tried_for, due_at
    )
    SELECT purchase.purchase_id, userid, username, price::text, purchased_at, recorded_at, callback_url,
        attempts, extract(epoch FROM tried_for)::float8, due_at,
        EXISTS (SELECT FROM callback_hosts WHERE callback_hosts.host = claimed.host AND switched_off_at IS NOT NULL),
        NOT EXISTS (SELECT FROM callback_hosts WHERE callback_hosts.host = claimed.host AND NOT is_well)
    FROM claimed JOIN purchases AS purchase ON purchase.purchase_id = claimed.purchase_id";

/// Callbacks that wait for their host: one of a host that fails, some of one that is well.
pub(super) const CLAIM_PARKED: &str = "
    WITH due AS (
        SELECT host FROM callback_hosts WHERE switched_off_at IS NULL AND trial_at <= clock_timestamp()
        ORDER BY trial_at LIMIT $1 FOR UPDATE SKIP LOCKED
    ), host AS (
        UPDATE callback_hosts AS host SET trial_at = clock_timestamp() + CASE
            WHEN NOT is_well THEN greatest($4, least($5, (clock_timestamp() - failing_since) / 4))
            WHEN EXISTS (SELECT FROM callbacks WHERE callbacks.host = host.host AND is_parked) THEN interval '0'
            ELSE $6
        END
        FROM due WHERE host.host = due.host
        RETURNING host.host, is_well
    ), chosen AS (
        SELECT parked.purchase_id
        FROM host CROSS JOIN LATERAL (
            SELECT purchase_id FROM callbacks WHERE callbacks.host = host.host AND is_parked
            ORDER BY due_at LIMIT CASE WHEN host.is_well THEN $2 ELSE 1 END FOR UPDATE SKIP LOCKED
        ) AS parked
    ), claimed AS (
        UPDATE callbacks AS callback SET due_at = clock_timestamp() + $3, is_parked = false
        FROM chosen WHERE callback.purchase_id = chosen.purchase_id
        RETURNING callback.purchase_id, attempts, clock_timestamp() - began_at AS tried_for, due_at
    )
    SELECT purchase.purchase_id, userid, username, price::text, purchased_at, recorded_at, callback_url,
        attempts, extract(epoch FROM tried_for)::float8, due_at, false, true
    FROM claimed JOIN purchases AS purchase ON purchase.purchase_id = claimed.purchase_id";

/// What is parked has a host that somebody looks after; it is not forgotten in this very moment, for its time is another one now.
/// What was kept by itself is changed only where nobody has claimed it since.
pub(super) const SETTLE: &str = "
    WITH given AS MATERIALIZED (
        SELECT * FROM unnest(
            $4::uuid[], $5::text[], $6::timestamptz[], $7::float8[], $8::integer[], $9::float8[], $10::text[], $11::boolean[],
            $12::boolean[], $13::boolean[], $14::timestamptz[]
        ) AS given (id, host, recorded, tried_for, attempts, due_in, outcome, is_parked, is_host_well, is_dead, claimed_until)
    ), finished AS (
        DELETE FROM callback_batches WHERE batch_id = ANY ($1)
    ), delivered AS (
        DELETE FROM callbacks USING unnest($2::uuid[], $3::timestamptz[]) AS done (id, claimed_until)
        WHERE callbacks.purchase_id = done.id AND callbacks.due_at = done.claimed_until
    ), looked_after AS (
        INSERT INTO callback_hosts AS stored (host, failing_since, failed_at, outcome, is_well, trial_at)
        SELECT DISTINCT ON (host) host, clock_timestamp(), clock_timestamp(), outcome, is_host_well,
            clock_timestamp() + CASE WHEN is_host_well THEN interval '0' ELSE $15 END
        FROM given WHERE is_parked ORDER BY host
        ON CONFLICT (host) DO UPDATE SET
            failed_at = excluded.failed_at,
            trial_at = CASE WHEN stored.is_well THEN least(stored.trial_at, excluded.trial_at) ELSE stored.trial_at END
    ), changed AS (
        UPDATE callbacks AS callback SET
            attempts = given.attempts, due_at = clock_timestamp() + due_in * interval '1 second', outcome = given.outcome,
            is_parked = given.is_parked, dead_since = CASE WHEN is_dead THEN clock_timestamp() END
        FROM given
        WHERE callback.purchase_id = given.id AND callback.due_at = given.claimed_until AND callback.dead_since IS NULL
    )
    INSERT INTO callbacks (purchase_id, host, recorded_at, began_at, attempts, due_at, outcome, is_parked, dead_since)
    SELECT id, host, recorded, clock_timestamp() - tried_for * interval '1 second', attempts,
        clock_timestamp() + due_in * interval '1 second', outcome, is_parked, CASE WHEN is_dead THEN clock_timestamp() END
    FROM given WHERE claimed_until IS NULL ORDER BY id
    ON CONFLICT (purchase_id) DO NOTHING";

pub(super) const HOSTS: &str = "
    SELECT host, failing_since, failed_at, outcome, switched_off_at FROM callback_hosts
    WHERE NOT is_well AND host > coalesce($1, '') ORDER BY host LIMIT $2";

pub(super) const NOTE_FAILED: &str = "
    INSERT INTO callback_hosts AS stored (host, failing_since, failed_at, outcome, is_well, trial_at)
    VALUES ($1, clock_timestamp(), clock_timestamp(), $2, false, clock_timestamp() + $4)
    ON CONFLICT (host) DO UPDATE SET
        failed_at = excluded.failed_at, outcome = excluded.outcome, is_well = false,
        failing_since = CASE
            WHEN stored.is_well OR excluded.failed_at - stored.failed_at > $5 THEN excluded.failing_since
            ELSE stored.failing_since
        END,
        trial_at = CASE WHEN stored.is_well THEN excluded.trial_at ELSE greatest(stored.trial_at, excluded.failed_at + $6) END,
        switched_off_at = coalesce(stored.switched_off_at, CASE
            WHEN NOT stored.is_well AND excluded.failed_at - stored.failed_at <= $5
                AND excluded.failed_at - stored.failing_since >= $3 THEN excluded.failed_at
        END)
    RETURNING host, failing_since, failed_at, outcome, switched_off_at";

pub(super) const NOTE_WELL: &str = "
    UPDATE callback_hosts SET is_well = true, trial_at = clock_timestamp(), switched_off_at = NULL
    WHERE host = $1 AND NOT is_well";

pub(super) const LIST_DEAD: &str = "
    SELECT purchase_id, host, recorded_at, attempts, outcome, dead_since FROM callbacks
    WHERE dead_since IS NOT NULL AND (recorded_at, purchase_id) > ($1, $2) AND recorded_at < $3
        AND host = coalesce($4, host)
    ORDER BY recorded_at, purchase_id LIMIT $5";

pub(super) const RESEND_DEAD: &str = "
    WITH chosen AS (
        SELECT purchase_id FROM callbacks
        WHERE dead_since IS NOT NULL AND (recorded_at, purchase_id) > ($1, $2) AND recorded_at < $3
            AND host = coalesce($4, host)
        ORDER BY recorded_at, purchase_id LIMIT $5 FOR UPDATE SKIP LOCKED
    )
    UPDATE callbacks AS callback
    SET dead_since = NULL, is_parked = false, attempts = 0, began_at = clock_timestamp(), due_at = clock_timestamp()
    FROM chosen WHERE callback.purchase_id = chosen.purchase_id
    RETURNING callback.recorded_at, callback.purchase_id";

pub(super) const RESEND_ONE: &str = "
    INSERT INTO callbacks (purchase_id, host, recorded_at, began_at, attempts, due_at, outcome, is_parked)
    VALUES ($1, $2, $3, clock_timestamp(), 0, clock_timestamp(), 'resent', false)
    ON CONFLICT (purchase_id) DO UPDATE SET
        dead_since = NULL, is_parked = false, attempts = 0, began_at = excluded.began_at, due_at = excluded.due_at";

pub(super) const COUNT: &str = "
    SELECT (SELECT count(*) FROM (SELECT FROM callbacks WHERE dead_since IS NULL LIMIT $1) AS waiting),
        (SELECT count(*) FROM (SELECT FROM callbacks WHERE dead_since IS NOT NULL LIMIT $1) AS dead),
        (SELECT count(*) FROM (SELECT FROM callback_hosts WHERE switched_off_at IS NOT NULL LIMIT $1) AS off),
        extract(epoch FROM greatest(interval '0', clock_timestamp() - least(
            (SELECT due_at FROM callbacks WHERE dead_since IS NULL ORDER BY due_at LIMIT 1),
            (SELECT claimed_until FROM callback_batches ORDER BY claimed_until LIMIT 1)
        )))::float8";

pub(super) const FORGET_HOSTS: &str = "
    DELETE FROM callback_hosts
    WHERE switched_off_at IS NULL
        AND failed_at < clock_timestamp() - CASE WHEN is_well THEN $1::interval ELSE $2::interval END";

/// What nobody has taken up, because nobody calls back here any more, is dead.
pub(super) const GIVE_UP_UNCLAIMED: &str = "
    WITH old AS (
        SELECT batch_id FROM callback_batches WHERE claimed_until < clock_timestamp() - $1
        ORDER BY claimed_until LIMIT $2 FOR UPDATE SKIP LOCKED
    ), unclaimed AS (
        DELETE FROM callback_batches USING old WHERE callback_batches.batch_id = old.batch_id RETURNING purchase_ids
    )
    INSERT INTO callbacks (purchase_id, host, recorded_at, began_at, attempts, due_at, outcome, is_parked, dead_since)
    SELECT purchase_id, substring(callback_url FROM '^https?://([^/]+)'), recorded_at, recorded_at, 0, clock_timestamp(),
        'nobody has taken it up', false, clock_timestamp()
    FROM unclaimed, unnest(purchase_ids) AS given (id) JOIN purchases ON purchase_id = given.id
    ON CONFLICT (purchase_id) DO NOTHING";

pub(super) const FORGET: &str = "
    WITH old AS (
        SELECT purchase_id FROM callbacks
        WHERE dead_since < clock_timestamp() - $1 AND recorded_at < clock_timestamp() - $1
        ORDER BY recorded_at, purchase_id LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    DELETE FROM callbacks USING old WHERE callbacks.purchase_id = old.purchase_id";
