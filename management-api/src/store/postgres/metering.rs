//! The use of keys in PostgreSQL.

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use shared::api_keys::{KeyUsage, RequestCounts, UsageFlush};
use shared::event::Timestamp;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{PostgresStore, answer, session};
use crate::store::metering::FLUSHES_FORGOTTEN_MAX;
use crate::store::{Metering, StoreError, UsageQuery};

/// Whoever says the same at the same moment waits here for the first one's commit. All go by the keys in one order.
const ADD: &str = "
    WITH flush AS (
        INSERT INTO usage_flushes VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING flush_id
    ), forgotten AS (
        DELETE FROM usage_flushes WHERE flush_id IN (
            SELECT flush_id FROM usage_flushes WHERE flushed_at < $3 ORDER BY flushed_at LIMIT $4 FOR UPDATE SKIP LOCKED
        )
    ), added AS (
        INSERT INTO api_key_requests AS counted (key_id, day, class, requests, last_at)
        SELECT given.* FROM flush, unnest($5::uuid[], $6::date[], $7::text[], $8::bigint[], $9::timestamptz[])
            AS given (key_id, day, class, requests, last_at)
        ORDER BY given.key_id, given.day, given.class
        ON CONFLICT (key_id, day, class) DO UPDATE SET
            requests = counted.requests + excluded.requests, last_at = greatest(counted.last_at, excluded.last_at)
    )
    SELECT count(*) FROM flush";

const LIST: &str = "
    SELECT key_id, name, account_id, day, sum(purchases)::bigint, sum(buy)::bigint, sum(batch)::bigint, sum(read)::bigint
    FROM (
        SELECT key_id, day, purchases, 0 AS buy, 0 AS batch, 0 AS read FROM api_key_purchases
        UNION ALL
        SELECT key_id, day, 0, CASE class WHEN 'buy' THEN requests ELSE 0 END,
            CASE class WHEN 'batch' THEN requests ELSE 0 END, CASE class WHEN 'read' THEN requests ELSE 0 END
        FROM api_key_requests
    ) AS used JOIN api_keys USING (key_id)
    WHERE account_id = coalesce($1, account_id) AND key_id = coalesce($2, key_id) AND day BETWEEN $3 AND $4
    GROUP BY key_id, name, account_id, day ORDER BY day DESC, key_id DESC LIMIT $5";

#[async_trait]
impl Metering for PostgresStore {
    async fn add_usage(
        &self,
        flush: &UsageFlush,
        at: Timestamp,
        forgets_before: Timestamp,
    ) -> Result<bool, StoreError> {
        let counts = &flush.counts;
        let query = sqlx::query_scalar(ADD)
            .bind(flush.flush_id)
            .bind(at.datetime())
            .bind(forgets_before.datetime())
            .bind(i64::from(FLUSHES_FORGOTTEN_MAX))
            .bind(counts.iter().map(|count| count.key_id).collect::<Vec<Uuid>>())
            .bind(counts.iter().map(|count| count.day.date()).collect::<Vec<NaiveDate>>())
            .bind(counts.iter().map(|count| count.class.text()).collect::<Vec<_>>())
            .bind(counts.iter().map(|count| i64::from(count.requests)).collect::<Vec<_>>())
            .bind(counts.iter().map(|count| count.last_at.datetime()).collect::<Vec<DateTime<Utc>>>());
        let mut session = session::acquire(&self.reading).await?;
        let added = answer(query.fetch_one(&mut *session)).await;
        let added: i64 = session.judge(added)?;
        Ok(added == 1)
    }

    async fn list_usage(&self, query: &UsageQuery) -> Result<Vec<KeyUsage>, StoreError> {
        let query = sqlx::query(LIST)
            .bind(query.account_id)
            .bind(query.key_id)
            .bind(query.from.date())
            .bind(query.to.date())
            .bind(i64::from(query.limit));
        let mut session = session::acquire(&self.reading).await?;
        let rows = answer(query.fetch_all(&mut *session)).await;
        let rows = session.judge(rows)?;
        Ok(rows.iter().map(usage).collect::<Result<_, _>>()?)
    }
}

/// By position.
fn usage(row: &PgRow) -> Result<KeyUsage, sqlx::Error> {
    let count = |column: usize| row.try_get::<i64, _>(column).map(|count| u64::try_from(count).unwrap_or(0));
    Ok(KeyUsage {
        key_id: row.try_get(0)?,
        name: row.try_get(1)?,
        account_id: row.try_get(2)?,
        day: row.try_get::<NaiveDate, _>(3)?.into(),
        purchases: count(4)?,
        requests: RequestCounts { buy: count(5)?, batch: count(6)?, read: count(7)? },
    })
}
