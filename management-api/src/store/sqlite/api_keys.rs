//! API keys in SQLite.

use std::time::Duration;

use async_trait::async_trait;
use shared::api_keys::{ApiKeyRow, ChangedKey, KnownKey, SecretHash};
use shared::event::Timestamp;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _};
use uuid::Uuid;

use super::sessions::{parse_id, parse_time};
use super::{BEGIN_WRITING, SqliteStore, judge};
use crate::store::api_keys::{FoundSecret, LISTED_MAX, OVER_MAX, parse_scopes, scopes_text};
use crate::store::{Creation, KeyKeeping, NewKey, Rotated, Rotation, StoreError, WhichKey};

/// What is over for longer than that is told (`?2`) counts nowhere.
const FORGET: &str = "
    DELETE FROM api_keys WHERE key_id IN (
        SELECT key_id FROM api_keys
        WHERE account_id = ?1 AND (revoked_at IS NOT NULL AND changed_at < ?2 OR expires_at < ?2)
        ORDER BY coalesce(revoked_at, expires_at) DESC LIMIT -1 OFFSET ?3
    )";

const COUNT: &str = "
    SELECT EXISTS (SELECT 1 FROM accounts WHERE account_id = ?1),
        count(*) FILTER (WHERE revoked_at IS NULL),
        count(*) FILTER (WHERE revoked_at IS NULL OR version > 0 AND changed_at >= ?2)
    FROM api_keys WHERE account_id = ?1 AND (expires_at IS NULL OR expires_at >= ?2)";

const CREATE: &str = "
    INSERT INTO api_keys (
        key_id, account_id, name, scopes, rate_per_second, secret_hash, secret_start, created_at, expires_at, version,
        changed_at
    ) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?8)";

/// Without its account it is nobody's, also one that was made while that was being deleted.
const FIND: &str = "
    SELECT key_id, account_id, scopes, rate_per_second, expires_at, version, iif(secret_hash = ?1, NULL, old_ends_at)
    FROM api_keys JOIN accounts USING (account_id)
    WHERE (secret_hash = ?1 OR old_secret_hash = ?1) AND revoked_at IS NULL";

const LIST: &str = "
    SELECT key_id, account_id, name, scopes, rate_per_second, secret_start, created_at, expires_at, revoked_at,
        (SELECT max(last_at) FROM api_key_requests AS used WHERE used.key_id = api_keys.key_id)
    FROM api_keys WHERE account_id = ?1 ORDER BY key_id DESC LIMIT ?2";

/// Whose key it is, and whether it may be rotated so.
const ROTATING: &str = "
    SELECT account_id, old_ends_at IS NULL OR old_ends_at <= ?3 OR ?4 <= ?3, old_ends_at FROM api_keys
    WHERE key_id = ?1 AND account_id = coalesce(?2, account_id) AND revoked_at IS NULL
        AND (expires_at IS NULL OR expires_at > ?3)";

const ROTATE: &str = "
    UPDATE api_keys SET old_secret_hash = secret_hash, old_ends_at = ?5, secret_hash = ?2, secret_start = ?3,
        version = version + 1, changed_at = ?4
    WHERE key_id = ?1";

/// What is revoked already stays as it is.
const REVOKE: &str = "
    UPDATE api_keys SET version = version + (revoked_at IS NULL), changed_at = iif(revoked_at IS NULL, ?3, changed_at),
        revoked_at = coalesce(revoked_at, ?3)
    WHERE key_id = ?1 AND account_id = coalesce(?2, account_id)
    RETURNING account_id";

const LIST_CHANGED: &str = "
    SELECT key_id, version FROM api_keys
    WHERE changed_at >= ?1 AND version > 0 AND (expires_at IS NULL OR expires_at >= ?1)";

#[async_trait]
impl KeyKeeping for SqliteStore {
    async fn create_key(&self, key: &NewKey) -> Result<Creation, StoreError> {
        let mut writer = self.account_writer().await?;
        let created = create(&mut writer.connection, key).await;
        judge(writer, created)
    }

    async fn find_key(&self, hash: &SecretHash, now: Timestamp) -> Result<Option<KnownKey>, StoreError> {
        let row = sqlx::query(FIND).bind(hash.0.as_slice()).fetch_optional(&self.reading).await?;
        let found = row.map(|row| found(&row)).transpose()?;
        Ok(found.and_then(|found| found.counting_at(now)))
    }

    async fn list_keys(&self, account_id: Uuid) -> Result<Vec<ApiKeyRow>, StoreError> {
        let query = sqlx::query(LIST).bind(account_id.to_string()).bind(LISTED_MAX);
        let rows = query.fetch_all(&self.reading).await?;
        rows.iter().map(key).collect()
    }

