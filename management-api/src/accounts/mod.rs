//! Accounts: who may sign in, and the tokens that say who has.

mod api_keys;
mod audit;
mod clock;
mod config;
mod first_admin;
mod names;
mod passwords;
mod refresh_tokens;
mod sessions;
mod signing_keys;

use std::sync::Arc;

use shared::accounts::{AccountPage, AccountRow, TokenKeys};
use uuid::Uuid;

pub use self::api_keys::{ApiKeys, KeyError, KeyWish, parse_key_name};
use self::audit::Event;
pub use self::audit::{Actor, By};
pub use self::clock::Clock;
pub use self::config::AccountsConfig;
pub use self::first_admin::FirstAdmin;
pub use self::names::{Email, Username};
pub use self::passwords::Password;
use self::passwords::{Passwords, Verdict};
pub use self::sessions::SessionTokens;
use self::sessions::Sessions;
pub use self::signing_keys::{SigningKeys, new_signing_key};
use crate::metrics::PasswordMetrics;
use crate::store::{Account, NewAccount, PasswordChange, Store, StoreError};

/// How often an account is looked at that changes meanwhile.
const LOOKS_MAX: u32 = 3;

/// Who may sign in, and how.
pub struct Accounts {
    store: Arc<dyn Store>,
    passwords: Passwords,
    sessions: Sessions,
    clock: Clock,
    /// Keys that programs use instead of tokens.
    pub api_keys: ApiKeys,
}

/// Why something was not done for an account.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The e-mail or the username is somebody else's.
    #[error("the e-mail address or the username is taken")]
    Taken,
    /// It is not who it says, or there is no such account: nobody is told which.
    #[error("not who it says")]
    Refused,
    /// As many passwords as may be are being hashed: nothing was done.
    #[error("too many passwords are being checked")]
    Busy,
    /// The database did not answer before anything was done.
    #[error(transparent)]
    NotRead(StoreError),
    /// The database does not answer: what was to be done may be done.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What should always work did not.
    #[error("{0}")]
    Broken(String),
}

/// An account that somebody wants to have.
pub struct Registration {
    /// How it is called.
    pub username: Username,
    /// Whose it is.
    pub email: Email,
    /// What opens it.
    pub password: Password,
}

/// Another password for an account.
pub struct PasswordWish {
    /// Whose.
    pub account_id: Uuid,
    /// The session that asks, and goes on.
    pub session_id: Uuid,
    /// What opens it now.
    pub old: Password,
    /// What is to.
    pub new: Password,
}

impl Accounts {
    /// The accounts in `store`, if there is a key to sign their tokens with.
    #[must_use]
    pub fn new(config: &AccountsConfig, store: Arc<dyn Store>, metrics: PasswordMetrics) -> Option<Arc<Self>> {
        let keys = config.keys.clone()?;
        Some(Arc::new(Self {
            passwords: Passwords::new(config.hashes_max, metrics),
            sessions: Sessions::new(Arc::clone(&store), keys, config.tokens.clone(), config.clock.clone()),
            clock: config.clock.clone(),
            api_keys: ApiKeys::new(Arc::clone(&store), config.clock.clone()),
            store,
        }))
    }

    /// Makes an account.
    ///
    /// # Errors
    /// When it is taken, or nobody has the time.
    pub async fn create(&self, registration: Registration, request_id: &str) -> Result<Account, AccountError> {
        let Registration { username, email, password } = registration;
        let turn = self.passwords.turn().await.ok_or(AccountError::Busy)?;
        let password_hash = turn.hash(password).await?;
        let account = Account {
            account_id: Uuid::now_v7(),
            username: username.text,
            email: email.text,
            is_admin: false,
            created_at: self.clock.now(),
        };
        let new = NewAccount { account, username_key: username.key, email_key: email.key, password_hash };
        if !self.store.create_account(&new).await? {
            return Err(AccountError::Taken);
        }
        // Who makes one has none yet.
        audit::tell(Event::AccountCreated, Some(new.account.account_id), By { actor: Actor::Service, request_id });
        Ok(new.account)
    }

    /// Begins a session for who knows an account's password. Whatever is wrong takes the same work.
    ///
    /// # Errors
    /// When it is refused, or nobody has the time.
    pub async fn login(
        &self,
        email: &str,
        password: Password,
        request_id: &str,
    ) -> Result<SessionTokens, AccountError> {
        for _ in 0..LOOKS_MAX {
            if let Some(tokens) = self.try_login(email, password.clone(), request_id).await? {
                return Ok(tokens);
            }
        }
        Err(AccountError::Busy)
    }

