//! What an operator steps over.

use chrono::{DateTime, Utc};
use shared::event::Timestamp;
use sqlx::postgres::PgPool;

use super::record::{Refusal, Steps, refusal};
use super::{answer, session};
use crate::store::dead_letters::storable;
use crate::store::{OffsetMove, RecordError, Skipped, StoreError};

const SKIP: &str = "
    WITH moved AS (
        SELECT FROM record_purchase_rows($1, $2, $3, $4, $5, $6, '{}', '{}', '{}', '{}', '{}', NULL)
    ), written AS (
        INSERT INTO skipped_records (topic_incarnation, kafka_partition, from_offset, to_offset, reason)
        SELECT $1, ($2)[1], $7, $8, $9 FROM moved
        RETURNING 1
    )
    SELECT count(*) FROM written";

const LIST_SKIPPED: &str = "
    SELECT topic_incarnation, kafka_partition, from_offset, to_offset, reason, skipped_at
    FROM skipped_records ORDER BY skipped_at DESC";

/// One move and what is to be known of it, in one statement.
pub(super) async fn skip(pool: &PgPool, incarnation: &str, step: &OffsetMove, reason: &str) -> Result<(), RecordError> {
    let query = Steps::new(std::slice::from_ref(step))
        .bind_to(sqlx::query_as::<_, (i64,)>(SKIP).bind(incarnation))
        .bind(step.expected)
        .bind(step.next)
        .bind(storable(reason));
    let mut session = session::acquire(pool).await.map_err(StoreError::from)?;
    let skipped = answer(query.fetch_one(&mut *session)).await;
    session.judge(skipped).map(drop).map_err(|error| match refusal(error) {
        Refusal::Final(error) => error,
        Refusal::Blocked(error) => error.into(),
        Refusal::Stored => StoreError("other sessions are in the way".to_owned()).into(),
    })
}

pub(super) async fn list_skipped(pool: &PgPool) -> Result<Vec<Skipped>, StoreError> {
    let mut session = session::acquire(pool).await?;
    let rows = answer(sqlx::query_as(LIST_SKIPPED).fetch_all(&mut *session)).await;
    let rows: Vec<(String, i32, i64, i64, String, DateTime<Utc>)> = session.judge(rows)?;
    let skipped = rows.into_iter().map(|(incarnation, partition, from_offset, to_offset, reason, skipped_at)| {
        Skipped { incarnation, partition, from_offset, to_offset, reason, skipped_at: Timestamp::new(skipped_at) }
    });
    Ok(skipped.collect())
}
