//! Recording: one statement a batch.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use shared::event::Timestamp;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgPool;
use uuid::Uuid;

use super::{answer, frozen, read};
use crate::store::pending::PendingRows;
use crate::store::{Batch, OffsetMove, PartitionOffset, RecordError, Recorded, StoreError};

/// How often a batch is sent: again when another replica recorded one of its ids in the same moment, and again when a frozen
/// process was in the way.
const ATTEMPTS: usize = 3;

const RECORD: &str = "
    SELECT inserted, recording_time FROM record_purchases($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// A partition without a row yet is at 0.
const NEXT_OFFSETS: &str = "
    SELECT given.kafka_partition, coalesce(stored.next_offset, 0)
    FROM unnest($2::integer[]) AS given (kafka_partition)
    LEFT JOIN consumer_offsets AS stored
        ON stored.topic_incarnation = $1 AND stored.kafka_partition = given.kafka_partition";

pub(super) async fn record(pool: &PgPool, batch: &Batch) -> Result<Recorded, RecordError> {
    let rows = PendingRows::new(batch)?;
    let mut duplicates_expected = false;
    for _ in 0..ATTEMPTS {
        match send(pool, batch, &rows, duplicates_expected).await {
            Ok(recorded) => return Ok(recorded),
            Err(Refusal::Final(error)) => return Err(error),
            Err(Refusal::Raced) => duplicates_expected = true,
            Err(Refusal::Conflict) => return Err(find_conflicts(pool, rows).await?),
            Err(Refusal::Blocked(error)) => {
                if frozen::end_sessions(pool).await? == 0 {
                    return Err(error.into());
                }
            }
        }
    }
    Err(StoreError("other sessions are in the way".to_owned()).into())
}

/// Which rows the database means. A stored purchase never changes or goes away, so it is enough to look afterwards.
async fn find_conflicts(pool: &PgPool, mut rows: PendingRows<'_>) -> Result<RecordError, StoreError> {
    let stored = read::find_purchases(pool, &rows.ids()).await?;
    let vanished = || StoreError("a conflict was gone when it was looked for".to_owned()).into();
    Ok(rows.remove_stored(&stored).err().unwrap_or_else(vanished))
}

pub(super) async fn next_offsets(
    pool: &PgPool,
    incarnation: &str,
    partitions: &[i32],
) -> Result<Vec<PartitionOffset>, sqlx::Error> {
    let query = sqlx::query_as(NEXT_OFFSETS).bind(incarnation).bind(partitions);
    let offsets: Vec<(i32, i64)> = answer(query.fetch_all(pool)).await?;
    Ok(offsets.into_iter().map(|(partition, next_offset)| PartitionOffset { partition, next_offset }).collect())
}

/// Why an attempt failed.
enum Refusal {
    /// No other attempt goes better.
    Final(RecordError),
    /// Another replica stored one of the ids in the same moment.
    Raced,
    /// Some ids are stored with other content.
    Conflict,
    /// Another session held a lock for too long.
    Blocked(StoreError),
}

async fn send(
    pool: &PgPool,
    batch: &Batch,
    rows: &PendingRows<'_>,
    duplicates_expected: bool,
) -> Result<Recorded, Refusal> {
    let steps = Steps::new(&batch.moves);
    let columns = Columns::new(rows);
    let query = sqlx::query_as(RECORD)
        .bind(&*batch.incarnation)
        .bind(steps.partitions)
        .bind(steps.expected_offsets)
        .bind(steps.next_offsets)
        .bind(columns.ids)
        .bind(columns.userids)
        .bind(columns.usernames)
        .bind(columns.prices)
        .bind(columns.times)
        .bind(duplicates_expected);
    let (inserted, recording_time): (i64, DateTime<Utc>) = answer(query.fetch_one(pool)).await.map_err(refusal)?;
    let inserted = usize::try_from(inserted).unwrap_or(0);
    let recorded_at = Timestamp::new(recording_time);
    Ok(Recorded { inserted, duplicates: batch.rows.len().saturating_sub(inserted), recorded_at })
}

fn refusal(error: sqlx::Error) -> Refusal {
    let code = error.as_database_error().and_then(DatabaseError::code).unwrap_or_default();
    match &*code {
        "PUR01" => Refusal::Final(RecordError::Fenced),
        "PUR02" => Refusal::Conflict,
        // unique_violation.
        "23505" => Refusal::Raced,
        // lock_not_available: the session's lock_timeout.
        "55P03" => Refusal::Blocked(error.into()),
        // Data exceptions, integrity violations, a row too large for its index.
        code if code.starts_with("22") || code.starts_with("23") || code == "54000" => {
            Refusal::Final(RecordError::Rejected(error.to_string()))
        }
        _ => Refusal::Final(StoreError::from(error).into()),
    }
}

/// The offsets' steps as columns, by partition: all sessions lock them in this order.
struct Steps {
    partitions: Vec<i32>,
    expected_offsets: Vec<i64>,
    next_offsets: Vec<i64>,
}

impl Steps {
    fn new(moves: &[OffsetMove]) -> Self {
        let mut moves = moves.to_vec();
        moves.sort_unstable_by_key(|step| step.partition);
        Self {
            partitions: moves.iter().map(|step| step.partition).collect(),
            expected_offsets: moves.iter().map(|step| step.expected).collect(),
            next_offsets: moves.iter().map(|step| step.next).collect(),
        }
    }
}

/// The rows as columns, in their order by id.
struct Columns<'a> {
    ids: Vec<Uuid>,
    userids: Vec<&'a str>,
    usernames: Vec<&'a str>,
    prices: Vec<Decimal>,
    times: Vec<DateTime<Utc>>,
}

impl<'a> Columns<'a> {
    fn new(rows: &PendingRows<'a>) -> Self {
        Self {
            ids: rows.ids(),
            userids: rows.iter().map(|row| row.userid.as_str()).collect(),
            usernames: rows.iter().map(|row| row.username.as_str()).collect(),
            prices: rows.iter().map(|row| row.price.decimal()).collect(),
            times: rows.iter().map(|row| row.timestamp.datetime()).collect(),
        }
    }
}