    async fn rotate_key(&self, rotation: &Rotation) -> Result<Rotated, StoreError> {
        let mut writer = self.account_writer().await?;
        let found = rotate(&mut writer.connection, rotation).await;
        let found = judge(writer, found)?.map(|(owner, is_done, until)| {
            let until = until.as_deref().map(parse_time).transpose()?;
            Ok::<_, StoreError>((parse_id(&owner)?, is_done, until))
        });
        Ok(Rotated::judge(found.transpose()?))
    }

    async fn revoke_key(&self, which: WhichKey, at: Timestamp) -> Result<Option<Uuid>, StoreError> {
        let query = sqlx::query_scalar(REVOKE)
            .bind(which.key_id.to_string())
            .bind(which.account_id.map(|id| id.to_string()))
            .bind(at.to_string());
        let mut writer = self.account_writer().await?;
        let owner: Result<Option<String>, _> = query.fetch_optional(&mut *writer.connection).await;
        judge(writer, owner)?.map(|id| parse_id(&id)).transpose()
    }

    async fn list_changed_keys(&self, told: Duration, now: Timestamp) -> Result<Vec<ChangedKey>, StoreError> {
        let since = now.before(told).to_string();
        let rows: Vec<(String, i32)> = sqlx::query_as(LIST_CHANGED).bind(since).fetch_all(&self.reading).await?;
        rows.into_iter().map(|(id, version)| Ok(ChangedKey { key_id: parse_id(&id)?, version })).collect()
    }
}

async fn create(connection: &mut SqliteConnection, key: &NewKey) -> Result<Creation, sqlx::Error> {
    let (account_id, since) = (key.account_id.to_string(), key.created_at.before(key.told).to_string());
    let mut transaction = connection.begin_with(BEGIN_WRITING).await?;
    let query = sqlx::query(FORGET).bind(&account_id).bind(&since).bind(OVER_MAX);
    query.execute(&mut *transaction).await?;
    let query = sqlx::query_as(COUNT).bind(&account_id).bind(&since);
    let (has_account, standing, told): (bool, i64, i64) = query.fetch_one(&mut *transaction).await?;
    let creation = Creation::judge(has_account, standing, told);
    if creation == Creation::Kept {
        let query = sqlx::query(CREATE)
            .bind(key.key_id.to_string())
            .bind(&account_id)
            .bind(&key.name)
            .bind(scopes_text(&key.scopes))
            .bind(key.rate_per_second)
            .bind(key.secret_hash.0.as_slice())
            .bind(&key.secret_start)
            .bind(key.created_at.to_string())
            .bind(key.expires_at.map(|time| time.to_string()));
        query.execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(creation)
}

/// Gives whose key it is, whether that has the new secret, and until when the one before was to count.
async fn rotate(
    connection: &mut SqliteConnection,
    rotation: &Rotation,
) -> Result<Option<(String, bool, Option<String>)>, sqlx::Error> {
    let key_id = rotation.which.key_id.to_string();
    let (at, old_ends_at) = (rotation.at.to_string(), rotation.old_ends_at.to_string());
    let mut transaction = connection.begin_with(BEGIN_WRITING).await?;
    let query = sqlx::query_as(ROTATING)
        .bind(&key_id)
        .bind(rotation.which.account_id.map(|id| id.to_string()))
        .bind(&at)
        .bind(&old_ends_at);
    let found: Option<(String, bool, Option<String>)> = query.fetch_optional(&mut *transaction).await?;
    if matches!(found, Some((_, true, _))) {
        let query = sqlx::query(ROTATE)
            .bind(&key_id)
            .bind(rotation.secret_hash.0.as_slice())
            .bind(&rotation.secret_start)
            .bind(&at)
            .bind(&old_ends_at);
        query.execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(found)
}

/// By position.
fn found(row: &SqliteRow) -> Result<FoundSecret, StoreError> {
    Ok(FoundSecret {
        key_id: parse_id(row.try_get(0)?)?,
        account_id: parse_id(row.try_get(1)?)?,
        scopes: row.try_get(2)?,
        rate_per_second: row.try_get(3)?,
        expires_at: time(row, 4)?,
        version: row.try_get(5)?,
        old_ends_at: time(row, 6)?,
    })
}

/// By position.
fn key(row: &SqliteRow) -> Result<ApiKeyRow, StoreError> {
    Ok(ApiKeyRow {
        key_id: parse_id(row.try_get(0)?)?,
        account_id: parse_id(row.try_get(1)?)?,
        name: row.try_get(2)?,
        scopes: parse_scopes(row.try_get(3)?),
        rate_per_second: row.try_get(4)?,
        secret_start: row.try_get(5)?,
        created_at: parse_time(row.try_get(6)?)?,
        expires_at: time(row, 7)?,
        last_used_at: time(row, 9)?,
        revoked_at: time(row, 8)?,
    })
}

fn time(row: &SqliteRow, column: usize) -> Result<Option<Timestamp>, StoreError> {
    row.try_get::<Option<&str>, _>(column)?.map(parse_time).transpose()
}
