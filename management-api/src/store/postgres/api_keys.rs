//! API keys in PostgreSQL.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared::api_keys::{ApiKeyRow, ChangedKey, KnownKey, SecretHash};
use shared::event::Timestamp;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{PostgresStore, answer, session};
use crate::store::api_keys::{FoundSecret, KEYS_MAX, REVOKED_MAX, parse_scopes, scopes_text};
use crate::store::{Creation, KeyKeeping, NewKey, Rotation, StoreError, WhichKey};

/// An account that is being deleted is waited for, and then is not there.
const CREATE: &str = "
    WITH owner AS (
        SELECT account_id FROM accounts WHERE account_id = $2 FOR KEY SHARE
    ), forgotten AS (
        DELETE FROM api_keys WHERE key_id IN (
            SELECT key_id FROM api_keys WHERE account_id = $2 AND revoked_at < $10 ORDER BY revoked_at DESC OFFSET $11
        )
    ), kept AS (
        INSERT INTO api_keys (
            key_id, account_id, name, scopes, rate_per_second, secret_hash, secret_start, created_at, expires_at,
            version, changed_at
        )
        SELECT $1, account_id, $3, $4, $5, $6, $7, $8, $9, 0, $8 FROM owner
        WHERE (SELECT count(*) FROM api_keys WHERE account_id = $2 AND revoked_at IS NULL) < $12
        RETURNING key_id
    )
    SELECT (SELECT count(*) FROM owner), (SELECT count(*) FROM kept)";

/// Without its account it is nobody's, also one that was made while that was being deleted.
const FIND: &str = "
    SELECT key_id, account_id, scopes, rate_per_second, expires_at, version,
        CASE WHEN secret_hash = $1 THEN NULL ELSE old_ends_at END
    FROM api_keys JOIN accounts USING (account_id)
    WHERE (secret_hash = $1 OR old_secret_hash = $1) AND revoked_at IS NULL";

const LIST: &str = "
    SELECT key_id, account_id, name, scopes, rate_per_second, secret_start, created_at, expires_at, revoked_at,
        (SELECT max(last_at) FROM api_key_requests AS used WHERE used.key_id = api_keys.key_id)
    FROM api_keys WHERE account_id = $1 ORDER BY key_id DESC LIMIT $2";

const ROTATE: &str = "
    UPDATE api_keys SET old_secret_hash = secret_hash, old_ends_at = $6, secret_hash = $3, secret_start = $4,
        version = version + 1, changed_at = $5
    WHERE key_id = $1 AND account_id = coalesce($2, account_id) AND revoked_at IS NULL
        AND (expires_at IS NULL OR expires_at > $5)
    RETURNING account_id";

/// What is revoked already stays as it is.
const REVOKE: &str = "
    UPDATE api_keys SET
        version = version + CASE WHEN revoked_at IS NULL THEN 1 ELSE 0 END,
        changed_at = CASE WHEN revoked_at IS NULL THEN $3 ELSE changed_at END,
        revoked_at = coalesce(revoked_at, $3)
    WHERE key_id = $1 AND account_id = coalesce($2, account_id)
    RETURNING account_id";

const LIST_CHANGED: &str = "SELECT key_id, version FROM api_keys WHERE changed_at >= $1 AND version > 0";

#[async_trait]
impl KeyKeeping for PostgresStore {
    async fn create_key(&self, new: &NewKey) -> Result<Creation, StoreError> {
        let query = sqlx::query_as(CREATE)
            .bind(new.key_id)
            .bind(new.account_id)
            .bind(&new.name)
            .bind(scopes_text(&new.scopes))
            .bind(new.rate_per_second.map(i64::from))
            .bind(new.secret_hash.0.as_slice())
            .bind(&new.secret_start)
            .bind(new.created_at.datetime())
            .bind(new.expires_at.map(Timestamp::datetime))
            .bind(new.forgets_before.datetime())
            .bind(i64::from(REVOKED_MAX))
            .bind(i64::from(KEYS_MAX));
        let mut session = session::acquire(&self.reading).await?;
        let created = answer(query.fetch_one(&mut *session)).await;
        Ok(match session.judge(created)? {
            (_, 1_i64) => Creation::Kept,
            (1_i64, _) => Creation::TooMany,
            _ => Creation::NoAccount,
        })
    }