    /// Nothing when the account has changed while it was looked at: deleted, with another password, or the same hashed anew.
    async fn try_login(
        &self,
        email: &str,
        password: Password,
        request_id: &str,
    ) -> Result<Option<SessionTokens>, AccountError> {
        // Before anything is asked of the database: however many come, as many as may be hashed do.
        let turn = self.passwords.turn().await.ok_or(AccountError::Busy)?;
        // Nobody has the empty address, and it takes as long to find out.
        let key = Email::parse(email).map_or_else(|_| String::new(), |email| email.key);
        let known = self.store.find_account(&key).await.map_err(AccountError::NotRead)?;
        let verdict = turn.verify(password, known.as_ref().map(|known| known.password_hash.clone())).await?;
        let account_id = known.as_ref().map(|known| known.account.account_id);
        let (Some(mut known), Verdict::Right { rehashed }) = (known, verdict) else {
            audit::tell(Event::LoginFailed, account_id, By { actor: Actor::Service, request_id });
            return Err(AccountError::Refused);
        };
        if let Some(stronger) = rehashed {
            match self.store.replace_hash(known.account.account_id, &known.password_hash, &stronger).await {
                Ok(()) => known.password_hash = stronger,
                Err(error) => {
                    tracing::warn!(%error, "a password's hash could not be made stronger; the next login tries again");
                }
            }
        }
        let tokens = self.sessions.begin(&known).await?;
        if tokens.is_some() {
            let by = By { actor: Actor::Account(known.account.account_id), request_id };
            audit::tell(Event::Login, account_id, by);
        }
        Ok(tokens)
    }

    /// Gives an account another password, for who knows the one that it has, and ends all its sessions but the one that asks.
    ///
    /// # Errors
    /// When it is refused, or nobody has the time.
    pub async fn change_password(&self, wish: PasswordWish, request_id: &str) -> Result<(), AccountError> {
        let PasswordWish { account_id, session_id, old, new } = wish;
        let by = By { actor: Actor::Account(account_id), request_id };
        let turn = self.passwords.turn().await.ok_or(AccountError::Busy)?;
        let known = self.store.find_account_by_id(account_id).await.map_err(AccountError::NotRead)?;
        let known = known.ok_or(AccountError::Refused)?;
        let Some(new_hash) = turn.change(old, known.password_hash.clone(), new).await? else {
            audit::tell(Event::PasswordRefused, Some(account_id), by);
            return Err(AccountError::Refused);
        };
        let change = PasswordChange {
            account_id,
            old_hash: known.password_hash,
            new_hash,
            goes_on: session_id,
            revocation: sessions::revocation(self.clock.now()),
        };
        if !self.store.change_password(&change).await? {
            // It was changed, or hashed anew, since it was read.
            return Err(AccountError::Busy);
        }
        audit::tell(Event::PasswordChanged, Some(account_id), by);
        Ok(())
    }

    /// Goes on with a session.
    ///
    /// # Errors
    /// When the token is refused, or the database does not answer.
    pub async fn refresh(&self, token: &str, request_id: &str) -> Result<SessionTokens, AccountError> {
        self.sessions.refresh(token, request_id).await
    }

    /// Ends a session, for who has a token of it. One that is over, or never was, is no mistake.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn logout(&self, token: &str, request_id: &str) -> Result<(), AccountError> {
        self.sessions.end(token, request_id).await
    }

    /// Deletes an account, and with it all its sessions; its keys are revoked. One that is not there is deleted already.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn delete(&self, account_id: Uuid, by: By<'_>) -> Result<(), AccountError> {
        if self.store.delete_account(account_id, sessions::revocation(self.clock.now())).await? {
            audit::tell(Event::AccountDeleted, Some(account_id), by);
        }
        Ok(())
    }

    /// A page of at most so many accounts, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn list(&self, after: Option<Uuid>, limit: u32) -> Result<AccountPage, AccountError> {
        // One more than asked for tells whether there is a next page.
        let mut accounts = self.store.list_accounts(after, limit.saturating_add(1)).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = accounts.len() > limit;
        accounts.truncate(limit);
        let next_cursor = accounts.last().filter(|_| more).map(|account| account.account_id);
        let row = |Account { account_id, username, email, is_admin, created_at }| AccountRow {
            account_id,
            username,
            email,
            is_admin,
            created_at,
        };
        Ok(AccountPage { accounts: accounts.into_iter().map(row).collect(), next_cursor })
    }

    /// What access tokens are checked with.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn token_keys(&self) -> Result<TokenKeys, AccountError> {
        let keys = self.sessions.token_keys().await?;
        Ok(TokenKeys { changed_keys: self.api_keys.changed().await?, ..keys })
    }
}
