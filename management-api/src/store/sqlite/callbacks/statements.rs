//! What is asked of SQLite about callbacks.

pub(super) const APPEND: &str = "
    INSERT INTO callback_batches (batch_id, recorded_at, claimed_until, purchase_ids)
    SELECT value ->> 0, ?2, ?3, value ->> 1 FROM json_each(?1)";

pub(super) const CLAIM_BATCHES: &str = "
    UPDATE callback_batches SET claimed_until = ?2
    WHERE batch_id IN (
        SELECT batch_id FROM callback_batches WHERE claimed_until <= ?1 ORDER BY claimed_until LIMIT ?3
    )
    RETURNING batch_id, purchase_ids";

pub(super) const OF_BATCH: &str = "
    SELECT purchase_id, userid, username, price, purchased_at, recorded_at, callback_url
    FROM purchases WHERE purchase_id IN (SELECT value FROM json_each(?1))";

pub(super) const DUE: &str = "
    SELECT purchase_id, userid, username, price, purchased_at, purchases.recorded_at, callback_url, attempts, began_at,
        EXISTS (SELECT 1 FROM callback_hosts WHERE callback_hosts.host = due.host AND switched_off_at IS NOT NULL),
        NOT EXISTS (SELECT 1 FROM callback_hosts WHERE callback_hosts.host = due.host AND NOT is_well)
    FROM (
        SELECT purchase_id, host, attempts, began_at FROM callbacks
        WHERE dead_since IS NULL AND due_at <= ?1 ORDER BY due_at LIMIT ?2
    ) AS due CROSS JOIN purchases USING (purchase_id)";

pub(super) const CLAIM_RETRIES: &str =
    "UPDATE callbacks SET due_at = ?2, is_parked = 0 WHERE purchase_id IN (SELECT value FROM json_each(?1))";

pub(super) const DUE_HOSTS: &str = "
    SELECT host, is_well, failing_since, EXISTS (SELECT 1 FROM callbacks WHERE callbacks.host = callback_hosts.host AND is_parked)
    FROM callback_hosts WHERE switched_off_at IS NULL AND trial_at <= ?1 ORDER BY trial_at LIMIT ?2";

pub(super) const SET_TRIAL: &str = "UPDATE callback_hosts SET trial_at = ?2 WHERE host = ?1";

pub(super) const PARKED: &str = "
    SELECT purchase_id, userid, username, price, purchased_at, purchases.recorded_at, callback_url, attempts, began_at, 0, 1
    FROM (
        SELECT purchase_id, attempts, began_at FROM callbacks WHERE host = ?1 AND is_parked ORDER BY due_at LIMIT ?2
    ) CROSS JOIN purchases USING (purchase_id)";

pub(super) const FINISH: &str = "DELETE FROM callback_batches WHERE batch_id IN (SELECT value FROM json_each(?1))";

/// Only where nobody has claimed it since.
pub(super) const DELIVERED: &str = "
    DELETE FROM callbacks WHERE (purchase_id, due_at) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))";

pub(super) const CHANGED: &str = "
    UPDATE callbacks SET attempts = value ->> 4, due_at = value ->> 5, outcome = value ->> 6, is_parked = value ->> 7,
        dead_since = value ->> 8
    FROM json_each(?1)
    WHERE purchase_id = value ->> 0 AND due_at = value ->> 10 AND dead_since IS NULL";

pub(super) const FAILED: &str = "
    INSERT INTO callbacks (purchase_id, host, recorded_at, began_at, attempts, due_at, outcome, is_parked, dead_since)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8
    FROM json_each(?1) WHERE value ->> 10 IS NULL
    ON CONFLICT (purchase_id) DO NOTHING";

/// What is parked has a host that somebody looks after: one that is well at once, one that fails at `?3`.
pub(super) const LOOK_AFTER: &str = "
    INSERT INTO callback_hosts (host, failing_since, failed_at, outcome, is_well, trial_at)
    SELECT value ->> 1, ?2, ?2, min(value ->> 6), min(value ->> 9), iif(min(value ->> 9), ?2, ?3) FROM json_each(?1)
    WHERE value ->> 7 GROUP BY value ->> 1
    ON CONFLICT (host) DO UPDATE SET
        failed_at = excluded.failed_at, trial_at = iif(is_well, min(trial_at, excluded.trial_at), trial_at)";

pub(super) const HOSTS: &str = "
    SELECT host, failing_since, failed_at, outcome, switched_off_at FROM callback_hosts
    WHERE NOT is_well AND host > coalesce(?1, '') ORDER BY host LIMIT ?2";

