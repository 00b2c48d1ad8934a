//! Sessions in SQLite.

use async_trait::async_trait;
use shared::config::Secret;
use shared::event::Timestamp;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _};
use uuid::Uuid;

use super::{BEGIN_WRITING, SqliteStore, judge};
use crate::store::sessions::{FORGOTTEN_MAX, SESSIONS_MAX};
use crate::store::{NewSession, Revocation, Session, SessionKeeping, SpentToken, Standing, StoreError, TokenHash};

const BEGIN: &str = "
    INSERT INTO sessions (session_id, account_id, successor_key, current_token, began_at, last_used_at, ends_at)
    SELECT ?1, account_id, ?3, ?4, ?5, ?5, ?6 FROM accounts WHERE account_id = ?2 AND password_hash = ?7";

const FORGET_SESSIONS: &str = "
    DELETE FROM sessions WHERE account_id = ?1 AND (ends_at <= ?2 OR session_id IN (
        SELECT session_id FROM sessions WHERE account_id = ?1 ORDER BY last_used_at DESC LIMIT -1 OFFSET ?3
    ))";

const FIND: &str = "
    SELECT account_id, username, is_admin, successor_key, began_at, ends_at, current_token = ?2, spent_at
    FROM sessions JOIN accounts USING (account_id)
    LEFT JOIN spent_tokens ON spent_tokens.session_id = sessions.session_id AND token_hash = ?2
    WHERE sessions.session_id = ?1";

const SPEND: &str = "
    UPDATE sessions SET current_token = ?3, last_used_at = ?4, ends_at = ?5
    WHERE session_id = ?1 AND current_token = ?2";

const FORGET_SPENT: &str = "DELETE FROM spent_tokens WHERE session_id = ?1 AND spent_at < ?2";

const REMEMBER_SPENT: &str = "INSERT INTO spent_tokens (session_id, token_hash, spent_at) VALUES (?1, ?2, ?3)";

const END: &str = "DELETE FROM sessions WHERE session_id = ?1";

const FORGET_REVOKED: &str = "
    DELETE FROM token_revocations WHERE revoked_id IN (
        SELECT revoked_id FROM token_revocations WHERE revoked_at < ?1 ORDER BY revoked_at LIMIT ?2
    )";

const REMEMBER_REVOKED: &str = "INSERT INTO token_revocations (revoked_id, revoked_at) VALUES (?1, ?2)";

const LIST_REVOKED: &str = "SELECT revoked_id FROM token_revocations WHERE revoked_at >= ?1";

#[async_trait]
impl SessionKeeping for SqliteStore {
    async fn begin_session(&self, session: &NewSession) -> Result<bool, StoreError> {
        let mut writer = self.account_writer().await?;
        let begun = begin(&mut writer.connection, session).await;
        judge(writer, begun)
    }

    async fn find_session(
        &self,
        session_id: Uuid,
        token: &TokenHash,
        now: Timestamp,
    ) -> Result<Option<Session>, StoreError> {
        let query = sqlx::query(FIND).bind(session_id.to_string()).bind(token.as_slice());
        let row = query.fetch_optional(&self.reading).await?;
        row.map(|row| session(&row, now)).transpose()
    }

    async fn spend_token(&self, spent: &SpentToken) -> Result<bool, StoreError> {
        let mut writer = self.account_writer().await?;
        let moved = spend(&mut writer.connection, spent).await;
        judge(writer, moved)
    }

    async fn revoke_session(&self, session_id: Uuid, revocation: Revocation) -> Result<(), StoreError> {
        let mut writer = self.account_writer().await?;
        let revoked = revoke(&mut writer.connection, &[END], session_id, revocation).await;
        judge(writer, revoked).map(drop)
    }

    async fn list_revoked(&self, since: Timestamp) -> Result<Vec<Uuid>, StoreError> {
        let query = sqlx::query_scalar(LIST_REVOKED).bind(since.to_string());
        let revoked: Vec<String> = query.fetch_all(&self.reading).await?;
        revoked.iter().map(|id| parse_id(id)).collect()
    }
}

