//! The outbox in PostgreSQL.

mod statements;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared::callbacks::{DeadCallback, FailingHost};
use shared::event::{Purchase, Timestamp};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{FromRow as _, Postgres, Row as _};
use uuid::Uuid;

use self::statements::{
    CLAIM_BATCHES, CLAIM_PARKED, CLAIM_RETRIES, COUNT, FORGET, FORGET_HOSTS, GIVE_UP_UNCLAIMED, HOSTS, LIST_DEAD,
    NOTE_FAILED, NOTE_WELL, RESEND_DEAD, RESEND_ONE, SETTLE,
};
use super::read::CalledBack;
use super::{PostgresStore, answer, session};
use crate::store::callbacks::{
    BATCH_MAX, CHANGED_MAX, COUNTED_MAX, FORGIVEN_AFTER, LOOK_PAUSE, PARKED_HOSTS_MAX, PARKED_OF_HOST_MAX, SILENT_KEPT,
    TRIAL_PAUSES, WELL_KEPT,
};
use crate::store::{
    CallbackBatch, CallbackCounts, CallbackOutbox, Claim, Claimed, Cursor, DeadCallbacks, NextTry, Resent,
    RetriedCallback, Settlement, StoreError,
};

/// What is found due was not due so long before: whoever writes that something is due says so with a time of its own statement, and
/// none of ours runs for so long.
const LATE_MAX: Duration = Duration::from_mins(1);
/// How often all of it is looked through, all the same.
const LOOK_EVERYWHERE: Duration = Duration::from_mins(5);

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
        let mut session = session::acquire(&self.reading).await?;
        let claimed = answer(async {
            let from = self.callbacks_looked.from();
            let at: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut *session).await?;
            let batches_max = (i64::from(claim.limit) / i64::from(BATCH_MAX)).max(1);
            let batches = sqlx::query(CLAIM_BATCHES).bind(from).bind(batches_max).bind(claim.lease);
            let batches = to_batches(&batches.fetch_all(&mut *session).await?)?;
            let retries = sqlx::query(CLAIM_RETRIES).bind(from).bind(i64::from(claim.limit)).bind(claim.lease);
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
                .bind(claim.lease)
                .bind(TRIAL_PAUSES.0)
                .bind(TRIAL_PAUSES.1)
                .bind(LOOK_PAUSE);
            let parked = parked.fetch_all(&mut *session).await?;
            for row in &parked {
                retries.push(to_retry(row)?);
            }
            Ok(Claimed { batches, retries, is_full })
        });
        let claimed = claimed.await;
        Ok(session.judge(claimed)?)
    }

    async fn settle_callbacks(&self, settlement: &Settlement) -> Result<(), StoreError> {
        let (delivered, failed) = (&settlement.delivered, &settlement.failed);
        let query = sqlx::query(SETTLE)
            .bind(&settlement.finished_batches)
            .bind(delivered.iter().map(|one| one.purchase_id).collect::<Vec<_>>())
            .bind(delivered.iter().map(|one| one.claimed_until).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| one.purchase_id).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| one.host.as_str()).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| one.recorded_at.datetime()).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| one.tried_for.as_secs_f64()).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| i32::try_from(one.attempts).unwrap_or(i32::MAX)).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| one.next.due_in().as_secs_f64()).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| one.outcome.as_str()).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| one.next.is_parked()).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| one.next.is_host_well()).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| one.next == NextTry::Never).collect::<Vec<_>>())
            .bind(failed.iter().map(|one| one.claimed_until).collect::<Vec<_>>())
            .bind(TRIAL_PAUSES.0);
        self.execute(query).await.map(|_| ())
    }

    async fn list_callback_hosts(&self, after: Option<&str>, limit: u32) -> Result<Vec<FailingHost>, StoreError> {
        let mut session = session::acquire(&self.reading).await?;
        let query = sqlx::query(HOSTS).bind(after).bind(i64::from(limit));
        let rows = answer(query.fetch_all(&mut *session)).await;
        Ok(session.judge(rows)?.iter().map(to_host).collect::<Result<_, _>>()?)
    }

    async fn note_host_failed(
        &self,
        host: &str,
        outcome: &str,
        patience: Duration,
        hold: Duration,
    ) -> Result<FailingHost, StoreError> {
        let query = sqlx::query(NOTE_FAILED)
            .bind(host)
            .bind(outcome)
            .bind(patience)
            .bind(hold.max(TRIAL_PAUSES.0))
            .bind(FORGIVEN_AFTER)
            .bind(hold);
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

    async fn resend_callbacks(&self, which: &DeadCallbacks) -> Result<Resent, StoreError> {
        let mut session = session::acquire(&self.reading).await?;
        let rows = answer(bind_dead(sqlx::query(RESEND_DEAD), which).fetch_all(&mut *session)).await;
        let rows = session.judge(rows)?;
        Ok(Resent::of(&rows.iter().map(to_place).collect::<Result<Vec<_>, _>>()?))
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

    async fn forget_callbacks(&self, age: Duration) -> Result<bool, StoreError> {
        self.execute(sqlx::query(FORGET_HOSTS).bind(WELL_KEPT).bind(SILENT_KEPT)).await?;
        let batches = CHANGED_MAX / i64::from(BATCH_MAX);
        let given_up = self.execute(sqlx::query(GIVE_UP_UNCLAIMED).bind(age).bind(batches)).await?;
        let forgotten = self.execute(sqlx::query(FORGET).bind(age).bind(CHANGED_MAX)).await?;
        Ok(given_up > 0 || forgotten >= CHANGED_MAX.unsigned_abs())
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
    let start = which.start();
    query
        .bind(start.timestamp.datetime())
        .bind(start.purchase_id)
        .bind(which.until.datetime())
        .bind(which.host.as_deref())
        .bind(i64::from(which.limit))
}

fn to_batches(rows: &[PgRow]) -> Result<Vec<CallbackBatch>, sqlx::Error> {
    let mut batches: BTreeMap<Uuid, Vec<Purchase>> = BTreeMap::new();
    for row in rows {
        batches.entry(row.try_get(7)?).or_default().push(CalledBack::from_row(row)?.0);
    }
    Ok(batches.into_iter().map(|(batch_id, purchases)| CallbackBatch { batch_id, purchases }).collect())
}

fn to_place(row: &PgRow) -> Result<Cursor, sqlx::Error> {
    Ok(Cursor { timestamp: Timestamp::new(row.try_get(0)?), purchase_id: row.try_get(1)? })
}

fn to_retry(row: &PgRow) -> Result<RetriedCallback, sqlx::Error> {
    let attempts: i32 = row.try_get(7)?;
    Ok(RetriedCallback {
        purchase: CalledBack::from_row(row)?.0,
        attempts: attempts.unsigned_abs(),
        tried_for: Duration::try_from_secs_f64(row.try_get(8)?).unwrap_or_default(),
        claimed_until: row.try_get(9)?,
        is_host_off: row.try_get(10)?,
        is_host_known: row.try_get(11)?,
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
