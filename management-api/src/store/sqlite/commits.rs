//! The log of commits in SQLite.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use shared::commits::{Commit, CommitPosition, userid_mark};
use shared::event::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::{SqliteStore, json_list, judge};
use crate::store::commits::{FORGOTTEN_MAX, in_order};
use crate::store::pending::PendingRows;
use crate::store::{CommitLog, StoreError};

const APPEND: &str = "
    INSERT INTO commits (kafka_partition, number, recorded_at, purchase_ids, userid_marks)
    SELECT ?1, 1 + coalesce(max(number), 0), ?2, ?3, ?4 FROM commits WHERE kafka_partition = ?1";

/// The partitions that have commits, from one to the next: the rest of the log is not read.
macro_rules! partitions {
    ($select:literal) => {
        concat!(
            "WITH RECURSIVE partitions (number) AS (
                SELECT max(kafka_partition) FROM commits
                UNION ALL
                SELECT (SELECT max(kafka_partition) FROM commits WHERE kafka_partition < partitions.number)
                FROM partitions WHERE partitions.number IS NOT NULL
            ), newest AS (
                SELECT partitions.number AS kafka_partition,
                    (SELECT max(number) FROM commits WHERE kafka_partition = partitions.number) AS number
                FROM partitions WHERE partitions.number IS NOT NULL
            ) ",
            $select
        )
    };
}

const LAST: &str = partitions!("SELECT log_id, kafka_partition, number FROM commit_log LEFT JOIN newest ON true");

const LIST: &str = partitions!(
    ", seen AS (
        SELECT kafka_partition,
            coalesce((SELECT value ->> 1 FROM json_each(?1) WHERE value ->> 0 = kafka_partition), 0) AS number
        FROM newest
    )
    SELECT recorded_at, commits.kafka_partition, commits.number, purchase_ids, userid_marks
    FROM seen CROSS JOIN commits ON commits.kafka_partition = seen.kafka_partition
        AND commits.number > seen.number AND commits.number <= seen.number + ?2"
);

const FORGET: &str = partitions!(
    "DELETE FROM commits WHERE (kafka_partition, number) IN (
        SELECT commits.kafka_partition, commits.number
        FROM newest CROSS JOIN commits ON commits.kafka_partition = newest.kafka_partition
            AND commits.number < newest.number AND commits.number >= (
                SELECT min(number) FROM commits WHERE kafka_partition = newest.kafka_partition
            )
        WHERE recorded_at < ?1 LIMIT ?2
    )"
);

/// Appends what was inserted, if anything was.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    partition: i32,
    rows: &PendingRows<'_>,
    recorded_at: Timestamp,
) -> Result<(), sqlx::Error> {
    if rows.len() == 0 {
        return Ok(());
    }
    let marks: Vec<i32> = rows.iter().map(|row| userid_mark(&row.userid)).collect();
    let query = sqlx::query(APPEND)
        .bind(partition)
        .bind(recorded_at.to_string())
        .bind(json_list(rows.iter().map(|row| row.purchase_id)))
        .bind(json!(marks).to_string());
    query.execute(connection).await?;
    Ok(())
}

#[async_trait]
impl CommitLog for SqliteStore {
    async fn last_commits(&self) -> Result<CommitPosition, StoreError> {
        let rows: Vec<(u32, Option<i32>, Option<i64>)> = sqlx::query_as(LAST).fetch_all(&self.reading).await?;
        let log_id = rows.first().map_or(0, |(log_id, ..)| *log_id);
        Ok(CommitPosition::new(log_id, rows.into_iter().filter_map(|(_, partition, number)| partition.zip(number))))
    }

    async fn list_commits(&self, after: &CommitPosition, limit: u32) -> Result<Vec<Commit>, StoreError> {
        let seen = json!(after.numbers().collect::<Vec<_>>()).to_string();
        let rows = sqlx::query_as(LIST).bind(seen).bind(limit).fetch_all(&self.reading).await?;
        Ok(in_order(rows.into_iter().map(commit).collect::<Result<_, _>>()?))
    }

    async fn forget_commits(&self, age: Duration) -> Result<u64, StoreError> {
        let before = Timestamp::now().before(age).to_string();
        let mut writer = self.account_writer().await?;
        let deleted = sqlx::query(FORGET).bind(before).bind(FORGOTTEN_MAX).execute(&mut *writer.connection).await;
        judge(writer, deleted.map(|deleted| deleted.rows_affected()))
    }
}

/// By position: time, partition, number, ids, marks.
fn commit(row: (String, i32, i64, String, String)) -> Result<(String, Commit), StoreError> {
    let (time, partition, number, ids, marks) = row;
    let strange = |error: serde_json::Error| StoreError(error.to_string());
    let purchase_ids = serde_json::from_str(&ids).map_err(strange)?;
    let userid_marks = serde_json::from_str(&marks).map_err(strange)?;
    Ok((time, Commit { partition, number, purchase_ids, userid_marks }))
}
