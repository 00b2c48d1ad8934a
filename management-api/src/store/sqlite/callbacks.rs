//! The outbox in SQLite.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use shared::callbacks::{DeadCallback, FailingHost};
use shared::event::{Purchase, Timestamp};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Connection as _, FromRow as _, Row as _, Sqlite};
use uuid::Uuid;

use super::read::StoredPurchase;
use super::sessions::parse_id;
use super::{BEGIN_WRITING, SqliteStore, json_list, judge};
use crate::store::callbacks::{
    BATCH_MAX, CHANGED_MAX, COUNTED_MAX, LOOK_PAUSE, PARKED_HOSTS_MAX, PARKED_OF_HOST_MAX, TRIAL_PAUSES, WELL_KEPT,
};
use crate::store::{
    CallbackBatch, CallbackCounts, CallbackOutbox, Claim, Claimed, Cursor, DeadCallbacks, NextTry, RetriedCallback,
    Settlement, StoreError,
};

const APPEND: &str = "
    INSERT INTO callback_batches (batch_id, recorded_at, claimed_until, purchase_ids)
    SELECT value ->> 0, ?2, ?3, value ->> 1 FROM json_each(?1)";

const CLAIM_BATCHES: &str = "
    UPDATE callback_batches SET claimed_until = ?2
    WHERE batch_id IN (
        SELECT batch_id FROM callback_batches WHERE claimed_until <= ?1 ORDER BY claimed_until LIMIT ?3
    )
    RETURNING batch_id, purchase_ids";

const OF_BATCH: &str = "
    SELECT purchase_id, userid, username, price, purchased_at, recorded_at, callback_url
    FROM purchases WHERE purchase_id IN (SELECT value FROM json_each(?1))";

const DUE: &str = "
    SELECT purchase_id, userid, username, price, purchased_at, purchases.recorded_at, callback_url, attempts, began_at
    FROM (
        SELECT purchase_id, attempts, began_at FROM callbacks
        WHERE dead_since IS NULL AND due_at <= ?1 ORDER BY due_at LIMIT ?2
    ) CROSS JOIN purchases USING (purchase_id)";

const CLAIM_RETRIES: &str =
    "UPDATE callbacks SET due_at = ?2, is_parked = 0 WHERE purchase_id IN (SELECT value FROM json_each(?1))";

const DUE_HOSTS: &str = "
    SELECT host, is_well, failing_since, EXISTS (SELECT 1 FROM callbacks WHERE callbacks.host = callback_hosts.host AND is_parked)
    FROM callback_hosts WHERE switched_off_at IS NULL AND trial_at <= ?1 ORDER BY trial_at LIMIT ?2";

const SET_TRIAL: &str = "UPDATE callback_hosts SET trial_at = ?2 WHERE host = ?1";

const PARKED: &str = "
    SELECT purchase_id, userid, username, price, purchased_at, purchases.recorded_at, callback_url, attempts, began_at
    FROM (
        SELECT purchase_id, attempts, began_at FROM callbacks WHERE host = ?1 AND is_parked ORDER BY due_at LIMIT ?2
    ) CROSS JOIN purchases USING (purchase_id)";

const FINISH: &str = "DELETE FROM callback_batches WHERE batch_id IN (SELECT value FROM json_each(?1))";

const DELIVERED: &str = "DELETE FROM callbacks WHERE purchase_id IN (SELECT value FROM json_each(?1))";

/// `true`: without a condition SQLite would take ON for that of a join.
const FAILED: &str = "
    INSERT INTO callbacks (purchase_id, host, recorded_at, began_at, attempts, due_at, outcome, is_parked, dead_since)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8
    FROM json_each(?1) WHERE true
    ON CONFLICT (purchase_id) DO UPDATE SET
        attempts = excluded.attempts, due_at = excluded.due_at, outcome = excluded.outcome,
        is_parked = excluded.is_parked, dead_since = excluded.dead_since";

