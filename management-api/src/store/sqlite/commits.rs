//! The log of commits in SQLite.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use shared::commits::{Commit, CommitPosition, userid_mark};
use shared::event::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::{SqliteStore, json_list, judge};
use crate::store::commits::in_order;
use crate::store::pending::PendingRows;
use crate::store::{CommitLog, StoreError};

const APPEND: &str = "
    INSERT INTO commits (kafka_partition, number, recorded_at, purchase_ids, userid_marks)
    SELECT ?1, 1 + coalesce(max(number), 0), ?2, ?3, ?4 FROM commits WHERE kafka_partition = ?1";

const LAST: &str = "
    SELECT log_id, kafka_partition, max(number)
    FROM commit_log LEFT JOIN commits ON true GROUP BY log_id, kafka_partition";

const LIST: &str = "
    SELECT recorded_at, kafka_partition, number, purchase_ids, userid_marks FROM (
        SELECT commits.*, row_number() OVER (PARTITION BY commits.kafka_partition ORDER BY number) AS place
        FROM commits LEFT JOIN json_each(?1) AS seen ON seen.value ->> 0 = kafka_partition
        WHERE number > coalesce(seen.value ->> 1, 0)
    ) WHERE place <= ?2";

const FORGET: &str = "
    DELETE FROM commits WHERE recorded_at < ?1 AND number < (
        SELECT max(newest.number) FROM commits AS newest WHERE newest.kafka_partition = commits.kafka_partition
    )";

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
        let deleted = sqlx::query(FORGET).bind(before).execute(&mut *writer.connection).await;
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
