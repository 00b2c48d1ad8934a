//! Accounts in SQLite.

use async_trait::async_trait;
use shared::config::Secret;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _};
use uuid::Uuid;

use super::sessions::{forget_revoked, parse_id, parse_time, revoke};
use super::{BEGIN_WRITING, SqliteStore, judge};
use crate::store::accounts::ACCOUNTS_MAX;
use crate::store::{Account, AccountKeeping, KnownAccount, NewAccount, PasswordChange, Revocation, StoreError};

const CREATE: &str = "
    INSERT INTO accounts (account_id, username, email, is_admin, created_at, username_key, email_key, password_hash)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING";

const FIND: &str = "
    SELECT account_id, username, email, is_admin, created_at, password_hash FROM accounts WHERE email_key = ?1";

const FIND_BY_ID: &str = "
    SELECT account_id, username, email, is_admin, created_at, password_hash FROM accounts WHERE account_id = ?1";

const REPLACE_HASH: &str = "UPDATE accounts SET password_hash = ?3 WHERE account_id = ?1 AND password_hash = ?2";

const REVOKE_OTHERS: &str = "
    INSERT INTO token_revocations (revoked_id, revoked_at)
    SELECT session_id, ?3 FROM sessions WHERE account_id = ?1 AND session_id <> ?2";

const END_OTHERS: &str = "DELETE FROM sessions WHERE account_id = ?1 AND session_id <> ?2";

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
        row.map(|row| known(&row)).transpose()
    }

    async fn find_account_by_id(&self, account_id: Uuid) -> Result<Option<KnownAccount>, StoreError> {
        let row = sqlx::query(FIND_BY_ID).bind(account_id.to_string()).fetch_optional(&self.reading).await?;
        row.map(|row| known(&row)).transpose()
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

    async fn change_password(&self, change: &PasswordChange) -> Result<bool, StoreError> {
        let mut writer = self.account_writer().await?;
        let changed = change_password(&mut writer.connection, change).await;
        judge(writer, changed)
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

async fn change_password(connection: &mut SqliteConnection, change: &PasswordChange) -> Result<bool, sqlx::Error> {
    let (account_id, goes_on) = (change.account_id.to_string(), change.goes_on.to_string());
    let mut transaction = connection.begin_with(BEGIN_WRITING).await?;
    let query =
        sqlx::query(REPLACE_HASH).bind(&account_id).bind(change.old_hash.expose()).bind(change.new_hash.expose());
    let changed = query.execute(&mut *transaction).await?.rows_affected() == 1;
    if changed {
        let Revocation { at, forgets_before } = change.revocation;
        forget_revoked(&mut transaction, forgets_before).await?;
        let query = sqlx::query(REVOKE_OTHERS).bind(&account_id).bind(&goes_on).bind(at.to_string());
        query.execute(&mut *transaction).await?;
        sqlx::query(END_OTHERS).bind(&account_id).bind(&goes_on).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(changed)
}

fn known(row: &SqliteRow) -> Result<KnownAccount, StoreError> {
    Ok(KnownAccount { account: account(row)?, password_hash: Secret::new(row.try_get(5)?) })
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
