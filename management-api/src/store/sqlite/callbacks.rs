//! The outbox in SQLite.

mod statements;

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use shared::callbacks::{DeadCallback, FailingHost};
use shared::event::{Purchase, Timestamp};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Connection as _, FromRow as _, Row as _, Sqlite};
use uuid::Uuid;

use self::statements::{
    APPEND, CHANGED, CLAIM_BATCHES, CLAIM_RETRIES, COUNT, DELIVERED, DUE, DUE_HOSTS, FAILED, FINISH, FORGET,
    FORGET_HOSTS, GIVE_UP, HOSTS, LIST_DEAD, LOOK_AFTER, NOTE_FAILED, NOTE_WELL, OF_BATCH, PARKED, RESEND_DEAD,
    RESEND_ONE, SET_TRIAL, UNCLAIMED,
};
use super::read::CalledBack;
use super::sessions::parse_id;
use super::{BEGIN_WRITING, SqliteStore, json_list, judge};
use crate::store::callbacks::{
    BATCH_MAX, CHANGED_MAX, COUNTED_MAX, FORGIVEN_AFTER, LOOK_PAUSE, PARKED_HOSTS_MAX, PARKED_OF_HOST_MAX, SILENT_KEPT,
    TRIAL_PAUSES, WELL_KEPT,
};
use crate::store::{
    CallbackBatch, CallbackCounts, CallbackOutbox, Claim, Claimed, Cursor, DeadCallbacks, NextTry, Resent,
    RetriedCallback, Settlement, StoreError,
};

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

    async fn note_host_failed(
        &self,
        host: &str,
        outcome: &str,
        patience: Duration,
        hold: Duration,
    ) -> Result<FailingHost, StoreError> {
        let now = Timestamp::now();
        let query = sqlx::query(NOTE_FAILED)
            .bind(host)
            .bind(now.to_string())
            .bind(outcome)
            .bind(now.before(patience).to_string())
            .bind(now.after(hold.max(TRIAL_PAUSES.0)).to_string())
            .bind(now.before(FORGIVEN_AFTER).to_string())
            .bind(now.after(hold).to_string());
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

    async fn resend_callbacks(&self, which: &DeadCallbacks) -> Result<Resent, StoreError> {
        let query = bind_dead(sqlx::query(RESEND_DEAD), which).bind(Timestamp::now().to_string());
        let mut writer = self.account_writer().await?;
        let rows = query.fetch_all(&mut *writer.connection).await;
        let rows = judge(writer, rows)?;
        Ok(Resent::of(&rows.iter().map(to_place).collect::<Result<Vec<_>, _>>()?))
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

    async fn forget_callbacks(&self, age: Duration) -> Result<bool, StoreError> {
        let now = Timestamp::now();
        let (well, silent) = (now.before(WELL_KEPT).to_string(), now.before(SILENT_KEPT).to_string());
        self.execute(sqlx::query(FORGET_HOSTS).bind(well).bind(silent)).await?;
        let mut writer = self.account_writer().await?;
        let given_up = give_up_unclaimed(&mut writer.connection, now, age).await;
        let given_up = judge(writer, given_up)?;
        let forget = sqlx::query(FORGET).bind(now.before(age).to_string()).bind(CHANGED_MAX);
        Ok(given_up || self.execute(forget).await? >= CHANGED_MAX.unsigned_abs())
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
    let until = now.after(claim.lease);
    let batches_max = (i64::from(claim.limit) / i64::from(BATCH_MAX)).max(1);
    let mut transaction = connection.begin_with(BEGIN_WRITING).await?;
    let query = sqlx::query_as(CLAIM_BATCHES).bind(now.to_string()).bind(until.to_string()).bind(batches_max);
    let rows: Vec<(String, String)> = query.fetch_all(&mut *transaction).await?;
    let mut batches = Vec::with_capacity(rows.len());
    for (batch_id, ids) in rows {
        let purchases = sqlx::query(OF_BATCH).bind(ids).fetch_all(&mut *transaction).await?;
        let purchases = purchases.iter().map(|row| CalledBack::from_row(row).map(|row| row.0));
        let batch_id = Uuid::try_parse(&batch_id).map_err(|error| sqlx::Error::Decode(error.into()))?;
        batches.push(CallbackBatch { batch_id, purchases: purchases.collect::<Result<_, _>>()? });
    }
    let due = sqlx::query(DUE).bind(now.to_string()).bind(claim.limit).fetch_all(&mut *transaction).await?;
    let mut retries: Vec<RetriedCallback> =
        due.iter().map(|row| to_retry(row, now, until)).collect::<Result<_, _>>()?;
    let is_full =
        i64::try_from(batches.len()).is_ok_and(|count| count >= batches_max) || retries.len() >= claim.limit as usize;
    retries.extend(claim_parked(&mut transaction, now, until).await?);
    let ids = json_list(retries.iter().map(|retry| retry.purchase.purchase_id));
    sqlx::query(CLAIM_RETRIES).bind(ids).bind(until.to_string()).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(Claimed { batches, retries, is_full })
}

/// Callbacks that wait for their host: one of a host that fails, some of one that is well.
async fn claim_parked(
    connection: &mut SqliteConnection,
    now: Timestamp,
    until: Timestamp,
) -> Result<Vec<RetriedCallback>, sqlx::Error> {
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
            parked.push(to_retry(&row, now, until)?);
        }
    }
    Ok(parked)
}

