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
use crate::store::sessions::FORGOTTEN_MAX;
use crate::store::{Account, AccountKeeping, KnownAccount, NewAccount, PasswordChange, Revocation, StoreError};

const CREATE: &str = "
    INSERT INTO accounts (account_id, username, email, is_admin, created_at, username_key, email_key, password_hash)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";

const FIND: &str = "
    SELECT account_id, username, email, is_admin, created_at, password_hash FROM accounts WHERE email_key = $1";

const FIND_BY_ID: &str = "
    SELECT account_id, username, email, is_admin, created_at, password_hash FROM accounts WHERE account_id = $1";

const REPLACE_HASH: &str = "UPDATE accounts SET password_hash = $3 WHERE account_id = $1 AND password_hash = $2";

/// What others are forgetting at the moment is left to them.
const CHANGE_PASSWORD: &str = "
    WITH changed AS (
        UPDATE accounts SET password_hash = $6 WHERE account_id = $1 AND password_hash = $5 RETURNING account_id
    ), ended AS (
        DELETE FROM sessions WHERE account_id = (SELECT account_id FROM changed) AND session_id <> $7 RETURNING session_id
    ), forgotten AS (
        DELETE FROM token_revocations WHERE revoked_id IN (
            SELECT revoked_id FROM token_revocations WHERE revoked_at < $3 ORDER BY revoked_at LIMIT $4
            FOR UPDATE SKIP LOCKED
        )
    ), revoked AS (
        INSERT INTO token_revocations (revoked_id, revoked_at) SELECT session_id, $2 FROM ended
    )
    SELECT account_id FROM changed";

/// Sessions that began while the change waited for them: it could not see those.
const END_OTHERS: &str = "
    WITH ended AS (
        DELETE FROM sessions WHERE account_id = $1 AND session_id <> $3 RETURNING session_id
    )
    INSERT INTO token_revocations (revoked_id, revoked_at) SELECT session_id, $2 FROM ended";

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
        session.judge(row)?.map(|row| known(&row)).transpose()
    }

    async fn find_account_by_id(&self, account_id: Uuid) -> Result<Option<KnownAccount>, StoreError> {
        let mut session = session::acquire(&self.reading).await?;
        let row = answer(sqlx::query(FIND_BY_ID).bind(account_id).fetch_optional(&mut *session)).await;
        session.judge(row)?.map(|row| known(&row)).transpose()
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

    async fn change_password(&self, change: &PasswordChange) -> Result<bool, StoreError> {
        let PasswordChange { account_id, old_hash, new_hash, goes_on, revocation } = change;
        let query = sqlx::query(CHANGE_PASSWORD)
            .bind(account_id)
            .bind(revocation.at.datetime())
            .bind(revocation.forgets_before.datetime())
            .bind(i64::from(FORGOTTEN_MAX))
            .bind(old_hash.expose())
            .bind(new_hash.expose())
            .bind(goes_on);
        let mut session = session::acquire(&self.reading).await?;
        let changed = answer(query.fetch_optional(&mut *session)).await;
        if session.judge(changed)?.is_none() {
            return Ok(false);
        }
        let query = sqlx::query(END_OTHERS).bind(account_id).bind(revocation.at.datetime()).bind(goes_on);
        let mut session = session::acquire(&self.reading).await?;
        let ended = answer(query.execute(&mut *session)).await;
        session.judge(ended)?;
        Ok(true)
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

fn known(row: &PgRow) -> Result<KnownAccount, StoreError> {
    Ok(KnownAccount { account: StoredAccount::from_row(row)?.0, password_hash: Secret::new(row.try_get(5)?) })
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
