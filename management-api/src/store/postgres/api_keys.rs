//! API keys in PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared::api_keys::{ApiKeyRow, ChangedKey, KnownKey, SecretHash};
use shared::event::Timestamp;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{PostgresStore, answer, session};
use crate::store::api_keys::{FoundSecret, LISTED_MAX, OVER_MAX, parse_scopes, scopes_text};
use crate::store::{Creation, KEYS_MAX, KEYS_TOLD_MAX, KeyKeeping, NewKey, Rotated, Rotation, StoreError, WhichKey};

/// An account that is being deleted is waited for, and then is not there. What is over for longer than that is told (`$10`)
/// counts nowhere.
const CREATE: &str = "
    WITH owner AS (
        SELECT account_id FROM accounts WHERE account_id = $2 FOR KEY SHARE
    ), forgotten AS (
        DELETE FROM api_keys WHERE key_id IN (
            SELECT key_id FROM api_keys WHERE account_id = $2 AND (
                revoked_at IS NOT NULL AND changed_at < now() - make_interval(secs => $10)
                OR expires_at < now() - make_interval(secs => $10)
            )
            ORDER BY coalesce(revoked_at, expires_at) DESC OFFSET $11
        )
    ), counted AS (
        SELECT count(*) FILTER (WHERE revoked_at IS NULL) AS standing,
            count(*) FILTER (
                WHERE revoked_at IS NULL OR version > 0 AND changed_at >= now() - make_interval(secs => $10)
            ) AS told
        FROM api_keys WHERE account_id = $2
            AND (expires_at IS NULL OR expires_at >= now() - make_interval(secs => $10))
    ), kept AS (
        INSERT INTO api_keys (
            key_id, account_id, name, scopes, rate_per_second, secret_hash, secret_start, created_at, expires_at,
            version, changed_at
        )
        SELECT $1, account_id, $3, $4, $5, $6, $7, $8, $9, 0, now() FROM owner, counted
        WHERE standing < $12 AND told < $13
    )
    SELECT EXISTS (SELECT 1 FROM owner), standing, told FROM counted";

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

/// Whoever rotates at the same moment waits here for the first one's commit, and sees what it has left.
const ROTATE: &str = "
    WITH found AS (
        SELECT key_id, account_id, old_ends_at FROM api_keys
        WHERE key_id = $1 AND account_id = coalesce($2, account_id) AND revoked_at IS NULL
            AND (expires_at IS NULL OR expires_at > $5)
        FOR UPDATE
    ), rotated AS (
        UPDATE api_keys SET old_secret_hash = secret_hash, old_ends_at = $6, secret_hash = $3, secret_start = $4,
            version = version + 1, changed_at = now()
        FROM found WHERE api_keys.key_id = found.key_id
            AND (found.old_ends_at IS NULL OR found.old_ends_at <= $5 OR $6 <= $5)
        RETURNING api_keys.key_id
    )
    SELECT account_id, EXISTS (SELECT 1 FROM rotated), old_ends_at FROM found";

/// What is revoked already stays as it is.
const REVOKE: &str = "
    UPDATE api_keys SET
        version = version + CASE WHEN revoked_at IS NULL THEN 1 ELSE 0 END,
        changed_at = CASE WHEN revoked_at IS NULL THEN now() ELSE changed_at END,
        revoked_at = coalesce(revoked_at, $3)
    WHERE key_id = $1 AND account_id = coalesce($2, account_id)
    RETURNING account_id";

/// By the clock that has written it.
const LIST_CHANGED: &str = "
    SELECT key_id, version FROM api_keys
    WHERE changed_at >= now() - make_interval(secs => $1) AND version > 0
        AND (expires_at IS NULL OR expires_at >= now() - make_interval(secs => $1))";

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
            .bind(new.told.as_secs_f64())
            .bind(i64::from(OVER_MAX))
            .bind(i64::from(KEYS_MAX))
            .bind(i64::from(KEYS_TOLD_MAX));
        let mut session = session::acquire(&self.reading).await?;
        let created = answer(query.fetch_one(&mut *session)).await;
        let (has_account, standing, told): (bool, i64, i64) = session.judge(created)?;
        Ok(Creation::judge(has_account, standing, told))
    }

    async fn find_key(&self, hash: &SecretHash, now: Timestamp) -> Result<Option<KnownKey>, StoreError> {
        let mut session = session::acquire(&self.reading).await?;
        let row = answer(sqlx::query(FIND).bind(hash.0.as_slice()).fetch_optional(&mut *session)).await;
        let found = session.judge(row)?.map(|row| found(&row)).transpose()?;
        Ok(found.and_then(|found| found.counting_at(now)))
    }

    async fn list_keys(&self, account_id: Uuid) -> Result<Vec<ApiKeyRow>, StoreError> {
        let query = sqlx::query(LIST).bind(account_id).bind(i64::from(LISTED_MAX));
        let mut session = session::acquire(&self.reading).await?;
        let rows = answer(query.fetch_all(&mut *session)).await;
        let rows = session.judge(rows)?;
        Ok(rows.iter().map(key).collect::<Result<_, _>>()?)
    }

    async fn rotate_key(&self, rotation: &Rotation) -> Result<Rotated, StoreError> {
        let query = sqlx::query_as(ROTATE)
            .bind(rotation.which.key_id)
            .bind(rotation.which.account_id)
            .bind(rotation.secret_hash.0.as_slice())
            .bind(&rotation.secret_start)
            .bind(rotation.at.datetime())
            .bind(rotation.old_ends_at.datetime());
        let mut session = session::acquire(&self.reading).await?;
        let found = answer(query.fetch_optional(&mut *session)).await;
        let found: Option<(Uuid, bool, Option<DateTime<Utc>>)> = session.judge(found)?;
        Ok(Rotated::judge(found.map(|(owner, is_done, until)| (owner, is_done, until.map(Timestamp::new)))))
    }

    async fn revoke_key(&self, which: WhichKey, at: Timestamp) -> Result<Option<Uuid>, StoreError> {
        let query = sqlx::query_scalar(REVOKE).bind(which.key_id).bind(which.account_id).bind(at.datetime());
        let mut session = session::acquire(&self.reading).await?;
        let owner = answer(query.fetch_optional(&mut *session)).await;
        Ok(session.judge(owner)?)
    }

    async fn list_changed_keys(&self, told: Duration, _: Timestamp) -> Result<Vec<ChangedKey>, StoreError> {
        let mut session = session::acquire(&self.reading).await?;
        let rows = answer(sqlx::query_as(LIST_CHANGED).bind(told.as_secs_f64()).fetch_all(&mut *session)).await;
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
