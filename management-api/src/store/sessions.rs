//! What sessions need of a database.

use std::time::Duration;

use async_trait::async_trait;
use shared::config::Secret;
use shared::event::Timestamp;
use uuid::Uuid;

use super::StoreError;

/// The most sessions of one account; a new one ends the one that was used longest ago.
pub(super) const SESSIONS_MAX: u32 = 100;
/// Revocations that are forgotten with each new one, at most.
pub(super) const FORGOTTEN_MAX: u32 = 1000;

/// The SHA-256 of a refresh token.
pub type TokenHash = [u8; 32];

/// What sessions need of it.
#[async_trait]
pub trait SessionKeeping: Send + Sync + 'static {
    /// Begins a session, and forgets those of the account that are over. Gives whether the account is there, with the password that
    /// was shown.
    async fn begin_session(&self, session: &NewSession) -> Result<bool, StoreError>;

    /// A session that has not ended, and what is known in it of a token. How long ago it was spent is told by the clock that all
    /// replicas share: PostgreSQL's own; SQLite, which serves one process, is told what time it is.
    async fn find_session(
        &self,
        session_id: Uuid,
        token: &TokenHash,
        now: Timestamp,
    ) -> Result<Option<Session>, StoreError>;

    /// Puts a token's successor in its place. Gives whether it was the current one: of all who spend it, one does.
    async fn spend_token(&self, spent: &SpentToken) -> Result<bool, StoreError>;

    /// Ends a session and revokes it.
    async fn revoke_session(&self, session_id: Uuid, revocation: Revocation) -> Result<(), StoreError>;

    /// The sessions and accounts that were revoked since then, in no particular order.
    async fn list_revoked(&self, since: Timestamp) -> Result<Vec<Uuid>, StoreError>;
}

/// When something is revoked, and which older revocations matter no more.
#[derive(Clone, Copy, Debug)]
pub struct Revocation {
    /// When.
    pub at: Timestamp,
    /// No token from before then can be in use.
    pub forgets_before: Timestamp,
}

/// A session that begins.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its id.
    pub session_id: Uuid,
    /// Whose it is.
    pub account_id: Uuid,
    /// The hash of the password that was shown for it.
    pub password_hash: Secret<String>,
    /// Of what successors are made.
    pub successor_key: Secret<[u8; 32]>,
    /// Its first token.
    pub token: TokenHash,
    /// When it begins.
    pub began_at: Timestamp,
    /// When it is over, unless it is used before.
    pub ends_at: Timestamp,
}

/// A session, and a token in it.
#[derive(Clone, Debug)]
pub struct Session {
    /// Whose it is.
    pub account_id: Uuid,
    /// The account's name.
    pub username: String,
    /// Whether it is an administrator's.
    pub is_admin: bool,
    /// Of what successors are made.
    pub successor_key: Secret<[u8; 32]>,
    /// When it began.
    pub began_at: Timestamp,
    /// When it is over.
    pub ends_at: Timestamp,
    /// How the token stands.
    pub standing: Standing,
}

/// How a token stands in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the one that may be spent.
    Current,
    /// It was spent so long ago.
    Spent(Duration),
    /// It was spent so long ago that nothing is known of it, or never was one.
    Unknown,
}

/// A token that is spent.
#[derive(Clone, Copy, Debug)]
pub struct SpentToken {
    /// Its session.
    pub session_id: Uuid,
    /// The token.
    pub token: TokenHash,
    /// What comes after it.
    pub successor: TokenHash,
    /// When.
    pub spent_at: Timestamp,
    /// When the session is over, unless it is used before.
    pub ends_at: Timestamp,
    /// Tokens that were spent longer ago are forgotten.
    pub forgets_after: Duration,
}
