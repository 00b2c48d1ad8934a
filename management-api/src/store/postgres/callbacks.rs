//! The outbox in PostgreSQL.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared::callbacks::{DeadCallback, FailingHost};
use shared::event::{Purchase, Timestamp};
use sqlx::postgres::types::PgInterval;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{FromRow as _, Postgres, Row as _};
use uuid::Uuid;

use super::read::StoredPurchase;
use super::{PostgresStore, answer, session};
use crate::store::callbacks::{
    BATCH_MAX, CHANGED_MAX, COUNTED_MAX, LOOK_PAUSE, PARKED_HOSTS_MAX, PARKED_OF_HOST_MAX, TRIAL_PAUSES, WELL_KEPT,
};
use crate::store::{
    CallbackBatch, CallbackCounts, CallbackOutbox, Claim, Claimed, Cursor, DeadCallbacks, NextTry, RetriedCallback,
    Settlement, StoreError,
};

/// What is found due was not due so long before: whoever writes that something is due says so with a time of its own statement, and
/// none of ours runs for so long.
const LATE_MAX: Duration = Duration::from_secs(60);
/// How often all of it is looked through, all the same.
const LOOK_EVERYWHERE: Duration = Duration::from_mins(5);

/// Entries of rows that are gone stay in the index while somebody holds a snapshot: those before `$1` are not walked through.
const CLAIM_BATCHES: &str = "
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

const CLAIM_RETRIES: &str = "
    WITH due AS (
        SELECT purchase_id FROM callbacks
        WHERE dead_since IS NULL AND due_at > coalesce($1, '-infinity') AND due_at <= clock_timestamp()
        ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE callbacks AS callback SET due_at = clock_timestamp() + $3
        FROM due WHERE callback.purchase_id = due.purchase_id
        RETURNING callback.purchase_id, attempts, clock_timestamp() - began_at AS tried_for
    )
    SELECT purchase.purchase_id, userid, username, price::text, purchased_at, recorded_at, callback_url,
        attempts, extract(epoch FROM tried_for)::float8
    FROM claimed JOIN purchases AS purchase ON purchase.purchase_id = claimed.purchase_id";

/// Callbacks that wait for their host: one of a host that fails, some of one that is well.
const CLAIM_PARKED: &str = "
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
        SELECT parked.purchase_id, NOT is_well AS is_trial
        FROM host CROSS JOIN LATERAL (
            SELECT purchase_id FROM callbacks WHERE callbacks.host = host.host AND is_parked
            ORDER BY due_at LIMIT CASE WHEN host.is_well THEN $2 ELSE 1 END FOR UPDATE SKIP LOCKED
        ) AS parked
    ), claimed AS (
        UPDATE callbacks AS callback SET due_at = clock_timestamp() + $3, is_parked = false
        FROM chosen WHERE callback.purchase_id = chosen.purchase_id
        RETURNING callback.purchase_id, attempts, clock_timestamp() - began_at AS tried_for, is_trial
    )
    SELECT purchase.purchase_id, userid, username, price::text, purchased_at, recorded_at, callback_url,
        attempts, extract(epoch FROM tried_for)::float8, is_trial
    FROM claimed JOIN purchases AS purchase ON purchase.purchase_id = claimed.purchase_id";

/// What is parked has a host that somebody looks after; it is not forgotten in this very moment, for its time is another one now.
const SETTLE: &str = "
    WITH given AS MATERIALIZED (
        SELECT * FROM unnest(
            $3::uuid[], $4::text[], $5::timestamptz[], $6::float8[], $7::integer[], $8::float8[], $9::text[], $10::boolean[],
            $11::boolean[]
        ) AS given (id, host, recorded, tried_for, attempts, due_in, outcome, is_parked, is_dead)
    ), finished AS (
        DELETE FROM callback_batches WHERE batch_id = ANY ($1)
    ), delivered AS (
        DELETE FROM callbacks WHERE purchase_id = ANY ($2)
    ), looked_after AS (
        INSERT INTO callback_hosts (host, failing_since, failed_at, outcome, is_well, trial_at)
        SELECT DISTINCT ON (host) host, clock_timestamp(), clock_timestamp(), outcome, false, clock_timestamp() + $12
        FROM given WHERE is_parked ORDER BY host
        ON CONFLICT (host) DO UPDATE SET failed_at = excluded.failed_at
    )
    INSERT INTO callbacks AS callback
        (purchase_id, host, recorded_at, began_at, attempts, due_at, outcome, is_parked, dead_since)
    SELECT id, host, recorded, clock_timestamp() - tried_for * interval '1 second', attempts,
        clock_timestamp() + due_in * interval '1 second', outcome, is_parked, CASE WHEN is_dead THEN clock_timestamp() END
    FROM given ORDER BY id
    ON CONFLICT (purchase_id) DO UPDATE SET
        attempts = excluded.attempts, due_at = excluded.due_at, outcome = excluded.outcome,
        is_parked = excluded.is_parked, dead_since = excluded.dead_since";