/// What is parked has a host that somebody looks after.
const LOOK_AFTER: &str = "
    INSERT INTO callback_hosts (host, failing_since, failed_at, outcome, is_well, trial_at)
    SELECT value ->> 1, ?2, ?2, min(value ->> 6), 0, ?3 FROM json_each(?1) WHERE value ->> 7 GROUP BY value ->> 1
    ON CONFLICT (host) DO UPDATE SET failed_at = excluded.failed_at";

const HOSTS: &str = "
    SELECT host, failing_since, failed_at, outcome, switched_off_at FROM callback_hosts
    WHERE NOT is_well AND host > coalesce(?1, '') ORDER BY host LIMIT ?2";

/// `?4`: who has failed since then is switched off.
const NOTE_FAILED: &str = "
    INSERT INTO callback_hosts (host, failing_since, failed_at, outcome, is_well, trial_at) VALUES (?1, ?2, ?2, ?3, 0, ?5)
    ON CONFLICT (host) DO UPDATE SET
        failed_at = excluded.failed_at, outcome = excluded.outcome, is_well = 0,
        failing_since = iif(is_well, excluded.failing_since, failing_since),
        trial_at = iif(is_well, excluded.trial_at, trial_at),
        switched_off_at = coalesce(
            switched_off_at, iif(NOT is_well AND failing_since <= ?4, excluded.failed_at, NULL)
        )
    RETURNING host, failing_since, failed_at, outcome, switched_off_at";

const NOTE_WELL: &str = "
    UPDATE callback_hosts SET is_well = 1, trial_at = ?2, switched_off_at = NULL WHERE host = ?1 AND NOT is_well";

const LIST_DEAD: &str = "
    SELECT purchase_id, host, recorded_at, attempts, outcome, dead_since FROM callbacks
    WHERE dead_since IS NOT NULL AND (recorded_at, purchase_id) > (?1, ?2) AND recorded_at < ?3 AND host = coalesce(?4, host)
    ORDER BY recorded_at, purchase_id LIMIT ?5";

const RESEND_DEAD: &str = "
    UPDATE callbacks SET dead_since = NULL, is_parked = 0, attempts = 0, began_at = ?6, due_at = ?6
    WHERE purchase_id IN (
        SELECT purchase_id FROM callbacks
        WHERE dead_since IS NOT NULL AND (recorded_at, purchase_id) > (?1, ?2) AND recorded_at < ?3
            AND host = coalesce(?4, host)
        ORDER BY recorded_at, purchase_id LIMIT ?5
    )";

const RESEND_ONE: &str = "
    INSERT INTO callbacks (purchase_id, host, recorded_at, began_at, attempts, due_at, outcome, is_parked)
    VALUES (?1, ?2, ?3, ?4, 0, ?4, 'resent', 0)
    ON CONFLICT (purchase_id) DO UPDATE SET dead_since = NULL, is_parked = 0, attempts = 0, began_at = ?4, due_at = ?4";

const COUNT: &str = "
    SELECT (SELECT count(*) FROM (SELECT 1 FROM callbacks WHERE dead_since IS NULL LIMIT ?1)),
        (SELECT count(*) FROM (SELECT 1 FROM callbacks WHERE dead_since IS NOT NULL LIMIT ?1)),
        (SELECT count(*) FROM callback_hosts WHERE switched_off_at IS NOT NULL),
        (SELECT min(due_at) FROM callbacks WHERE dead_since IS NULL),
        (SELECT min(claimed_until) FROM callback_batches)";

const FORGET_HOSTS: &str = "DELETE FROM callback_hosts WHERE failed_at < ?1 OR (is_well AND failed_at < ?2)";

const FORGET_UNCLAIMED: &str = "DELETE FROM callback_batches WHERE claimed_until < ?1";