async fn settle(connection: &mut SqliteConnection, settlement: &Settlement) -> Result<(), sqlx::Error> {
    let now = Timestamp::now();
    let failed = settlement.failed.iter().map(|one| {
        let due_at = now.after(one.next.due_in());
        let dead_since = (one.next == NextTry::Never).then_some(now);
        let (is_parked, is_well) = (i32::from(one.next.is_parked()), i32::from(one.next.is_host_well()));
        let (id, began_at) = (one.purchase_id, now.before(one.tried_for));
        let claimed = one.claimed_until.map(Timestamp::new);
        json!([
            id,
            one.host,
            one.recorded_at,
            began_at,
            one.attempts,
            due_at,
            one.outcome,
            is_parked,
            dead_since,
            is_well,
            claimed
        ])
    });
    let failed = failed.collect::<Value>().to_string();
    let mut transaction = connection.begin_with(BEGIN_WRITING).await?;
    let finished = json_list(settlement.finished_batches.iter().copied());
    sqlx::query(FINISH).bind(finished).execute(&mut *transaction).await?;
    let delivered = settlement.delivered.iter().map(|one| json!([one.purchase_id, Timestamp::new(one.claimed_until)]));
    let delivered = delivered.collect::<Value>().to_string();
    sqlx::query(DELIVERED).bind(delivered).execute(&mut *transaction).await?;
    let looked_after =
        sqlx::query(LOOK_AFTER).bind(&failed).bind(now.to_string()).bind(now.after(TRIAL_PAUSES.0).to_string());
    looked_after.execute(&mut *transaction).await?;
    sqlx::query(CHANGED).bind(&failed).execute(&mut *transaction).await?;
    sqlx::query(FAILED).bind(failed).execute(&mut *transaction).await?;
    transaction.commit().await
}

async fn give_up_unclaimed(
    connection: &mut SqliteConnection,
    now: Timestamp,
    age: Duration,
) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin_with(BEGIN_WRITING).await?;
    let query =
        sqlx::query_scalar(UNCLAIMED).bind(now.before(age).to_string()).bind(CHANGED_MAX / i64::from(BATCH_MAX));
    let batches: Vec<String> = query.fetch_all(&mut *transaction).await?;
    let ids = json!(batches).to_string();
    sqlx::query(GIVE_UP).bind(&ids).bind(now.to_string()).execute(&mut *transaction).await?;
    sqlx::query(FINISH).bind(ids).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(!batches.is_empty())
}

fn bind_dead<'q>(
    query: Query<'q, Sqlite, SqliteArguments>,
    which: &'q DeadCallbacks,
) -> Query<'q, Sqlite, SqliteArguments> {
    let start = which.start();
    query
        .bind(start.timestamp.to_string())
        .bind(start.purchase_id.to_string())
        .bind(which.until.to_string())
        .bind(which.host.as_deref())
        .bind(which.limit)
}

fn time(row: &SqliteRow, column: usize) -> Result<Timestamp, sqlx::Error> {
    Timestamp::parse(row.try_get(column)?).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn to_place(row: &SqliteRow) -> Result<Cursor, StoreError> {
    Ok(Cursor { timestamp: time(row, 0)?, purchase_id: parse_id(row.try_get(1)?)? })
}

fn to_retry(row: &SqliteRow, now: Timestamp, until: Timestamp) -> Result<RetriedCallback, sqlx::Error> {
    Ok(RetriedCallback {
        purchase: CalledBack::from_row(row)?.0,
        attempts: row.try_get(7)?,
        tried_for: now.since(time(row, 8)?),
        claimed_until: until.datetime(),
        is_host_off: row.try_get(9)?,
        is_host_known: row.try_get(10)?,
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