const HOSTS: &str = "
    SELECT host, failing_since, failed_at, outcome, switched_off_at FROM callback_hosts
    WHERE NOT is_well AND host > coalesce($1, '') ORDER BY host LIMIT $2";

const NOTE_FAILED: &str = "
    INSERT INTO callback_hosts AS stored (host, failing_since, failed_at, outcome, is_well, trial_at)
    VALUES ($1, clock_timestamp(), clock_timestamp(), $2, false, clock_timestamp() + $4)
    ON CONFLICT (host) DO UPDATE SET
        failed_at = excluded.failed_at, outcome = excluded.outcome, is_well = false,
        failing_since = CASE WHEN stored.is_well THEN excluded.failing_since ELSE stored.failing_since END,
        trial_at = CASE WHEN stored.is_well THEN excluded.trial_at ELSE stored.trial_at END,
        switched_off_at = coalesce(stored.switched_off_at, CASE
            WHEN NOT stored.is_well AND excluded.failed_at - stored.failing_since >= $3 THEN excluded.failed_at
        END)
    RETURNING host, failing_since, failed_at, outcome, switched_off_at";

const NOTE_WELL: &str = "
    UPDATE callback_hosts SET is_well = true, trial_at = clock_timestamp(), switched_off_at = NULL
    WHERE host = $1 AND NOT is_well";

const LIST_DEAD: &str = "
    SELECT purchase_id, host, recorded_at, attempts, outcome, dead_since FROM callbacks
    WHERE dead_since IS NOT NULL AND (recorded_at, purchase_id) > ($1, $2) AND recorded_at < $3
        AND host = coalesce($4, host)
    ORDER BY recorded_at, purchase_id LIMIT $5";

const RESEND_DEAD: &str = "
    WITH chosen AS (
        SELECT purchase_id FROM callbacks
        WHERE dead_since IS NOT NULL AND (recorded_at, purchase_id) > ($1, $2) AND recorded_at < $3
            AND host = coalesce($4, host)
        ORDER BY recorded_at, purchase_id LIMIT $5 FOR UPDATE SKIP LOCKED
    )
    UPDATE callbacks AS callback
    SET dead_since = NULL, is_parked = false, attempts = 0, began_at = clock_timestamp(), due_at = clock_timestamp()
    FROM chosen WHERE callback.purchase_id = chosen.purchase_id";

const RESEND_ONE: &str = "
    INSERT INTO callbacks (purchase_id, host, recorded_at, began_at, attempts, due_at, outcome, is_parked)
    VALUES ($1, $2, $3, clock_timestamp(), 0, clock_timestamp(), 'resent', false)
    ON CONFLICT (purchase_id) DO UPDATE SET
        dead_since = NULL, is_parked = false, attempts = 0, began_at = excluded.began_at, due_at = excluded.due_at";

const COUNT: &str = "
    SELECT (SELECT count(*) FROM (SELECT FROM callbacks WHERE dead_since IS NULL LIMIT $1) AS waiting),
        (SELECT count(*) FROM (SELECT FROM callbacks WHERE dead_since IS NOT NULL LIMIT $1) AS dead),
        (SELECT count(*) FROM (SELECT FROM callback_hosts WHERE switched_off_at IS NOT NULL LIMIT $1) AS off),
        extract(epoch FROM greatest(interval '0', clock_timestamp() - least(
            (SELECT due_at FROM callbacks WHERE dead_since IS NULL ORDER BY due_at LIMIT 1),
            (SELECT claimed_until FROM callback_batches ORDER BY claimed_until LIMIT 1)
        )))::float8";

const FORGET: &str = "
    WITH old AS (
        SELECT purchase_id FROM callbacks
        WHERE dead_since < clock_timestamp() - $1 AND recorded_at < clock_timestamp() - $1
        ORDER BY recorded_at, purchase_id LIMIT $2 FOR UPDATE SKIP LOCKED
    ), hosts AS (
        DELETE FROM callback_hosts
        WHERE (is_well AND failed_at < clock_timestamp() - $3) OR failed_at < clock_timestamp() - $1
    ), unclaimed AS (
        DELETE FROM callback_batches WHERE claimed_until < clock_timestamp() - $1
    )
    DELETE FROM callbacks USING old WHERE callbacks.purchase_id = old.purchase_id";

/// Before when nothing is due any more.
#[derive(Default)]
pub(super) struct Looked(Mutex<Option<(DateTime<Utc>, DateTime<Utc>)>>);

