//! Recording: one transaction a batch, many rows a statement.

use std::collections::BTreeMap;

use async_trait::async_trait;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use shared::api_keys::Day;
use shared::event::{Purchase, Timestamp};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{Connection as _, Sqlite};
use uuid::Uuid;

use super::fault::Fault;
use super::{BEGIN_WRITING, SqliteStore, callbacks, commits, dead_letters, read};
use crate::letter::Sending;
use crate::store::pending::{PendingRows, at};
use crate::store::{Batch, OffsetMove, PartitionOffset, RecordError, Recorded, Recording, StoreError};

const MOVE_OFFSET: &str = "
    UPDATE consumer_offsets SET next_offset = ?3
    WHERE topic_incarnation = ?1 AND kafka_partition = ?2 AND next_offset = ?4 AND NOT EXISTS (
        SELECT 1 FROM leader_epochs AS epoch
        WHERE epoch.topic_incarnation = ?1 AND epoch.kafka_partition = ?2 AND epoch.next_offset = ?4
            AND epoch.leader_epoch <> ?5
    )";

const FIRST_OFFSET: &str = "INSERT INTO consumer_offsets VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";

/// A partition without a row yet is at 0.
const NEXT_OFFSETS: &str = "
    SELECT given.value, coalesce(stored.next_offset, 0), epoch.leader_epoch
    FROM json_each(?2) AS given
    LEFT JOIN consumer_offsets AS stored
        ON stored.topic_incarnation = ?1 AND stored.kafka_partition = given.value
    LEFT JOIN leader_epochs AS epoch
        ON epoch.topic_incarnation = ?1 AND epoch.kafka_partition = given.value
            AND epoch.next_offset = stored.next_offset";

const SET_EPOCH: &str = "REPLACE INTO leader_epochs VALUES (?1, ?2, ?3, ?4)";

