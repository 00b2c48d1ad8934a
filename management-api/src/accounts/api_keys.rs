//! API keys of accounts: made, followed by others, revoked; and how much they are used.

use std::sync::Arc;
use std::time::Duration;

use shared::accounts::{ACCESS_TOKEN_LIFETIME, CLOCK_SKEW};
use shared::api_keys::{
    ApiKeyRow, ApiKeySecret, ChangedKey, KnownKey, NAME_CHARS_MAX, Scope, SecretAnswer, SecretHash, UsageAnswer,
    UsageFlush,
};
use shared::event::{Timestamp, check_name};
use uuid::Uuid;

use super::Clock;
use super::audit::{self, By, Event};
use crate::store::{
    Creation, KEYS_MAX, KEYS_TOLD_MAX, NewKey, Rotated, Rotation, Store, StoreError, UsageQuery, WhichKey,
};

/// How long a change of a key is told: as long as anybody takes it for what it was, who asks anew as often as tokens end.
const CHANGES_TOLD: Duration = ACCESS_TOKEN_LIFETIME.saturating_add(CLOCK_SKEW).saturating_add(CLOCK_SKEW);
/// How long a flush is remembered: nobody repeats one for more than half of it.
const FLUSHES_KEPT: Duration = Duration::from_hours(48);

/// The API keys of all accounts.
pub struct ApiKeys {
    store: Arc<dyn Store>,
    clock: Clock,
}

/// A key that somebody wants to have.
#[derive(Clone, Debug)]
pub struct KeyWish {
    /// Whose it is to be.
    pub account_id: Uuid,
    /// How it is called.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Requests a second.
    pub rate_per_second: Option<u32>,
}

/// Reads a key's name.
///
/// # Errors
/// What it must be.
pub fn parse_key_name(text: &str) -> Result<String, String> {
    check_name(text).map_err(str::to_owned)?;
    if text.chars().count() > NAME_CHARS_MAX {
        return Err(format!("must have at most {NAME_CHARS_MAX} characters"));
    }
    Ok(text.to_owned())
}

/// Why something was not done for a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no such account.
    #[error("there is no such account")]
    NoAccount,
    /// There is no such key, or it counts no more.
    #[error("there is no such key, or it counts no more")]
    NoKey,
    /// The account has too many.
    #[error("the account has {KEYS_MAX} keys, as many as it may have: revoke one that is not needed")]
    TooMany,
    /// It has too many with those that were changed lately.
    #[error(
        "with those that were revoked in the last {} minutes the account has {KEYS_TOLD_MAX} keys, as many as it may have: \
         wait until that is longer ago, and keep keys for longer",
        CHANGES_TOLD.as_secs() / 60
    )]
    TooManyChanged,
    /// The one before the key's present secret counts still.
    #[error(
        "an earlier secret counts until {0}: wait, or rotate with an overlap of 0, which ends it at once, and the present one too"
    )]
    EarlierCounts(Timestamp),
    /// It would be over before it begins.
    #[error("a key must end in the future")]
    Over,
    /// The database does not answer: what was to be done may be done.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ApiKeys {
    /// The keys in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Makes a key. Its secret is in the answer, and nowhere else.
    ///
    /// # Errors
    /// When there is no account, no room, or nobody to do it.
    pub async fn create(&self, wish: KeyWish, by: By<'_>) -> Result<SecretAnswer, KeyError> {
        let (now, secret) = (self.clock.now(), ApiKeySecret::random());
        if wish.expires_at.is_some_and(|end| end <= now) {
            return Err(KeyError::Over);
        }
        let key = NewKey {
            key_id: Uuid::now_v7(),
            account_id: wish.account_id,
            name: wish.name,
            scopes: wish.scopes,
            rate_per_second: wish.rate_per_second,
            secret_hash: secret.hash(),
            secret_start: secret.start().to_owned(),
            created_at: now,
            expires_at: wish.expires_at,
            told: CHANGES_TOLD,
        };
        match self.store.create_key(&key).await? {
            Creation::Kept => {}
            Creation::NoAccount => return Err(KeyError::NoAccount),
            Creation::TooMany => return Err(KeyError::TooMany),
            Creation::TooManyChanged => return Err(KeyError::TooManyChanged),
        }
        audit::tell_of_key(Event::KeyCreated, wish.account_id, key.key_id, by);
        Ok(SecretAnswer { key_id: key.key_id, api_key: secret.expose().to_owned(), old_ends_at: None })
    }

    /// The key of a secret, if it counts now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn find(&self, hash: &SecretHash) -> Result<Option<KnownKey>, KeyError> {
        Ok(self.store.find_key(hash, self.clock.now()).await?)
    }

    /// The keys of an account, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn list(&self, account_id: Uuid) -> Result<Vec<ApiKeyRow>, KeyError> {
        Ok(self.store.list_keys(account_id).await?)
    }

    /// Gives a key a new secret, which counts at once; the old one counts on for `overlap`. Without one, all before the new one
    /// are over.
    ///
    /// # Errors
    /// When there is no such key, an earlier secret than the present one still counts, or the database does not answer.
    pub async fn rotate(&self, which: WhichKey, overlap: Duration, by: By<'_>) -> Result<SecretAnswer, KeyError> {
        let (now, secret) = (self.clock.now(), ApiKeySecret::random());
        let old_ends_at = now.after(overlap);
        let rotation = Rotation {
            which,
            secret_hash: secret.hash(),
            secret_start: secret.start().to_owned(),
            at: now,
            old_ends_at,
        };
        let owner = match self.store.rotate_key(&rotation).await? {
            Rotated::Done(owner) => owner,
            Rotated::NoKey => return Err(KeyError::NoKey),
            Rotated::EarlierCounts(until) => return Err(KeyError::EarlierCounts(until)),
        };
        audit::tell_of_key(Event::KeyRotated, owner, which.key_id, by);
        let api_key = secret.expose().to_owned();
        Ok(SecretAnswer { key_id: which.key_id, api_key, old_ends_at: Some(old_ends_at) })
    }

    /// Revokes a key, for good. One that is revoked already stays so.
    ///
    /// # Errors
    /// When there is no such key, or the database does not answer.
    pub async fn revoke(&self, which: WhichKey, by: By<'_>) -> Result<(), KeyError> {
        let owner = self.store.revoke_key(which, self.clock.now()).await?.ok_or(KeyError::NoKey)?;
        audit::tell_of_key(Event::KeyRevoked, owner, which.key_id, by);
        Ok(())
    }

    /// The keys that are not as somebody may still know them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn changed(&self) -> Result<Vec<ChangedKey>, StoreError> {
        self.store.list_changed_keys(CHANGES_TOLD, self.clock.now()).await
    }

    /// Adds what was counted elsewhere, once however often it is said.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn add_usage(&self, flush: &UsageFlush) -> Result<(), KeyError> {
        let now = self.clock.now();
        self.store.add_usage(flush, now, now.before(FLUSHES_KEPT)).await?;
        Ok(())
    }

    /// How much keys were used, newest days first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn usage(&self, query: UsageQuery) -> Result<UsageAnswer, KeyError> {
        // One more than asked for tells whether that is all.
        let more = UsageQuery { limit: query.limit.saturating_add(1), ..query };
        let mut usage = self.store.list_usage(&more).await?;
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let is_complete = usage.len() <= limit;
        usage.truncate(limit);
        Ok(UsageAnswer { usage, is_complete })
    }
}