impl Looked {
    /// From when on to look: now and then everywhere.
    fn from(&self) -> Option<DateTime<Utc>> {
        let looked = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (everywhere, last) = looked?;
        (last - everywhere < chrono::TimeDelta::from_std(LOOK_EVERYWHERE).ok()?).then_some(last)
    }

    /// All that was due at `at` is claimed.
    fn until(&self, at: DateTime<Utc>, was_everywhere: bool) {
        let before = at - LATE_MAX;
        let mut looked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let everywhere = looked.filter(|_| !was_everywhere).map_or(before, |(everywhere, _)| everywhere);
        *looked = Some((everywhere, before));
    }
}

#[async_trait]
impl CallbackOutbox for PostgresStore {
    async fn claim_callbacks(&self, claim: Claim) -> Result<Claimed, StoreError> {
        let lease = interval(claim.lease)?;
        let mut session = session::acquire(&self.reading).await?;
        let claimed = answer(async {
            let from = self.callbacks_looked.from();
            let at: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut *session).await?;
            let batches_max = i64::from(claim.limit).div_euclid(BATCH_MAX.try_into().unwrap_or(i64::MAX)).max(1);
            let batches = sqlx::query(CLAIM_BATCHES).bind(from).bind(batches_max).bind(lease);
            let batches = to_batches(&batches.fetch_all(&mut *session).await?)?;
            let retries = sqlx::query(CLAIM_RETRIES).bind(from).bind(i64::from(claim.limit)).bind(lease);
            let retries = retries.fetch_all(&mut *session).await?;
            let mut retries: Vec<_> = retries.iter().map(to_retry).collect::<Result<_, _>>()?;
            let is_full = i64::try_from(batches.len()).is_ok_and(|count| count >= batches_max)
                || retries.len() >= claim.limit as usize;
            if !is_full {
                self.callbacks_looked.until(at, from.is_none());
            }
            let parked = sqlx::query(CLAIM_PARKED)
                .bind(PARKED_HOSTS_MAX)
                .bind(PARKED_OF_HOST_MAX)
                .bind(lease)
                .bind(TRIAL_PAUSES.0)
                .bind(TRIAL_PAUSES.1)
                .bind(LOOK_PAUSE);
            let parked = parked.fetch_all(&mut *session).await?;
            for row in &parked {
                retries.push(RetriedCallback { is_trial: row.try_get(9)?, ..to_retry(row)? });
            }
            let has_more = parked.iter().any(|row| row.try_get(9).is_ok_and(|is_trial: bool| !is_trial));
            Ok(Claimed { batches, retries, is_full: is_full || has_more })
        });
        let claimed = claimed.await;
        Ok(session.judge(claimed)?)
    }

    async fn settle_callbacks(&self, settlement: &Settlement) -> Result<(), StoreError> {
        let failed = &settlement.failed;
        let query = sqlx::query(SETTLE)
            .bind(&settlement.finished_batches)
            .bind(&settlement.delivered)
            .bind(failed.iter().map(|one| one.purchase_id).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| one.host.as_str()).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| one.recorded_at.datetime()).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| one.tried_for.as_secs_f64()).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| i32::try_from(one.attempts).unwrap_or(i32::MAX)).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| one.next.due_in().as_secs_f64()).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| one.outcome.as_str()).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| matches!(one.next, NextTry::WhenHostIsWell(_))).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| one.next == NextTry::Never).collect::<Vec<_>>())
            .bind(TRIAL_PAUSES.0);
        self.execute(query).await.map(|_| ())
    }

    async fn list_callback_hosts(&self, after: Option<&str>, limit: u32) -> Result<Vec<FailingHost>, StoreError> {
        let mut session = session::acquire(&self.reading).await?;
        let query = sqlx::query(HOSTS).bind(after).bind(i64::from(limit));
        let rows = answer(query.fetch_all(&mut *session)).await;
        Ok(session.judge(rows)?.iter().map(to_host).collect::<Result<_, _>>()?)
    }

    async fn note_host_failed(&self, host: &str, outcome: &str, patience: Duration) -> Result<FailingHost, StoreError> {
        let query = sqlx::query(NOTE_FAILED).bind(host).bind(outcome).bind(interval(patience)?).bind(TRIAL_PAUSES.0);
        let mut session = session::acquire(&self.reading).await?;
        let row = answer(query.fetch_one(&mut *session)).await;
        Ok(to_host(&session.judge(row)?)?)
    }

    async fn note_host_well(&self, host: &str) -> Result<bool, StoreError> {
        Ok(self.execute(sqlx::query(NOTE_WELL).bind(host)).await? > 0)
    }

    async fn list_dead_callbacks(&self, query: &DeadCallbacks) -> Result<Vec<DeadCallback>, StoreError> {
        let mut session = session::acquire(&self.reading).await?;
        let rows = answer(bind_dead(sqlx::query(LIST_DEAD), query).fetch_all(&mut *session)).await;
        Ok(session.judge(rows)?.iter().map(to_dead).collect::<Result<_, _>>()?)
    }

    async fn resend_callbacks(&self, which: &DeadCallbacks) -> Result<u64, StoreError> {
        self.execute(bind_dead(sqlx::query(RESEND_DEAD), which)).await
    }

    async fn resend_callback(&self, purchase: &Purchase, host: &str) -> Result<(), StoreError> {
        let recorded_at = purchase.recorded_at.unwrap_or(purchase.timestamp).datetime();
        let query = sqlx::query(RESEND_ONE).bind(purchase.purchase_id).bind(host).bind(recorded_at);
        self.execute(query).await.map(|_| ())
    }

    async fn count_callbacks(&self) -> Result<CallbackCounts, StoreError> {
        let mut session = session::acquire(&self.reading).await?;
        let row = answer(sqlx::query_as(COUNT).bind(COUNTED_MAX).fetch_one(&mut *session)).await;
        let (waiting, dead, off, oldest): (i64, i64, i64, Option<f64>) = session.judge(row)?;
        let count = |count: i64| usize::try_from(count).unwrap_or(0);
        let oldest_due = Duration::try_from_secs_f64(oldest.unwrap_or(0.0)).unwrap_or_default();
        Ok(CallbackCounts { waiting: count(waiting), dead: count(dead), hosts_switched_off: count(off), oldest_due })
    }

    async fn forget_callbacks(&self, age: Duration) -> Result<u64, StoreError> {
        self.execute(sqlx::query(FORGET).bind(interval(age)?).bind(CHANGED_MAX).bind(WELL_KEPT)).await
    }
}