const INSERT: &str = "
    INSERT INTO purchases (purchase_id, userid, username, price, purchased_at, callback_url, recorded_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, ?2 FROM json_each(?1)";

const TOTALS: &str = "
    SELECT userid, purchase_count, total_spent
    FROM json_each(?1) CROSS JOIN user_totals ON userid = value AND kafka_partition = ?2";

const REPLACE_TOTALS: &str = "
    REPLACE INTO user_totals (userid, kafka_partition, purchase_count, total_spent)
    SELECT value ->> 0, ?2, value ->> 1, value ->> 2 FROM json_each(?1)";

/// `true`: without a condition SQLite would take ON for that of a join.
const COUNT_FOR_KEYS: &str = "
    INSERT INTO api_key_purchases (key_id, day, kafka_partition, purchases)
    SELECT value ->> 0, value ->> 1, ?2, value ->> 2 FROM json_each(?1) WHERE true
    ON CONFLICT (key_id, day, kafka_partition) DO UPDATE SET purchases = purchases + excluded.purchases";

/// Why a transaction was not committed.
pub(super) enum Failure {
    Refused(RecordError),
    Sql(sqlx::Error),
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        Self::Refused(error)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

#[async_trait]
impl Recording for SqliteStore {
    async fn migrate(&self) -> Result<(), StoreError> {
        self.run_migrations().await
    }

    async fn record(&self, batch: &Batch) -> Result<Recorded, RecordError> {
        record(&self.writing, batch).await
    }

    async fn next_offsets(&self, incarnation: &str, partitions: &[i32]) -> Result<Vec<PartitionOffset>, StoreError> {
        let mut connection = self.writing.acquire().await?;
        Ok(next_offsets(&mut connection, incarnation, partitions).await?)
    }

    async fn find_recorded(&self, ids: &[Uuid]) -> Result<Vec<Purchase>, StoreError> {
        let mut connection = self.writing.acquire().await?;
        Ok(read::find_purchases(&mut connection, ids).await?)
    }

    async fn find_announced(&self, sendings: &[Sending]) -> Result<Vec<Sending>, StoreError> {
        dead_letters::find_announced(&self.writing, sendings).await
    }
}

pub(super) async fn record(pool: &SqlitePool, batch: &Batch) -> Result<Recorded, RecordError> {
    let mut connection = pool.acquire().await.map_err(StoreError::from)?;
    let recorded = record_on(&mut connection, batch).await;
    recorded.map_err(|failure| refusal(connection, failure))
}

async fn record_on(connection: &mut SqliteConnection, batch: &Batch) -> Result<Recorded, Failure> {
    let mut rows = PendingRows::new(batch)?;
    let mut transaction = connection.begin_with(BEGIN_WRITING).await?;
    for step in &batch.moves {
        if !move_offset(&mut transaction, &batch.incarnation, step).await? {
            return Err(RecordError::Fenced.into());
        }
    }
    rows.remove_stored(&read::find_purchases(&mut transaction, &rows.ids()).await?)?;
    let recorded_at = Timestamp::now();
    insert(&mut transaction, &rows, recorded_at).await?;
    // Any one partition of the batch will do: whoever owns it is the only one to write its totals.
    let partition = batch.moves.first().map_or(0, |step| step.partition);
    add_totals(&mut transaction, &rows, partition).await?;
    count_for_keys(&mut transaction, &rows.bought_by_keys(batch), partition).await?;
    commits::append(&mut transaction, partition, &rows, recorded_at).await?;
    let callbacks = at(rows.callback_batches(), recorded_at);
    callbacks::append(&mut transaction, &callbacks, recorded_at, batch.callback_lease).await?;
    dead_letters::keep(&mut transaction, &batch.dead_letters, recorded_at).await?;
    transaction.commit().await?;
    Ok(Recorded { inserted: rows.len(), duplicates: batch.rows.len() - rows.len(), recorded_at, callbacks })
}

/// The connection is closed where the fault could stay with it.
pub(super) fn refusal(mut connection: PoolConnection<Sqlite>, failure: Failure) -> RecordError {
    let error = match failure {
        Failure::Refused(error) => return error,
        Failure::Sql(error) => error,
    };
    let fault = Fault::of(&error);
    if fault.stays_with_connection() {
        connection.close_on_drop();
    }
    if let Some(reason) = fault.unfit() {
        tracing::error!(%error, reason, "the database needs somebody to look after it");
    }
    if fault == Fault::Rejected { RecordError::Rejected(error.to_string()) } else { StoreError::from(error).into() }
}

pub(super) async fn next_offsets(
    connection: &mut SqliteConnection,
    incarnation: &str,
    partitions: &[i32],
) -> Result<Vec<PartitionOffset>, sqlx::Error> {
    let query = sqlx::query_as(NEXT_OFFSETS).bind(incarnation).bind(json!(partitions).to_string());
    let offsets: Vec<(i32, i64, Option<i32>)> = query.fetch_all(connection).await?;
    let offset = |(partition, next_offset, leader_epoch)| PartitionOffset { partition, next_offset, leader_epoch };
    Ok(offsets.into_iter().map(offset).collect())
}

/// Whether the partition was where it was expected to be.
pub(super) async fn move_offset(
    connection: &mut SqliteConnection,
    incarnation: &str,
    step: &OffsetMove,
) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(MOVE_OFFSET)
        .bind(incarnation)
        .bind(step.partition)
        .bind(step.next)
        .bind(step.expected)
        .bind(step.expected_epoch);
    let mut moved = query.execute(&mut *connection).await?.rows_affected();
    if moved == 0 && step.expected == 0 {
        let query = sqlx::query(FIRST_OFFSET).bind(incarnation).bind(step.partition).bind(step.next);
        moved = query.execute(&mut *connection).await?.rows_affected();
    }
    if moved == 1 {
        let epoch =
            sqlx::query(SET_EPOCH).bind(incarnation).bind(step.partition).bind(step.next).bind(step.leader_epoch);
        epoch.execute(connection).await?;
    }
    Ok(moved == 1)
}

async fn insert(
    connection: &mut SqliteConnection,
    rows: &PendingRows<'_>,
    recorded_at: Timestamp,
) -> Result<(), sqlx::Error> {
    let values = rows.iter().map(|purchase| {
        let (price, timestamp) = (purchase.price.to_string(), purchase.timestamp.to_string());
        json!([purchase.purchase_id, purchase.userid, purchase.username, price, timestamp, purchase.callback_url])
    });
    let values = values.collect::<Value>().to_string();
    sqlx::query(INSERT).bind(values).bind(recorded_at.to_string()).execute(connection).await?;
    Ok(())
}

async fn count_for_keys(
    connection: &mut SqliteConnection,
    bought: &BTreeMap<(Uuid, Day), i64>,
    partition: i32,
) -> Result<(), sqlx::Error> {
    if bought.is_empty() {
        return Ok(());
    }
    let values = bought.iter().map(|((key_id, day), purchases)| json!([key_id, day, purchases]));
    let values = values.collect::<Value>().to_string();
    sqlx::query(COUNT_FOR_KEYS).bind(values).bind(partition).execute(connection).await?;
    Ok(())
}

/// Adds the rows to the totals here and not in SQL: SQLite would add floats.
async fn add_totals(
    connection: &mut SqliteConnection,
    rows: &PendingRows<'_>,
    partition: i32,
) -> Result<(), sqlx::Error> {
    let mut totals: BTreeMap<&str, (i64, Decimal)> = BTreeMap::new();
    for purchase in rows.iter() {
        let (count, total) = totals.entry(&purchase.userid).or_default();
        *count += 1;
        *total = read::add(*total, purchase.price.decimal())?;
    }
    let userids = json!(totals.keys().collect::<Vec<_>>()).to_string();
    let query = sqlx::query_as(TOTALS).bind(userids).bind(partition);
    let stored: Vec<(String, i64, String)> = query.fetch_all(&mut *connection).await?;
    for (userid, stored_count, stored_total) in &stored {
        let (count, total) = totals.entry(userid).or_default();
        *count += stored_count;
        *total = read::add(*total, read::decimal(stored_total)?)?;
    }
    let values =
        totals.into_iter().map(|(userid, (count, total))| json!([userid, count, total.normalize().to_string()]));
    let values = values.collect::<Value>().to_string();
    sqlx::query(REPLACE_TOTALS).bind(values).bind(partition).execute(connection).await?;
    Ok(())
}
