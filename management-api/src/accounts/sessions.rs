//! Sessions: who signed in goes on with one for a while, by tokens that are each spent once.

use std::sync::Arc;
use std::time::Duration;

use shared::accounts::{ACCESS_TOKEN_LIFETIME, ADMIN_SCOPE, AccessClaims, CLOCK_SKEW, TokenKeys};
use shared::config::TokenConfig;
use shared::event::Timestamp;
use uuid::Uuid;

use super::audit::{self, Actor, By, Event};
use super::refresh_tokens::{RefreshToken, random_key};
use super::{AccountError, Clock, SigningKeys};
use crate::store::{Account, KnownAccount, NewSession, Revocation, Session, SpentToken, Standing, Store, StoreError};

/// How long a session lasts without being used.
const IDLE_MAX: Duration = Duration::from_hours(30 * 24);
/// How long it lasts at most.
const AGE_MAX: Duration = Duration::from_hours(90 * 24);
/// How long a spent token has its successor again: for a lost answer, or two tabs at one moment.
const GRACE: Duration = Duration::from_secs(30);
/// When nothing is known of a spent token any more, which then is as one that was never there.
const FORGETS_SPENT_AFTER: Duration = Duration::from_secs(90);
/// How often a token is looked at while others spend it. The second look finds it spent.
const LOOKS_MAX: u32 = 3;
/// What has asked for access tokens (claim `client_id`).
const CLIENT: &str = "web-server";

/// The sessions of all accounts.
pub(super) struct Sessions {
    store: Arc<dyn Store>,
    keys: SigningKeys,
    names: TokenConfig,
    clock: Clock,
}

/// What a session goes on with.
pub struct SessionTokens {
    /// Who it is.
    pub access_token: String,
    /// For the next tokens.
    pub refresh_token: String,
}

/// Whom an access token names.
struct Subject {
    account_id: Uuid,
    username: String,
    is_admin: bool,
}

impl Sessions {
    pub(super) fn new(store: Arc<dyn Store>, keys: SigningKeys, names: TokenConfig, clock: Clock) -> Self {
        Self { store, keys, names, clock }
    }

    /// Begins a session of an account as it was found; nothing when it is not so any more.
    pub(super) async fn begin(&self, known: &KnownAccount) -> Result<Option<SessionTokens>, AccountError> {
        let KnownAccount { account, password_hash } = known;
        let (now, token) = (self.clock.now(), RefreshToken::first());
        let session = NewSession {
            session_id: token.session_id,
            account_id: account.account_id,
            password_hash: password_hash.clone(),
            successor_key: random_key(),
            token: token.hash(),
            began_at: now,
            ends_at: end(now, now),
        };
        if !self.store.begin_session(&session).await? {
            return Ok(None);
        }
        let Account { account_id, username, is_admin, .. } = account.clone();
        self.tokens(Subject { account_id, username, is_admin }, &token, now).map(Some)
    }

    /// Spends a token for its successor. Who comes at the same moment, or again within the grace, gets the same one.
    pub(super) async fn refresh(&self, text: &str, request_id: &str) -> Result<SessionTokens, AccountError> {
        let token = RefreshToken::parse(text).ok_or(AccountError::Refused)?;
        for _ in 0..LOOKS_MAX {
            // Before the look: whatever is revoked after it is revoked after the token was signed.
            let now = self.clock.now();
            let found =
                self.store.find_session(token.session_id, &token.hash(), now).await.map_err(AccountError::NotRead)?;
            let session = found.filter(|session| now < session.ends_at).ok_or(AccountError::Refused)?;
            let goes_on = match session.standing {
                Standing::Current => self.spend(&token, &session, now).await?,
                Standing::Spent(ago) if ago <= GRACE => true,
                Standing::Spent(_) | Standing::Unknown => {
                    self.store.revoke_session(token.session_id, revocation(now)).await?;
                    let by = By { actor: Actor::Service, request_id };
                    audit::tell(Event::RefreshReuse, Some(session.account_id), by);
                    return Err(AccountError::Refused);
                }
            };
            if goes_on {
                let by = By { actor: Actor::Account(session.account_id), request_id };
                audit::tell(Event::Refresh, Some(session.account_id), by);
                let successor = token.successor(&session.successor_key);
                let Session { account_id, username, is_admin, .. } = session;
                return self.tokens(Subject { account_id, username, is_admin }, &successor, now);
            }
        }
        Err(StoreError("a token is current and cannot be spent".to_owned()).into())
    }

    /// Ends the session of a token, whatever has become of the token. Who has no session is signed out already.
    pub(super) async fn end(&self, text: &str, request_id: &str) -> Result<(), AccountError> {
        let Some(token) = RefreshToken::parse(text) else { return Ok(()) };
        let now = self.clock.now();
        let found =
            self.store.find_session(token.session_id, &token.hash(), now).await.map_err(AccountError::NotRead)?;
        if let Some(session) = found.filter(|session| now < session.ends_at) {
            self.store.revoke_session(token.session_id, revocation(now)).await?;
            let by = By { actor: Actor::Account(session.account_id), request_id };
            audit::tell(Event::Logout, Some(session.account_id), by);
        }
        Ok(())
    }

    /// Whether it was this call that has spent it.
    async fn spend(&self, token: &RefreshToken, session: &Session, now: Timestamp) -> Result<bool, StoreError> {
        let spent = SpentToken {
            session_id: token.session_id,
            token: token.hash(),
            successor: token.successor(&session.successor_key).hash(),
            spent_at: now,
            ends_at: end(session.began_at, now),
            forgets_after: FORGETS_SPENT_AFTER,
        };
        self.store.spend_token(&spent).await
    }

    fn tokens(&self, subject: Subject, refresh: &RefreshToken, now: Timestamp) -> Result<SessionTokens, AccountError> {
        let seconds = now.millis().div_euclid(1000);
        let lifetime = i64::try_from(ACCESS_TOKEN_LIFETIME.as_secs()).unwrap_or_default();
        let claims = AccessClaims {
            iss: self.names.issuer.clone(),
            aud: self.names.audience.clone(),
            sub: subject.account_id,
            client_id: CLIENT.to_owned(),
            jti: Uuid::new_v4(),
            iat: seconds,
            exp: seconds + lifetime,
            sid: refresh.session_id,
            username: subject.username,
            scope: subject.is_admin.then(|| ADMIN_SCOPE.to_owned()),
        };
        let access_token = self.keys.sign(&claims).map_err(AccountError::Broken)?;
        Ok(SessionTokens { access_token, refresh_token: refresh.text() })
    }

    /// What access tokens are checked with.
    pub(super) async fn token_keys(&self) -> Result<TokenKeys, AccountError> {
        let revoked = self.store.list_revoked(revocation(self.clock.now()).forgets_before).await?;
        Ok(TokenKeys { keys: self.keys.public().to_vec(), revoked, changed_keys: Vec::new() })
    }
}

/// When a session is over that is used now.
fn end(began_at: Timestamp, now: Timestamp) -> Timestamp {
    now.after(IDLE_MAX).min(began_at.after(AGE_MAX))
}

/// A revocation now. It matters until the last token before it is over for everybody: those who check tokens let their clocks
/// differ, and those who sign them have such, too.
pub(super) fn revocation(now: Timestamp) -> Revocation {
    Revocation { at: now, forgets_before: now.before(ACCESS_TOKEN_LIFETIME + 2 * CLOCK_SKEW) }
}