impl PostgresStore {
    /// Gives how many rows it has changed.
    async fn execute(&self, query: Query<'_, Postgres, PgArguments>) -> Result<u64, StoreError> {
        let mut session = session::acquire(&self.reading).await?;
        let done = answer(query.execute(&mut *session)).await;
        Ok(session.judge(done)?.rows_affected())
    }
}

fn bind_dead<'q>(
    query: Query<'q, Postgres, PgArguments>,
    which: &'q DeadCallbacks,
) -> Query<'q, Postgres, PgArguments> {
    // Before the first one that may have this time.
    let first = Cursor { timestamp: which.since, purchase_id: Uuid::nil() };
    let Cursor { timestamp: after, purchase_id: id } = which.after.unwrap_or(first);
    query
        .bind(after.datetime())
        .bind(id)
        .bind(which.until.datetime())
        .bind(which.host.as_deref())
        .bind(i64::from(which.limit))
}

fn interval(time: Duration) -> Result<PgInterval, StoreError> {
    PgInterval::try_from(time).map_err(|error| StoreError(error.to_string()))
}

fn to_batches(rows: &[PgRow]) -> Result<Vec<CallbackBatch>, sqlx::Error> {
    let mut batches: Vec<CallbackBatch> = Vec::new();
    for row in rows {
        let (batch_id, purchase) = (row.try_get(7)?, StoredPurchase::from_row(row)?.0);
        match batches.last_mut().filter(|batch| batch.batch_id == batch_id) {
            Some(batch) => batch.purchases.push(purchase),
            None => batches.push(CallbackBatch { batch_id, purchases: vec![purchase] }),
        }
    }
    Ok(batches)
}

fn to_retry(row: &PgRow) -> Result<RetriedCallback, sqlx::Error> {
    let attempts: i32 = row.try_get(7)?;
    let tried_for = Duration::try_from_secs_f64(row.try_get(8)?).unwrap_or_default();
    Ok(RetriedCallback {
        purchase: StoredPurchase::from_row(row)?.0,
        attempts: attempts.unsigned_abs(),
        tried_for,
        is_trial: false,
    })
}

fn to_host(row: &PgRow) -> Result<FailingHost, sqlx::Error> {
    let time = |column: usize| row.try_get::<DateTime<Utc>, _>(column).map(Timestamp::new);
    Ok(FailingHost {
        host: row.try_get(0)?,
        failing_since: time(1)?,
        failed_at: time(2)?,
        outcome: row.try_get(3)?,
        switched_off_at: row.try_get::<Option<DateTime<Utc>>, _>(4)?.map(Timestamp::new),
    })
}

fn to_dead(row: &PgRow) -> Result<DeadCallback, sqlx::Error> {
    let time = |column: usize| row.try_get::<DateTime<Utc>, _>(column).map(Timestamp::new);
    Ok(DeadCallback {
        purchase_id: row.try_get(0)?,
        host: row.try_get(1)?,
        recorded_at: time(2)?,
        attempts: row.try_get::<i32, _>(3)?.unsigned_abs(),
        outcome: row.try_get(4)?,
        dead_since: time(5)?,
    })
}