/// `?4`: who has failed since then is switched off; `?6`: who has not failed since then has not failed all the time; `?7`: until then it
/// is left alone.
pub(super) const NOTE_FAILED: &str = "
    INSERT INTO callback_hosts (host, failing_since, failed_at, outcome, is_well, trial_at) VALUES (?1, ?2, ?2, ?3, 0, ?5)
    ON CONFLICT (host) DO UPDATE SET
        failed_at = excluded.failed_at, outcome = excluded.outcome, is_well = 0,
        failing_since = iif(is_well OR failed_at < ?6, excluded.failing_since, failing_since),
        trial_at = iif(is_well, excluded.trial_at, max(trial_at, ?7)),
        switched_off_at = coalesce(
            switched_off_at,
            iif(NOT is_well AND failed_at >= ?6 AND failing_since <= ?4, excluded.failed_at, NULL)
        )
    RETURNING host, failing_since, failed_at, outcome, switched_off_at";

pub(super) const NOTE_WELL: &str = "
    UPDATE callback_hosts SET is_well = 1, trial_at = ?2, switched_off_at = NULL WHERE host = ?1 AND NOT is_well";

pub(super) const LIST_DEAD: &str = "
    SELECT purchase_id, host, recorded_at, attempts, outcome, dead_since FROM callbacks
    WHERE dead_since IS NOT NULL AND (recorded_at, purchase_id) > (?1, ?2) AND recorded_at < ?3 AND host = coalesce(?4, host)
    ORDER BY recorded_at, purchase_id LIMIT ?5";

pub(super) const RESEND_DEAD: &str = "
    UPDATE callbacks SET dead_since = NULL, is_parked = 0, attempts = 0, began_at = ?6, due_at = ?6
    WHERE purchase_id IN (
        SELECT purchase_id FROM callbacks
        WHERE dead_since IS NOT NULL AND (recorded_at, purchase_id) > (?1, ?2) AND recorded_at < ?3
            AND host = coalesce(?4, host)
        ORDER BY recorded_at, purchase_id LIMIT ?5
    )
    RETURNING recorded_at, purchase_id";

pub(super) const RESEND_ONE: &str = "
    INSERT INTO callbacks (purchase_id, host, recorded_at, began_at, attempts, due_at, outcome, is_parked)
    VALUES (?1, ?2, ?3, ?4, 0, ?4, 'resent', 0)
    ON CONFLICT (purchase_id) DO UPDATE SET dead_since = NULL, is_parked = 0, attempts = 0, began_at = ?4, due_at = ?4";

pub(super) const COUNT: &str = "
    SELECT (SELECT count(*) FROM (SELECT 1 FROM callbacks WHERE dead_since IS NULL LIMIT ?1)),
        (SELECT count(*) FROM (SELECT 1 FROM callbacks WHERE dead_since IS NOT NULL LIMIT ?1)),
        (SELECT count(*) FROM callback_hosts WHERE switched_off_at IS NOT NULL),
        (SELECT min(due_at) FROM callbacks WHERE dead_since IS NULL),
        (SELECT min(claimed_until) FROM callback_batches)";

pub(super) const FORGET_HOSTS: &str = "
    DELETE FROM callback_hosts WHERE switched_off_at IS NULL AND failed_at < iif(is_well, ?1, ?2)";

pub(super) const UNCLAIMED: &str = "
    SELECT batch_id FROM callback_batches WHERE claimed_until < ?1 ORDER BY claimed_until LIMIT ?2";

/// What nobody has taken up, because nobody calls back here any more, is dead. A stored URL has a path, if only `/`.
pub(super) const GIVE_UP: &str = "
    INSERT INTO callbacks (purchase_id, host, recorded_at, began_at, attempts, due_at, outcome, is_parked, dead_since)
    SELECT purchase_id, substr(rest, 1, instr(rest, '/') - 1), recorded_at, recorded_at, 0, ?2, 'nobody has taken it up', 0, ?2
    FROM (
        SELECT purchases.purchase_id, purchases.recorded_at, substr(callback_url, instr(callback_url, '://') + 3) AS rest
        FROM callback_batches, json_each(purchase_ids) AS given CROSS JOIN purchases ON purchases.purchase_id = given.value
        WHERE batch_id IN (SELECT value FROM json_each(?1))
    ) WHERE true
    ON CONFLICT (purchase_id) DO NOTHING";

pub(super) const FORGET: &str = "
    DELETE FROM callbacks WHERE purchase_id IN (
        SELECT purchase_id FROM callbacks
        WHERE dead_since < ?1 AND recorded_at < ?1 ORDER BY recorded_at, purchase_id LIMIT ?2
    )";
