//! Sessions in PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared::config::Secret;
use shared::event::Timestamp;
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{FromRow, Row as _};
use uuid::Uuid;

use super::{PostgresStore, answer, session};
use crate::store::sessions::{FORGOTTEN_MAX, SESSIONS_MAX};
use crate::store::{NewSession, Revocation, Session, SessionKeeping, SpentToken, Standing, StoreError, TokenHash};

/// An account that is being deleted or gets another password is waited for, and then is not there, or not with this one.
const BEGIN: &str = "
    WITH owner AS (
        SELECT account_id FROM accounts WHERE account_id = $2 AND password_hash = $8 FOR SHARE
    ), over AS (
        DELETE FROM sessions WHERE account_id = $2 AND (ends_at <= $5 OR session_id IN (
            SELECT session_id FROM sessions WHERE account_id = $2 ORDER BY last_used_at DESC OFFSET $7
        ))
    )
    INSERT INTO sessions (session_id, account_id, successor_key, current_token, began_at, last_used_at, ends_at)
    SELECT $1, account_id, $3, $4, $5, $5, $6 FROM owner";

const FIND: &str = "
    SELECT account_id, username, is_admin, successor_key, began_at, ends_at, current_token = $2,
        extract(epoch FROM clock_timestamp() - spent_at)::float8
    FROM sessions JOIN accounts USING (account_id)
    LEFT JOIN spent_tokens ON spent_tokens.session_id = sessions.session_id AND token_hash = $2
    WHERE sessions.session_id = $1";

/// Whoever comes second waits here for the first one's commit, and then finds another token.
const SPEND: &str = "
    WITH moved AS (
        UPDATE sessions SET current_token = $3, last_used_at = $4, ends_at = $5
        WHERE session_id = $1 AND current_token = $2 RETURNING session_id
    ), forgotten AS (
        DELETE FROM spent_tokens WHERE session_id = $1 AND spent_at < clock_timestamp() - make_interval(secs => $6)
    )
    INSERT INTO spent_tokens (session_id, token_hash, spent_at) SELECT session_id, $2, clock_timestamp() FROM moved";

/// What others are forgetting at the moment is left to them.
const REVOKE: &str = "
    WITH ended AS (
        DELETE FROM sessions WHERE session_id = $1 RETURNING session_id
    ), forgotten AS (
        DELETE FROM token_revocations WHERE revoked_id IN (
            SELECT revoked_id FROM token_revocations WHERE revoked_at < $3 ORDER BY revoked_at LIMIT $4
            FOR UPDATE SKIP LOCKED
        )
    )
    INSERT INTO token_revocations (revoked_id, revoked_at) SELECT session_id, $2 FROM ended";

const LIST_REVOKED: &str = "SELECT revoked_id FROM token_revocations WHERE revoked_at >= $1";

#[async_trait]
impl SessionKeeping for PostgresStore {
    async fn begin_session(&self, new: &NewSession) -> Result<bool, StoreError> {
        let query = sqlx::query(BEGIN)
            .bind(new.session_id)
            .bind(new.account_id)
            .bind(new.successor_key.expose().as_slice())
            .bind(new.token.as_slice())
            .bind(new.began_at.datetime())
            .bind(new.ends_at.datetime())
            .bind(i64::from(SESSIONS_MAX) - 1)
            .bind(new.password_hash.expose());
        let mut session = session::acquire(&self.reading).await?;
        let begun = answer(query.execute(&mut *session)).await;
        Ok(session.judge(begun)?.rows_affected() == 1)
    }

    async fn find_session(
        &self,
        session_id: Uuid,
        token: &TokenHash,
        _: Timestamp,
    ) -> Result<Option<Session>, StoreError> {
        let mut session = session::acquire(&self.reading).await?;
        let query = sqlx::query_as(FIND).bind(session_id).bind(token.as_slice());
        let found = answer(query.fetch_optional(&mut *session)).await;
        let found: Option<StoredSession> = session.judge(found)?;
        Ok(found.map(|row| row.0))
    }

    async fn spend_token(&self, spent: &SpentToken) -> Result<bool, StoreError> {
        let query = sqlx::query(SPEND)
            .bind(spent.session_id)
            .bind(spent.token.as_slice())
            .bind(spent.successor.as_slice())
            .bind(spent.spent_at.datetime())
            .bind(spent.ends_at.datetime())
            .bind(spent.forgets_after.as_secs_f64());
        let mut session = session::acquire(&self.reading).await?;
        let moved = answer(query.execute(&mut *session)).await;
        Ok(session.judge(moved)?.rows_affected() == 1)
    }

    async fn revoke_session(&self, session_id: Uuid, revocation: Revocation) -> Result<(), StoreError> {
        revoke(&self.reading, REVOKE, session_id, revocation).await.map(drop)
    }

    async fn list_revoked(&self, since: Timestamp) -> Result<Vec<Uuid>, StoreError> {
        let mut session = session::acquire(&self.reading).await?;
        let query = sqlx::query_scalar(LIST_REVOKED).bind(since.datetime());
        let revoked = answer(query.fetch_all(&mut *session)).await;
        Ok(session.judge(revoked)?)
    }
}

/// Ends what `statement` ends, and gives whether it was there.
pub(super) async fn revoke(
    pool: &PgPool,
    statement: &'static str,
    id: Uuid,
    revocation: Revocation,
) -> Result<bool, StoreError> {
    let query = sqlx::query(statement)
        .bind(id)
        .bind(revocation.at.datetime())
        .bind(revocation.forgets_before.datetime())
        .bind(i64::from(FORGOTTEN_MAX));
    let mut session = session::acquire(pool).await?;
    let revoked = answer(query.execute(&mut *session)).await;
    Ok(session.judge(revoked)?.rows_affected() == 1)
}

struct StoredSession(Session);

/// By position.
impl<'r> FromRow<'r, PgRow> for StoredSession {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let time = |column: usize| row.try_get::<DateTime<Utc>, _>(column).map(Timestamp::new);
        let spent_since: Option<f64> = row.try_get(7)?;
        Ok(Self(Session {
            account_id: row.try_get(0)?,
            username: row.try_get(1)?,
            is_admin: row.try_get(2)?,
            successor_key: Secret::new(row.try_get(3)?),
            began_at: time(4)?,
            ends_at: time(5)?,
            standing: match spent_since {
                _ if row.try_get(6)? => Standing::Current,
                // A clock that was put back makes it no older.
                Some(seconds) => Standing::Spent(Duration::try_from_secs_f64(seconds).unwrap_or_default()),
                None => Standing::Unknown,
            },
        }))
    }
}
