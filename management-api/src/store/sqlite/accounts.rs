//! Accounts in SQLite.

use async_trait::async_trait;
use shared::config::Secret;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::sessions::{parse_id, parse_time, revoke};
use super::{SqliteStore, judge};
use crate::store::accounts::ACCOUNTS_MAX;
use crate::store::{Account, AccountKeeping, KnownAccount, NewAccount, Revocation, StoreError};

const CREATE: &str = "
    INSERT INTO accounts (account_id, username, email, is_admin, created_at, username_key, email_key, password_hash)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING";

const FIND: &str = "
    SELECT account_id, username, email, is_admin, created_at, password_hash FROM accounts WHERE email_key = ?1";

const REPLACE_HASH: &str = "UPDATE accounts SET password_hash = ?3 WHERE account_id = ?1 AND password_hash = ?2";

const APPOINT_ADMIN: &str = "UPDATE accounts SET is_admin = 1 WHERE account_id = ?1";

/// `~` is behind every id.
const LIST: &str = "
    SELECT account_id, username, email, is_admin, created_at FROM accounts
    WHERE account_id < coalesce(?1, '~') ORDER BY account_id DESC LIMIT ?2";

const REVOKE_KEYS: &str = "
    UPDATE api_keys SET version = version + 1, changed_at = ?2, revoked_at = ?2
    WHERE account_id = ?1 AND revoked_at IS NULL";

/// Its sessions go with it.
const DELETE: &str = "DELETE FROM accounts WHERE account_id = ?1";

#[async_trait]
impl AccountKeeping for SqliteStore {
    async fn create_account(&self, new: &NewAccount) -> Result<bool, StoreError> {
        let query = sqlx::query(CREATE)
            .bind(new.account.account_id.to_string())
            .bind(&new.account.username)
            .bind(&new.account.email)
            .bind(new.account.is_admin)
            .bind(new.account.created_at.to_string())
            .bind(&new.username_key)
            .bind(&new.email_key)
            .bind(new.password_hash.expose());
        let mut writer = self.account_writer().await?;
        let created = query.execute(&mut *writer.connection).await;
        Ok(judge(writer, created)?.rows_affected() == 1)
    }

    async fn find_account(&self, email_key: &str) -> Result<Option<KnownAccount>, StoreError> {
        let row = sqlx::query(FIND).bind(email_key).fetch_optional(&self.reading).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(KnownAccount { account: account(&row)?, password_hash: Secret::new(row.try_get(5)?) }))
    }

    async fn replace_hash(
        &self,
        account_id: Uuid,
        old: &Secret<String>,
        new: &Secret<String>,
    ) -> Result<(), StoreError> {
        let query = sqlx::query(REPLACE_HASH).bind(account_id.to_string()).bind(old.expose()).bind(new.expose());
        let mut writer = self.account_writer().await?;
        let replaced = query.execute(&mut *writer.connection).await;
        judge(writer, replaced).map(drop)
    }

    async fn appoint_admin(&self, account_id: Uuid) -> Result<(), StoreError> {
        let mut writer = self.account_writer().await?;
        let appointed = sqlx::query(APPOINT_ADMIN).bind(account_id.to_string()).execute(&mut *writer.connection).await;
        judge(writer, appointed).map(drop)
    }

    async fn delete_account(&self, account_id: Uuid, revocation: Revocation) -> Result<bool, StoreError> {
        let mut writer = self.account_writer().await?;
        let deleted = revoke(&mut writer.connection, &[REVOKE_KEYS, DELETE], account_id, revocation).await;
        judge(writer, deleted)
    }

    async fn list_accounts(&self, after: Option<Uuid>, limit: u32) -> Result<Vec<Account>, StoreError> {
        let query = sqlx::query(LIST).bind(after.map(|id| id.to_string())).bind(limit.clamp(1, ACCOUNTS_MAX));
        let rows = query.fetch_all(&self.reading).await?;
        rows.iter().map(account).collect()
    }
}

/// By position, the same in every statement.
fn account(row: &SqliteRow) -> Result<Account, StoreError> {
    Ok(Account {
        account_id: parse_id(row.try_get(0)?)?,
        username: row.try_get(1)?,
        email: row.try_get(2)?,
        is_admin: row.try_get(3)?,
        created_at: parse_time(row.try_get(4)?)?,
    })
}
