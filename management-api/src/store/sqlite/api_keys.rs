//! API keys in SQLite.

use async_trait::async_trait;
use shared::api_keys::{ApiKeyRow, ChangedKey, KnownKey, SecretHash};
use shared::event::Timestamp;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _};
use uuid::Uuid;

use super::sessions::{parse_id, parse_time};
use super::{BEGIN_WRITING, SqliteStore, judge};
use crate::store::api_keys::{FoundSecret, KEYS_MAX, REVOKED_MAX, parse_scopes, scopes_text};
use crate::store::{Creation, KeyKeeping, NewKey, Rotation, StoreError, WhichKey};

const FORGET: &str = "
    DELETE FROM api_keys WHERE key_id IN (
        SELECT key_id FROM api_keys WHERE account_id = ?1 AND revoked_at < ?2 ORDER BY revoked_at DESC LIMIT -1 OFFSET ?3
    )";

const STANDING: &str = "
    SELECT EXISTS (SELECT 1 FROM accounts WHERE account_id = ?1),
        (SELECT count(*) FROM api_keys WHERE account_id = ?1 AND revoked_at IS NULL)";

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

const ROTATE: &str = "
    UPDATE api_keys SET old_secret_hash = secret_hash, old_ends_at = ?6, secret_hash = ?3, secret_start = ?4,
        version = version + 1, changed_at = ?5
    WHERE key_id = ?1 AND account_id = coalesce(?2, account_id) AND revoked_at IS NULL
        AND (expires_at IS NULL OR expires_at > ?5)
    RETURNING account_id";

/// What is revoked already stays as it is.
const REVOKE: &str = "
    UPDATE api_keys SET version = version + (revoked_at IS NULL), changed_at = iif(revoked_at IS NULL, ?3, changed_at),
        revoked_at = coalesce(revoked_at, ?3)
    WHERE key_id = ?1 AND account_id = coalesce(?2, account_id)
    RETURNING account_id";

const LIST_CHANGED: &str = "SELECT key_id, version FROM api_keys WHERE changed_at >= ?1 AND version > 0";

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
        let query = sqlx::query(LIST).bind(account_id.to_string()).bind(KEYS_MAX + REVOKED_MAX);
        let rows = query.fetch_all(&self.reading).await?;
        rows.iter().map(key).collect()
    }

    async fn rotate_key(&self, rotation: &Rotation) -> Result<Option<Uuid>, StoreError> {
        let query = sqlx::query_scalar(ROTATE)
            .bind(rotation.which.key_id.to_string())
            .bind(rotation.which.account_id.map(|id| id.to_string()))
            .bind(rotation.secret_hash.0.as_slice())
            .bind(&rotation.secret_start)
            .bind(rotation.at.to_string())
            .bind(rotation.old_ends_at.to_string());
        let mut writer = self.account_writer().await?;
        let owner: Result<Option<String>, _> = query.fetch_optional(&mut *writer.connection).await;
        judge(writer, owner)?.map(|id| parse_id(&id)).transpose()
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

    async fn list_changed_keys(&self, since: Timestamp) -> Result<Vec<ChangedKey>, StoreError> {
        let rows: Vec<(String, i32)> =
            sqlx::query_as(LIST_CHANGED).bind(since.to_string()).fetch_all(&self.reading).await?;
        rows.into_iter().map(|(id, version)| Ok(ChangedKey { key_id: parse_id(&id)?, version })).collect()
    }
}

async fn create(connection: &mut SqliteConnection, key: &NewKey) -> Result<Creation, sqlx::Error> {
    let account_id = key.account_id.to_string();
    let mut transaction = connection.begin_with(BEGIN_WRITING).await?;
    let query = sqlx::query(FORGET).bind(&account_id).bind(key.forgets_before.to_string()).bind(REVOKED_MAX);
    query.execute(&mut *transaction).await?;
    let (is_there, keys): (bool, u32) = sqlx::query_as(STANDING).bind(&account_id).fetch_one(&mut *transaction).await?;
    let creation = match (is_there, keys) {
        (false, _) => Creation::NoAccount,
        (true, KEYS_MAX..) => Creation::TooMany,
        (true, _) => {
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
            Creation::Kept
        }
    };
    transaction.commit().await?;
    Ok(creation)
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