    async fn find_key(&self, hash: &SecretHash, now: Timestamp) -> Result<Option<KnownKey>, StoreError> {
        let mut session = session::acquire(&self.reading).await?;
        let row = answer(sqlx::query(FIND).bind(hash.0.as_slice()).fetch_optional(&mut *session)).await;
        let found = session.judge(row)?.map(|row| found(&row)).transpose()?;
        Ok(found.and_then(|found| found.counting_at(now)))
    }

    async fn list_keys(&self, account_id: Uuid) -> Result<Vec<ApiKeyRow>, StoreError> {
        let query = sqlx::query(LIST).bind(account_id).bind(i64::from(KEYS_MAX + REVOKED_MAX));
        let mut session = session::acquire(&self.reading).await?;
        let rows = answer(query.fetch_all(&mut *session)).await;
        let rows = session.judge(rows)?;
        Ok(rows.iter().map(key).collect::<Result<_, _>>()?)
    }

    async fn rotate_key(&self, rotation: &Rotation) -> Result<Option<Uuid>, StoreError> {
        let query = sqlx::query_scalar(ROTATE)
            .bind(rotation.which.key_id)
            .bind(rotation.which.account_id)
            .bind(rotation.secret_hash.0.as_slice())
            .bind(&rotation.secret_start)
            .bind(rotation.at.datetime())
            .bind(rotation.old_ends_at.datetime());
        let mut session = session::acquire(&self.reading).await?;
        let owner = answer(query.fetch_optional(&mut *session)).await;
        Ok(session.judge(owner)?)
    }

    async fn revoke_key(&self, which: WhichKey, at: Timestamp) -> Result<Option<Uuid>, StoreError> {
        let query = sqlx::query_scalar(REVOKE).bind(which.key_id).bind(which.account_id).bind(at.datetime());
        let mut session = session::acquire(&self.reading).await?;
        let owner = answer(query.fetch_optional(&mut *session)).await;
        Ok(session.judge(owner)?)
    }

    async fn list_changed_keys(&self, since: Timestamp) -> Result<Vec<ChangedKey>, StoreError> {
        let mut session = session::acquire(&self.reading).await?;
        let rows = answer(sqlx::query_as(LIST_CHANGED).bind(since.datetime()).fetch_all(&mut *session)).await;
        let rows: Vec<(Uuid, i32)> = session.judge(rows)?;
        Ok(rows.into_iter().map(|(key_id, version)| ChangedKey { key_id, version }).collect())
    }
}

/// By position.
fn found(row: &PgRow) -> Result<FoundSecret, sqlx::Error> {
    Ok(FoundSecret {
        key_id: row.try_get(0)?,
        account_id: row.try_get(1)?,
        scopes: row.try_get(2)?,
        rate_per_second: row.try_get(3)?,
        expires_at: time(row, 4)?,
        version: row.try_get(5)?,
        old_ends_at: time(row, 6)?,
    })
}

/// By position.
fn key(row: &PgRow) -> Result<ApiKeyRow, sqlx::Error> {
    let rate: Option<i32> = row.try_get(4)?;
    Ok(ApiKeyRow {
        key_id: row.try_get(0)?,
        account_id: row.try_get(1)?,
        name: row.try_get(2)?,
        scopes: parse_scopes(row.try_get(3)?),
        rate_per_second: rate.and_then(|rate| u32::try_from(rate).ok()),
        secret_start: row.try_get(5)?,
        created_at: Timestamp::new(row.try_get::<DateTime<Utc>, _>(6)?),
        expires_at: time(row, 7)?,
        last_used_at: time(row, 9)?,
        revoked_at: time(row, 8)?,
    })
}

fn time(row: &PgRow, column: usize) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<DateTime<Utc>>, _>(column)?.map(Timestamp::new))
}
