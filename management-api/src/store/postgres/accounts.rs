//! Accounts in PostgreSQL.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared::config::Secret;
use shared::event::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row as _};
use uuid::Uuid;

use super::sessions::revoke;
use super::{PostgresStore, answer, session};
use crate::store::accounts::ACCOUNTS_MAX;
use crate::store::{Account, AccountKeeping, KnownAccount, NewAccount, Revocation, StoreError};

const CREATE: &str = "
    INSERT INTO accounts (account_id, username, email, is_admin, created_at, username_key, email_key, password_hash)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";

const FIND: &str = "
    SELECT account_id, username, email, is_admin, created_at, password_hash FROM accounts WHERE email_key = $1";

const REPLACE_HASH: &str = "UPDATE accounts SET password_hash = $3 WHERE account_id = $1 AND password_hash = $2";

const APPOINT_ADMIN: &str = "UPDATE accounts SET is_admin = true WHERE account_id = $1";

const LIST: &str = "
    SELECT account_id, username, email, is_admin, created_at FROM accounts
    WHERE account_id < coalesce($1, 'ffffffff-ffff-ffff-ffff-ffffffffffff') ORDER BY account_id DESC LIMIT $2";

/// Its sessions go with it, its keys are revoked: changed by the clock that says how long that is told. What others are forgetting at the moment is left to them.
const DELETE: &str = "
    WITH ended AS (
        DELETE FROM accounts WHERE account_id = $1 RETURNING account_id
    ), keys AS (
        UPDATE api_keys SET version = version + 1, changed_at = now(), revoked_at = $2
        WHERE account_id = $1 AND revoked_at IS NULL
    ), forgotten AS (
        DELETE FROM token_revocations WHERE revoked_id IN (
            SELECT revoked_id FROM token_revocations WHERE revoked_at < $3 ORDER BY revoked_at LIMIT $4
            FOR UPDATE SKIP LOCKED
        )
    )
    INSERT INTO token_revocations (revoked_id, revoked_at) SELECT account_id, $2 FROM ended";

#[async_trait]
impl AccountKeeping for PostgresStore {
    async fn create_account(&self, new: &NewAccount) -> Result<bool, StoreError> {
        let query = sqlx::query(CREATE)
            .bind(new.account.account_id)
            .bind(&new.account.username)
            .bind(&new.account.email)
            .bind(new.account.is_admin)
            .bind(new.account.created_at.datetime())
            .bind(&new.username_key)
            .bind(&new.email_key)
            .bind(new.password_hash.expose());
        let mut session = session::acquire(&self.reading).await?;
        let created = answer(query.execute(&mut *session)).await;
        Ok(session.judge(created)?.rows_affected() == 1)
    }

    async fn find_account(&self, email_key: &str) -> Result<Option<KnownAccount>, StoreError> {
        let mut session = session::acquire(&self.reading).await?;
        let row = answer(sqlx::query(FIND).bind(email_key).fetch_optional(&mut *session)).await;
        let Some(row) = session.judge(row)? else { return Ok(None) };
        let account = StoredAccount::from_row(&row)?.0;
        Ok(Some(KnownAccount { account, password_hash: Secret::new(row.try_get(5)?) }))
    }

    async fn replace_hash(
        &self,
        account_id: Uuid,
        old: &Secret<String>,
        new: &Secret<String>,
    ) -> Result<(), StoreError> {
        let query = sqlx::query(REPLACE_HASH).bind(account_id).bind(old.expose()).bind(new.expose());
        let mut session = session::acquire(&self.reading).await?;
        let replaced = answer(query.execute(&mut *session)).await;
        session.judge(replaced)?;
        Ok(())
    }

    async fn appoint_admin(&self, account_id: Uuid) -> Result<(), StoreError> {
        let mut session = session::acquire(&self.reading).await?;
        let appointed = answer(sqlx::query(APPOINT_ADMIN).bind(account_id).execute(&mut *session)).await;
        session.judge(appointed)?;
        Ok(())
    }

    async fn delete_account(&self, account_id: Uuid, revocation: Revocation) -> Result<bool, StoreError> {
        revoke(&self.reading, DELETE, account_id, revocation).await
    }

    async fn list_accounts(&self, after: Option<Uuid>, limit: u32) -> Result<Vec<Account>, StoreError> {
        let query = sqlx::query_as(LIST).bind(after).bind(i64::from(limit.clamp(1, ACCOUNTS_MAX)));
        let mut session = session::acquire(&self.reading).await?;
        let rows = answer(query.fetch_all(&mut *session)).await;
        let rows: Vec<StoredAccount> = session.judge(rows)?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }
}

struct StoredAccount(Account);

/// By position, the same in every statement.
impl<'r> FromRow<'r, PgRow> for StoredAccount {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self(Account {
            account_id: row.try_get(0)?,
            username: row.try_get(1)?,
            email: row.try_get(2)?,
            is_admin: row.try_get(3)?,
            created_at: Timestamp::new(row.try_get::<DateTime<Utc>, _>(4)?),
        }))
    }
}
