//! What an operator steps over.

use shared::event::Timestamp;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnection, SqlitePool};

use super::BEGIN_WRITING;
use super::record::{Failure, move_offset, refusal};
use crate::store::{OffsetMove, RecordError, Skipped, StoreError};

const SKIP: &str = "INSERT INTO skipped_records VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

const LIST_SKIPPED: &str = "
    SELECT topic_incarnation, kafka_partition, from_offset, to_offset, reason, skipped_at
    FROM skipped_records ORDER BY rowid DESC";

pub(super) async fn skip(
    pool: &SqlitePool,
    incarnation: &str,
    step: &OffsetMove,
    reason: &str,
) -> Result<(), RecordError> {
    let mut connection = pool.acquire().await.map_err(StoreError::from)?;
    let skipped = skip_on(&mut connection, incarnation, step, reason).await;
    skipped.map_err(|failure| refusal(connection, failure))
}

async fn skip_on(
    connection: &mut SqliteConnection,
    incarnation: &str,
    step: &OffsetMove,
    reason: &str,
) -> Result<(), Failure> {
    let mut transaction = connection.begin_with(BEGIN_WRITING).await?;
    if !move_offset(&mut transaction, incarnation, step).await? {
        return Err(RecordError::Fenced.into());
    }
    let query = sqlx::query(SKIP)
        .bind(Timestamp::now().to_string())
        .bind(incarnation)
        .bind(step.partition)
        .bind(step.expected)
        .bind(step.next)
        .bind(reason);
    query.execute(&mut *transaction).await?;
    Ok(transaction.commit().await?)
}

pub(super) async fn list_skipped(pool: &SqlitePool) -> Result<Vec<Skipped>, StoreError> {
    let rows: Vec<(String, i32, i64, i64, String, String)> = sqlx::query_as(LIST_SKIPPED).fetch_all(pool).await?;
    let skipped = rows.into_iter().map(|(incarnation, partition, from_offset, to_offset, reason, skipped_at)| {
        let skipped_at = Timestamp::parse(&skipped_at).map_err(|error| StoreError(error.to_string()))?;
        Ok(Skipped { incarnation, partition, from_offset, to_offset, reason, skipped_at })
    });
    skipped.collect()
}
