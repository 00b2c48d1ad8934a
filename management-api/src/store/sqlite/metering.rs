//! The use of keys in SQLite.

use async_trait::async_trait;
use serde_json::{Value, json};
use shared::api_keys::{KeyUsage, RequestCounts, UsageFlush};
use shared::event::Timestamp;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _};

use super::sessions::parse_id;
use super::{BEGIN_WRITING, SqliteStore, judge};
use crate::store::metering::FLUSHES_FORGOTTEN_MAX;
use crate::store::{Metering, StoreError, UsageQuery};

const REMEMBER: &str = "INSERT INTO usage_flushes VALUES (?1, ?2) ON CONFLICT DO NOTHING";

const FORGET: &str = "
    DELETE FROM usage_flushes WHERE flush_id IN (
        SELECT flush_id FROM usage_flushes WHERE flushed_at < ?1 ORDER BY flushed_at LIMIT ?2
    )";

/// `true`: without a condition SQLite would take ON for that of a join.
const ADD: &str = "
    INSERT INTO api_key_requests (key_id, day, class, requests, last_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each(?1) WHERE true
    ON CONFLICT (key_id, day, class) DO UPDATE SET
        requests = requests + excluded.requests, last_at = max(last_at, excluded.last_at)";

const LIST: &str = "
    SELECT key_id, name, account_id, day, sum(purchases), sum(buy), sum(batch), sum(read)
    FROM (
        SELECT key_id, day, purchases, 0 AS buy, 0 AS batch, 0 AS read FROM api_key_purchases
        UNION ALL
        SELECT key_id, day, 0, iif(class = 'buy', requests, 0), iif(class = 'batch', requests, 0),
            iif(class = 'read', requests, 0)
        FROM api_key_requests
    ) JOIN api_keys USING (key_id)
    WHERE account_id = coalesce(?1, account_id) AND key_id = coalesce(?2, key_id) AND day BETWEEN ?3 AND ?4
    GROUP BY key_id, name, account_id, day ORDER BY day DESC, key_id DESC LIMIT ?5";

#[async_trait]
impl Metering for SqliteStore {
    async fn add_usage(
        &self,
        flush: &UsageFlush,
        at: Timestamp,
        forgets_before: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut writer = self.account_writer().await?;
        let added = add(&mut writer.connection, flush, at, forgets_before).await;
        judge(writer, added)
    }

    async fn list_usage(&self, query: &UsageQuery) -> Result<Vec<KeyUsage>, StoreError> {
        let query = sqlx::query(LIST)
            .bind(query.account_id.map(|id| id.to_string()))
            .bind(query.key_id.map(|id| id.to_string()))
            .bind(query.from.to_string())
            .bind(query.to.to_string())
            .bind(query.limit);
        let rows = query.fetch_all(&self.reading).await?;
        rows.iter().map(usage).collect()
    }
}

async fn add(
    connection: &mut SqliteConnection,
    flush: &UsageFlush,
    at: Timestamp,
    forgets_before: Timestamp,
) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin_with(BEGIN_WRITING).await?;
    let query = sqlx::query(REMEMBER).bind(flush.flush_id.to_string()).bind(at.to_string());
    let is_new = query.execute(&mut *transaction).await?.rows_affected() == 1;
    if is_new {
        let query = sqlx::query(FORGET).bind(forgets_before.to_string()).bind(FLUSHES_FORGOTTEN_MAX);
        query.execute(&mut *transaction).await?;
        let counts = flush.counts.iter().map(|it| json!([it.key_id, it.day, it.class, it.requests, it.last_at]));
        let counts = counts.collect::<Value>().to_string();
        sqlx::query(ADD).bind(counts).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(is_new)
}

/// By position.
fn usage(row: &SqliteRow) -> Result<KeyUsage, StoreError> {
    let count = |column: usize| row.try_get::<i64, _>(column).map(|count| u64::try_from(count).unwrap_or(0));
    let day: &str = row.try_get(3)?;
    Ok(KeyUsage {
        key_id: parse_id(row.try_get(0)?)?,
        name: row.try_get(1)?,
        account_id: parse_id(row.try_get(2)?)?,
        day: day.parse().map_err(|_| StoreError("no day".to_owned()))?,
        purchases: count(4)?,
        requests: RequestCounts { buy: count(5)?, batch: count(6)?, read: count(7)? },
    })
}