async fn begin(connection: &mut SqliteConnection, session: &NewSession) -> Result<bool, sqlx::Error> {
    let (account_id, began_at) = (session.account_id.to_string(), session.began_at.to_string());
    let mut transaction = connection.begin_with(BEGIN_WRITING).await?;
    let query = sqlx::query(FORGET_SESSIONS).bind(&account_id).bind(&began_at).bind(SESSIONS_MAX - 1);
    query.execute(&mut *transaction).await?;
    let query = sqlx::query(BEGIN)
        .bind(session.session_id.to_string())
        .bind(&account_id)
        .bind(session.successor_key.expose().as_slice())
        .bind(session.token.as_slice())
        .bind(&began_at)
        .bind(session.ends_at.to_string())
        .bind(session.password_hash.expose());
    let begun = query.execute(&mut *transaction).await?.rows_affected();
    transaction.commit().await?;
    Ok(begun == 1)
}

async fn spend(connection: &mut SqliteConnection, spent: &SpentToken) -> Result<bool, sqlx::Error> {
    let (session_id, spent_at) = (spent.session_id.to_string(), spent.spent_at.to_string());
    let mut transaction = connection.begin_with(BEGIN_WRITING).await?;
    let query = sqlx::query(SPEND)
        .bind(&session_id)
        .bind(spent.token.as_slice())
        .bind(spent.successor.as_slice())
        .bind(&spent_at)
        .bind(spent.ends_at.to_string());
    let moved = query.execute(&mut *transaction).await?.rows_affected() == 1;
    if moved {
        let forgets_before = spent.spent_at.before(spent.forgets_after);
        let query = sqlx::query(FORGET_SPENT).bind(&session_id).bind(forgets_before.to_string());
        query.execute(&mut *transaction).await?;
        let query = sqlx::query(REMEMBER_SPENT).bind(&session_id).bind(spent.token.as_slice()).bind(&spent_at);
        query.execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(moved)
}

/// Ends what the last of `statements` ends, and gives whether it was there.
pub(super) async fn revoke(
    connection: &mut SqliteConnection,
    statements: &[&'static str],
    id: Uuid,
    revocation: Revocation,
) -> Result<bool, sqlx::Error> {
    let (id, at) = (id.to_string(), revocation.at.to_string());
    let mut transaction = connection.begin_with(BEGIN_WRITING).await?;
    let mut ended = false;
    for statement in statements {
        let query = sqlx::query(*statement).bind(&id).bind(&at);
        ended = query.execute(&mut *transaction).await?.rows_affected() == 1;
    }
    if ended {
        forget_revoked(&mut transaction, revocation.forgets_before).await?;
        sqlx::query(REMEMBER_REVOKED).bind(&id).bind(&at).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(ended)
}

/// Forgets what was revoked before.
pub(super) async fn forget_revoked(connection: &mut SqliteConnection, before: Timestamp) -> Result<(), sqlx::Error> {
    let query = sqlx::query(FORGET_REVOKED).bind(before.to_string()).bind(FORGOTTEN_MAX);
    query.execute(connection).await.map(drop)
}

/// By position.
fn session(row: &SqliteRow, now: Timestamp) -> Result<Session, StoreError> {
    let time = |column: usize| parse_time(row.try_get(column)?);
    let key: Vec<u8> = row.try_get(3)?;
    let spent_at: Option<&str> = row.try_get(7)?;
    Ok(Session {
        account_id: parse_id(row.try_get(0)?)?,
        username: row.try_get(1)?,
        is_admin: row.try_get(2)?,
        successor_key: Secret::new(key.try_into().map_err(|_| StoreError("no key of a session".to_owned()))?),
        began_at: time(4)?,
        ends_at: time(5)?,
        standing: match spent_at.map(parse_time).transpose()? {
            _ if row.try_get(6)? => Standing::Current,
            Some(spent_at) => Standing::Spent(now.since(spent_at)),
            None => Standing::Unknown,
        },
    })
}

pub(super) fn parse_id(text: &str) -> Result<Uuid, StoreError> {
    text.parse().map_err(|_| StoreError("no id".to_owned()))
}

pub(super) fn parse_time(text: &str) -> Result<Timestamp, StoreError> {
    Timestamp::parse(text).map_err(|error| StoreError(error.to_string()))
}
