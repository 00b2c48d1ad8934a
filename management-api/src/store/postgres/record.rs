//! Recording: one statement a batch.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use shared::callbacks::CallbackUrl;
use shared::commits::userid_mark;
use shared::event::{Purchase, Timestamp};
use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgPool};
use sqlx::query::QueryAs;
use uuid::Uuid;

use super::fitness::{self, Look};
use super::sqlstate::{self, Meaning};
use super::{PostgresStore, answer, dead_letters, frozen, read, session};
use crate::letter::{DeadLetter, Sending};
use crate::store::pending::{PendingRows, at};
use crate::store::{Batch, CallbackBatch, OffsetMove, PartitionOffset, RecordError, Recorded, Recording, StoreError};

/// How often a batch is sent: again without the ids that were stored already, and again when a frozen process was in the way.
const ATTEMPTS: usize = 3;

const RECORD: &str = "
    SELECT record_purchases_v6(
        $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19
    )";

/// A partition without a row yet is at 0. The row is the newest entry of its key, where the search begins: see the migration.
const NEXT_OFFSETS: &str = "
    SELECT given.kafka_partition, coalesce(stored.next_offset, 0), stored.leader_epoch
    FROM unnest($2::integer[]) AS given (kafka_partition)
    LEFT JOIN LATERAL (
        SELECT next_offset, leader_epoch FROM consumer_offsets
        WHERE topic_incarnation = $1 AND kafka_partition = given.kafka_partition
        ORDER BY next_offset DESC LIMIT 1
    ) AS stored ON true";

#[async_trait]
impl Recording for PostgresStore {
    async fn migrate(&self) -> Result<(), StoreError> {
        self.run_migrations().await
    }

    async fn record(&self, batch: &Batch) -> Result<Recorded, RecordError> {
        record(&self.recording, batch, &self.duplicates).await
    }

    async fn next_offsets(&self, incarnation: &str, partitions: &[i32]) -> Result<Vec<PartitionOffset>, StoreError> {
        next_offsets(&self.recording, incarnation, partitions).await
    }

    async fn find_recorded(&self, ids: &[Uuid]) -> Result<Vec<Purchase>, StoreError> {
        read::find_purchases(&self.recording, ids).await
    }

    async fn find_announced(&self, sendings: &[Sending]) -> Result<Vec<Sending>, StoreError> {
        dead_letters::find_announced(&self.recording, sendings).await
    }
}

/// `duplicates`: whether the batch before had any; then this one likely has too, and they are looked for beforehand.
pub(super) async fn record(pool: &PgPool, batch: &Batch, duplicates: &AtomicBool) -> Result<Recorded, RecordError> {
    let mut rows = PendingRows::new(batch)?;
    if duplicates.load(Ordering::Relaxed) {
        rows.remove_same(&read::find_purchases(pool, &rows.ids()).await?);
    }
    for _ in 0..ATTEMPTS {
        let callbacks = rows.callback_batches();
        match send(pool, batch, &rows, &callbacks).await {
            Ok(recorded_at) => {
                let repeats = batch.rows.len() - rows.len();
                duplicates.store(repeats > 0, Ordering::Relaxed);
                let callbacks = at(callbacks, recorded_at);
                return Ok(Recorded { inserted: rows.len(), duplicates: repeats, recorded_at, callbacks });
            }
            Err(Refusal::Final(error)) => return Err(error),
            // The offsets were as expected: what is stored comes before this batch, and decides.
            Err(Refusal::Stored) => rows.remove_stored(&read::find_purchases(pool, &rows.ids()).await?)?,
            Err(Refusal::Blocked(error)) => {
                if frozen::end_sessions(pool).await? == 0 {
                    return Err(error.into());
                }
            }
        }
    }
    Err(StoreError("other sessions are in the way".to_owned()).into())
}

pub(super) async fn next_offsets(
    pool: &PgPool,
    incarnation: &str,
    partitions: &[i32],
) -> Result<Vec<PartitionOffset>, StoreError> {
    let query = sqlx::query_as(NEXT_OFFSETS).bind(incarnation).bind(partitions);
    let mut session = session::acquire(pool).await?;
    // Whoever owns a partition begins with this question: nothing is written to a database that cannot hold it.
    let look = answer(fitness::look(&mut session)).await;
    let offsets = match look.as_ref().map(Look::takes_everything) {
        Ok(Err(unfit)) => {
            session.discard();
            return Err(StoreError(unfit.to_string()));
        }
        _ => answer(query.fetch_all(&mut *session)).await,
    };
    let offsets: Vec<(i32, i64, Option<i32>)> = session.judge(look.and(offsets))?;
    let offset = |(partition, next_offset, leader_epoch)| PartitionOffset { partition, next_offset, leader_epoch };
    Ok(offsets.into_iter().map(offset).collect())
}

/// Why an attempt failed.
pub(super) enum Refusal {
    /// No other attempt goes better.
    Final(RecordError),
    /// One of the ids is stored already.
    Stored,
    /// Another session held a lock for too long.
    Blocked(StoreError),
}

async fn send(
    pool: &PgPool,
    batch: &Batch,
    rows: &PendingRows<'_>,
    callbacks: &[CallbackBatch],
) -> Result<Timestamp, Refusal> {
    let recorded = execute(pool, batch, Columns::new(rows, batch, callbacks)).await;
    recorded.map(Timestamp::new).map_err(refusal)
}

