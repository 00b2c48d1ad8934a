//! The log of commits in PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared::commits::{Commit, CommitPosition};
use uuid::Uuid;

use super::{PostgresStore, answer, session};
use crate::store::commits::{FORGOTTEN_MAX, in_order};
use crate::store::{CommitLog, StoreError};

/// Each partition's newest commit. From the newest of one to the newest of the next: those that were deleted, whose index entries
/// stay while somebody holds a snapshot, are not met.
macro_rules! newest {
    ($select:literal) => {
        concat!(
            "WITH RECURSIVE newest (kafka_partition, number) AS (
                (SELECT kafka_partition, number FROM commits ORDER BY kafka_partition DESC, number DESC LIMIT 1)
                UNION ALL
                SELECT next.* FROM newest CROSS JOIN LATERAL (
                    SELECT kafka_partition, number FROM commits WHERE kafka_partition < newest.kafka_partition
                    ORDER BY kafka_partition DESC, number DESC LIMIT 1
                ) AS next
            )",
            $select
        )
    };
}

const LAST: &str = newest!("SELECT log_id, kafka_partition, number FROM commit_log LEFT JOIN newest ON true");

const LIST: &str = newest!(
    "SELECT found.* FROM newest
    LEFT JOIN unnest($1::integer[], $2::bigint[]) AS seen (kafka_partition, number)
        ON seen.kafka_partition = newest.kafka_partition
    CROSS JOIN LATERAL (
        SELECT recorded_at, kafka_partition, number, purchase_ids, userid_marks FROM commits
        WHERE kafka_partition = newest.kafka_partition
            AND number > coalesce(seen.number, 0) AND number <= coalesce(seen.number, 0) + $3
    ) AS found
    WHERE newest.number > coalesce(seen.number, 0)"
);

const FORGET: &str = newest!(
    "DELETE FROM commits USING newest, LATERAL (
        SELECT kafka_partition, number FROM commits
        WHERE kafka_partition = newest.kafka_partition AND number < newest.number
            AND recorded_at < clock_timestamp() - $1
        ORDER BY number LIMIT $2
    ) AS old
    WHERE commits.kafka_partition = old.kafka_partition AND commits.number = old.number"
);

#[async_trait]
impl CommitLog for PostgresStore {
    async fn last_commits(&self) -> Result<CommitPosition, StoreError> {
        let mut session = session::acquire(&self.reading).await?;
        let rows = answer(sqlx::query_as(LAST).fetch_all(&mut *session)).await;
        let rows: Vec<(i32, Option<i32>, Option<i64>)> = session.judge(rows)?;
        let log_id = rows.first().map_or(0, |(log_id, ..)| log_id.cast_unsigned());
        Ok(CommitPosition::new(log_id, rows.into_iter().filter_map(|(_, partition, number)| partition.zip(number))))
    }

    async fn list_commits(&self, after: &CommitPosition, limit: u32) -> Result<Vec<Commit>, StoreError> {
        let (partitions, numbers): (Vec<i32>, Vec<i64>) = after.numbers().unzip();
        let query = sqlx::query_as(LIST).bind(partitions).bind(numbers).bind(i64::from(limit));
        let mut session = session::acquire(&self.reading).await?;
        let rows = answer(query.fetch_all(&mut *session)).await;
        let rows: Vec<(DateTime<Utc>, i32, i64, Vec<Uuid>, Option<Vec<i32>>)> = session.judge(rows)?;
        let commit = |(time, partition, number, purchase_ids, userid_marks)| {
            (time, Commit { partition, number, purchase_ids, userid_marks })
        };
        Ok(in_order(rows.into_iter().map(commit).collect()))
    }

    async fn forget_commits(&self, age: Duration) -> Result<u64, StoreError> {
        let mut session = session::acquire(&self.reading).await?;
        let deleted = answer(sqlx::query(FORGET).bind(age).bind(FORGOTTEN_MAX).execute(&mut *session)).await;
        Ok(session.judge(deleted)?.rows_affected())
    }
}