const FORGET: &str = "
    DELETE FROM callbacks WHERE purchase_id IN (
        SELECT purchase_id FROM callbacks
        WHERE dead_since < ?1 AND recorded_at < ?1 ORDER BY recorded_at, purchase_id LIMIT ?2
    )";

/// Appends rows of the outbox.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    batches: &[CallbackBatch],
    recorded_at: Timestamp,
    lease: Duration,
) -> Result<(), sqlx::Error> {
    if batches.is_empty() {
        return Ok(());
    }
    let ids = |batch: &CallbackBatch| json_list(batch.purchases.iter().map(|purchase| purchase.purchase_id));
    let rows = batches.iter().map(|batch| json!([batch.batch_id, ids(batch)])).collect::<Value>().to_string();
    let query =
        sqlx::query(APPEND).bind(rows).bind(recorded_at.to_string()).bind(Timestamp::now().after(lease).to_string());
    query.execute(connection).await?;
    Ok(())
}

#[async_trait]
impl CallbackOutbox for SqliteStore {
    async fn claim_callbacks(&self, claim: Claim) -> Result<Claimed, StoreError> {
        let mut writer = self.account_writer().await?;
        let claimed = claim_due(&mut writer.connection, claim).await;
        judge(writer, claimed)
    }

    async fn settle_callbacks(&self, settlement: &Settlement) -> Result<(), StoreError> {
        let mut writer = self.account_writer().await?;
        let settled = settle(&mut writer.connection, settlement).await;
        judge(writer, settled)
    }

    async fn list_callback_hosts(&self, after: Option<&str>, limit: u32) -> Result<Vec<FailingHost>, StoreError> {
        let rows = sqlx::query(HOSTS).bind(after).bind(limit).fetch_all(&self.reading).await?;
        rows.iter().map(to_host).collect()
    }

    async fn note_host_failed(&self, host: &str, outcome: &str, patience: Duration) -> Result<FailingHost, StoreError> {
        let now = Timestamp::now();
        let query = sqlx::query(NOTE_FAILED)
            .bind(host)
            .bind(now.to_string())
            .bind(outcome)
            .bind(now.before(patience).to_string())
            .bind(now.after(TRIAL_PAUSES.0).to_string());
        let mut writer = self.account_writer().await?;
        let row = query.fetch_one(&mut *writer.connection).await;
        to_host(&judge(writer, row)?)
    }

    async fn note_host_well(&self, host: &str) -> Result<bool, StoreError> {
        let query = sqlx::query(NOTE_WELL).bind(host).bind(Timestamp::now().to_string());
        Ok(self.execute(query).await? > 0)
    }

    async fn list_dead_callbacks(&self, query: &DeadCallbacks) -> Result<Vec<DeadCallback>, StoreError> {
        let rows = bind_dead(sqlx::query(LIST_DEAD), query).fetch_all(&self.reading).await?;
        rows.iter().map(to_dead).collect()
    }

    async fn resend_callbacks(&self, which: &DeadCallbacks) -> Result<u64, StoreError> {
        self.execute(bind_dead(sqlx::query(RESEND_DEAD), which).bind(Timestamp::now().to_string())).await
    }

    async fn resend_callback(&self, purchase: &Purchase, host: &str) -> Result<(), StoreError> {
        let query = sqlx::query(RESEND_ONE)
            .bind(purchase.purchase_id.to_string())
            .bind(host)
            .bind(purchase.recorded_at.unwrap_or(purchase.timestamp).to_string())
            .bind(Timestamp::now().to_string());
        self.execute(query).await.map(|_| ())
    }

    async fn count_callbacks(&self) -> Result<CallbackCounts, StoreError> {
        let row = sqlx::query_as(COUNT).bind(COUNTED_MAX).fetch_one(&self.reading).await?;
        let (waiting, dead, off, due, claimed): (i64, i64, i64, Option<String>, Option<String>) = row;
        let count = |count: i64| usize::try_from(count).unwrap_or(0);
        let oldest = [due, claimed].into_iter().flatten().filter_map(|time| Timestamp::parse(&time).ok()).min();
        let oldest_due = oldest.map(|time| Timestamp::now().since(time)).unwrap_or_default();
        Ok(CallbackCounts { waiting: count(waiting), dead: count(dead), hosts_switched_off: count(off), oldest_due })
    }