/// Keeps a dead letter with a batch of nothing: no offset moves, no row is written.
pub(super) async fn keep(pool: &PgPool, letter: &DeadLetter) -> Result<(), StoreError> {
    let batch = Batch { dead_letters: vec![letter.clone()], ..Batch::default() };
    execute(pool, &batch, Columns::default()).await?;
    Ok(())
}

async fn execute(pool: &PgPool, batch: &Batch, columns: Columns<'_>) -> Result<DateTime<Utc>, sqlx::Error> {
    let query = if batch.dead_letters.is_empty() {
        sqlx::query_as(RECORD)
    } else {
        dead_letters::bind_to(sqlx::query_as(dead_letters::RECORD_AND_KEEP), &batch.dead_letters)
    };
    let query = Steps::new(&batch.moves)
        .bind_to(query.bind(&*batch.incarnation))
        .bind(columns.ids)
        .bind(columns.userids)
        .bind(columns.usernames)
        .bind(columns.prices)
        .bind(columns.times)
        .bind(columns.userid_marks)
        .bind(columns.callback_urls)
        .bind(columns.callback_ids)
        .bind(columns.callback_batch_ids)
        .bind(batch.callback_lease)
        .bind(columns.key_ids)
        .bind(columns.key_days)
        .bind(columns.key_purchases);
    let mut session = session::acquire(pool).await?;
    let recorded = answer(query.fetch_one(&mut *session)).await;
    let (recording_time,): (DateTime<Utc>,) = session.judge(recorded)?;
    Ok(recording_time)
}

pub(super) fn refusal(error: sqlx::Error) -> Refusal {
    match sqlstate::of(&error).1 {
        Meaning::Fenced => Refusal::Final(RecordError::Fenced),
        Meaning::Stored => Refusal::Stored,
        Meaning::Blocked => Refusal::Blocked(error.into()),
        Meaning::Reject => Refusal::Final(RecordError::Rejected(error.to_string())),
        Meaning::Retry => Refusal::Final(StoreError::from(error).into()),
        Meaning::Tell => {
            tracing::error!(%error, "the database needs somebody to look after it");
            Refusal::Final(StoreError::from(error).into())
        }
    }
}

/// The offsets' steps as columns, by partition: all sessions lock them in this order.
pub(super) struct Steps {
    partitions: Vec<i32>,
    expected_offsets: Vec<i64>,
    expected_epochs: Vec<Option<i32>>,
    next_offsets: Vec<i64>,
    leader_epochs: Vec<Option<i32>>,
}

impl Steps {
    pub(super) fn new(moves: &[OffsetMove]) -> Self {
        let mut moves = moves.to_vec();
        moves.sort_unstable_by_key(|step| step.partition);
        Self {
            partitions: moves.iter().map(|step| step.partition).collect(),
            expected_offsets: moves.iter().map(|step| step.expected).collect(),
            expected_epochs: moves.iter().map(|step| step.expected_epoch).collect(),
            next_offsets: moves.iter().map(|step| step.next).collect(),
            leader_epochs: moves.iter().map(|step| step.leader_epoch).collect(),
        }
    }

    pub(super) fn bind_to<O>(
        self,
        query: QueryAs<'_, Postgres, O, PgArguments>,
    ) -> QueryAs<'_, Postgres, O, PgArguments> {
        query
            .bind(self.partitions)
            .bind(self.expected_offsets)
            .bind(self.expected_epochs)
            .bind(self.next_offsets)
            .bind(self.leader_epochs)
    }
}

/// The rows as columns, in their order by id.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<Uuid>,
    userids: Vec<&'a str>,
    usernames: Vec<&'a str>,
    prices: Vec<Decimal>,
    times: Vec<DateTime<Utc>>,
    userid_marks: Vec<i32>,
    /// Of each row; nothing at all where nobody is called back.
    callback_urls: Option<Vec<Option<&'a str>>>,
    /// Who is called back, with the outbox's row that says so.
    callback_ids: Vec<Uuid>,
    callback_batch_ids: Vec<Uuid>,
    /// What keys have bought of them, on each day.
    key_ids: Vec<Uuid>,
    key_days: Vec<NaiveDate>,
    key_purchases: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn new(rows: &PendingRows<'a>, batch: &Batch, callbacks: &[CallbackBatch]) -> Self {
        let bought = rows.bought_by_keys(batch);
        let called_back = || callbacks.iter().flat_map(|row| row.purchases.iter().map(move |one| (row, one)));
        let urls = || rows.iter().map(|row| row.callback_url.as_ref().map(CallbackUrl::as_str)).collect();
        Self {
            callback_urls: (!callbacks.is_empty()).then(urls),
            callback_ids: called_back().map(|(_, purchase)| purchase.purchase_id).collect(),
            callback_batch_ids: called_back().map(|(row, _)| row.batch_id).collect(),
            key_ids: bought.keys().map(|(key_id, _)| *key_id).collect(),
            key_days: bought.keys().map(|(_, day)| day.date()).collect(),
            key_purchases: bought.into_values().collect(),
            ids: rows.ids(),
            userids: rows.iter().map(|row| row.userid.as_str()).collect(),
            usernames: rows.iter().map(|row| row.username.as_str()).collect(),
            prices: rows.iter().map(|row| row.price.decimal()).collect(),
            times: rows.iter().map(|row| row.timestamp.datetime()).collect(),
            userid_marks: rows.iter().map(|row| userid_mark(&row.userid)).collect(),
        }
    }
}