    async fn forget_callbacks(&self, age: Duration) -> Result<u64, StoreError> {
        let (before, well) = (Timestamp::now().before(age).to_string(), Timestamp::now().before(WELL_KEPT).to_string());
        self.execute(sqlx::query(FORGET_HOSTS).bind(before.clone()).bind(well)).await?;
        self.execute(sqlx::query(FORGET_UNCLAIMED).bind(before.clone())).await?;
        self.execute(sqlx::query(FORGET).bind(before).bind(CHANGED_MAX)).await
    }
}

impl SqliteStore {
    /// Gives how many rows it has changed.
    async fn execute(&self, query: Query<'_, Sqlite, SqliteArguments>) -> Result<u64, StoreError> {
        let mut writer = self.account_writer().await?;
        let done = query.execute(&mut *writer.connection).await;
        judge(writer, done.map(|done| done.rows_affected()))
    }
}

async fn claim_due(connection: &mut SqliteConnection, claim: Claim) -> Result<Claimed, sqlx::Error> {
    let now = Timestamp::now();
    let until = now.after(claim.lease).to_string();
    let batches_max = (claim.limit as usize / BATCH_MAX).max(1);
    let mut transaction = connection.begin_with(BEGIN_WRITING).await?;
    let query = sqlx::query_as(CLAIM_BATCHES)
        .bind(now.to_string())
        .bind(&until)
        .bind(i64::try_from(batches_max).unwrap_or(i64::MAX));
    let rows: Vec<(String, String)> = query.fetch_all(&mut *transaction).await?;
    let mut batches = Vec::with_capacity(rows.len());
    for (batch_id, ids) in rows {
        let purchases = sqlx::query(OF_BATCH).bind(ids).fetch_all(&mut *transaction).await?;
        let purchases = purchases.iter().map(|row| StoredPurchase::from_row(row).map(|row| row.0));
        let batch_id = Uuid::try_parse(&batch_id).map_err(|error| sqlx::Error::Decode(error.into()))?;
        batches.push(CallbackBatch { batch_id, purchases: purchases.collect::<Result<_, _>>()? });
    }
    let due = sqlx::query(DUE).bind(now.to_string()).bind(claim.limit).fetch_all(&mut *transaction).await?;
    let mut retries: Vec<RetriedCallback> = due.iter().map(|row| to_retry(row, now)).collect::<Result<_, _>>()?;
    let is_full = batches.len() >= batches_max || retries.len() >= claim.limit as usize;
    let parked = claim_parked(&mut transaction, now).await?;
    let has_more = parked.iter().any(|retry| !retry.is_trial);
    retries.extend(parked);
    let ids = json_list(retries.iter().map(|retry| retry.purchase.purchase_id));
    sqlx::query(CLAIM_RETRIES).bind(ids).bind(until).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(Claimed { batches, retries, is_full: is_full || has_more })
}

/// Callbacks that wait for their host: one of a host that fails, some of one that is well.
async fn claim_parked(connection: &mut SqliteConnection, now: Timestamp) -> Result<Vec<RetriedCallback>, sqlx::Error> {
    let query = sqlx::query(DUE_HOSTS).bind(now.to_string()).bind(PARKED_HOSTS_MAX);
    let mut parked = Vec::new();
    for row in query.fetch_all(&mut *connection).await? {
        let (host, is_well, has_parked): (&str, bool, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(3)?);
        let pause = match (is_well, has_parked) {
            (false, _) => (now.since(time(&row, 2)?) / 4).clamp(TRIAL_PAUSES.0, TRIAL_PAUSES.1),
            (true, true) => Duration::ZERO,
            (true, false) => LOOK_PAUSE,
        };
        let query = sqlx::query(SET_TRIAL).bind(host).bind(now.after(pause).to_string());
        query.execute(&mut *connection).await?;
        let query = sqlx::query(PARKED).bind(host).bind(if is_well { PARKED_OF_HOST_MAX } else { 1 });
        for row in query.fetch_all(&mut *connection).await? {
            parked.push(RetriedCallback { is_trial: !is_well, ..to_retry(&row, now)? });
        }
    }
    Ok(parked)
}

async fn settle(connection: &mut SqliteConnection, settlement: &Settlement) -> Result<(), sqlx::Error> {
    let now = Timestamp::now();
    let failed = settlement.failed.iter().map(|one| {
        let due_at = now.after(one.next.due_in());
        let dead_since = (one.next == NextTry::Never).then_some(now);
        let is_parked = i32::from(matches!(one.next, NextTry::WhenHostIsWell(_)));
        let (id, began_at) = (one.purchase_id, now.before(one.tried_for));
        json!([id, one.host, one.recorded_at, began_at, one.attempts, due_at, one.outcome, is_parked, dead_since])
    });
    let failed = failed.collect::<Value>().to_string();
    let mut transaction = connection.begin_with(BEGIN_WRITING).await?;
    let finished = json_list(settlement.finished_batches.iter().copied());
    sqlx::query(FINISH).bind(finished).execute(&mut *transaction).await?;
    let delivered = json_list(settlement.delivered.iter().copied());
    sqlx::query(DELIVERED).bind(delivered).execute(&mut *transaction).await?;
    let looked_after =
        sqlx::query(LOOK_AFTER).bind(&failed).bind(now.to_string()).bind(now.after(TRIAL_PAUSES.0).to_string());
    looked_after.execute(&mut *transaction).await?;
    sqlx::query(FAILED).bind(failed).execute(&mut *transaction).await?;
    transaction.commit().await
}

fn bind_dead<'q>(
    query: Query<'q, Sqlite, SqliteArguments>,
    which: &'q DeadCallbacks,
) -> Query<'q, Sqlite, SqliteArguments> {
    let first = Cursor { timestamp: which.since, purchase_id: Uuid::nil() };
    let Cursor { timestamp: after, purchase_id: id } = which.after.unwrap_or(first);
    query
        .bind(after.to_string())
        .bind(id.to_string())
        .bind(which.until.to_string())
        .bind(which.host.as_deref())
        .bind(which.limit)
}

fn time(row: &SqliteRow, column: usize) -> Result<Timestamp, sqlx::Error> {
    Timestamp::parse(row.try_get(column)?).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn to_retry(row: &SqliteRow, now: Timestamp) -> Result<RetriedCallback, sqlx::Error> {
    Ok(RetriedCallback {
        purchase: StoredPurchase::from_row(row)?.0,
        attempts: row.try_get(7)?,
        tried_for: now.since(time(row, 8)?),
        is_trial: false,
    })
}

fn to_host(row: &SqliteRow) -> Result<FailingHost, StoreError> {
    let switched_off_at: Option<&str> = row.try_get(4)?;
    Ok(FailingHost {
        host: row.try_get(0)?,
        failing_since: time(row, 1)?,
        failed_at: time(row, 2)?,
        outcome: row.try_get(3)?,
        switched_off_at: switched_off_at.map(|_| time(row, 4)).transpose()?,
    })
}

fn to_dead(row: &SqliteRow) -> Result<DeadCallback, StoreError> {
    Ok(DeadCallback {
        purchase_id: parse_id(row.try_get(0)?)?,
        host: row.try_get(1)?,
        recorded_at: time(row, 2)?,
        attempts: row.try_get(3)?,
        outcome: row.try_get(4)?,
        dead_since: time(row, 5)?,
    })
}
