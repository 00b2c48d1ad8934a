//! What API keys need of a database.

use std::time::Duration;

use async_trait::async_trait;
use shared::api_keys::{ApiKeyRow, ChangedKey, KnownKey, Scope, SecretHash};
use shared::event::Timestamp;
use uuid::Uuid;

use super::StoreError;

/// The most keys of one account that stand, about: of those that are made at one moment, none sees the others.
pub const KEYS_MAX: u32 = 100;
/// The most with those whose changes are told, so that no account makes the list of changes longer than that.
pub const KEYS_TOLD_MAX: u32 = 200;
/// How many are remembered of its keys that count nowhere any more.
pub(super) const OVER_MAX: u32 = 1000;
/// The most that an account can have of all of them.
pub(super) const LISTED_MAX: u32 = KEYS_TOLD_MAX + OVER_MAX;

/// What API keys need of it.
#[async_trait]
pub trait KeyKeeping: Send + Sync + 'static {
    /// Keeps a new key.
    async fn create_key(&self, key: &NewKey) -> Result<Creation, StoreError>;

    /// The key of a secret, if it counts now.
    async fn find_key(&self, hash: &SecretHash, now: Timestamp) -> Result<Option<KnownKey>, StoreError>;

    /// The keys of an account, newest first, revoked ones too.
    async fn list_keys(&self, account_id: Uuid) -> Result<Vec<ApiKeyRow>, StoreError>;

    /// Puts a new secret in the place of a key's, if that counts. An earlier one that still counts is ended only by a rotation
    /// without overlap.
    async fn rotate_key(&self, rotation: &Rotation) -> Result<Rotated, StoreError>;

    /// Revokes a key. Gives whose it is; nothing where there is none.
    async fn revoke_key(&self, which: WhichKey, at: Timestamp) -> Result<Option<Uuid>, StoreError>;

    /// The keys that were changed no longer than `told` ago, in no particular order. A database that replicas share goes by its
    /// own clock, not by `now`: theirs differ.
    async fn list_changed_keys(&self, told: Duration, now: Timestamp) -> Result<Vec<ChangedKey>, StoreError>;
}

/// A key, and whose it must be, if that matters.
#[derive(Clone, Copy, Debug)]
pub struct WhichKey {
    /// Its id.
    pub key_id: Uuid,
    /// Its owner; nothing for whoever it is.
    pub account_id: Option<Uuid>,
}

/// A key that is to be kept.
#[derive(Clone)]
pub struct NewKey {
    /// Its id; ids ascend with time.
    pub key_id: Uuid,
    /// Whose it is.
    pub account_id: Uuid,
    /// Its name.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// Requests a second.
    pub rate_per_second: Option<u32>,
    /// The hash of its secret.
    pub secret_hash: SecretHash,
    /// What its secret begins with.
    pub secret_start: String,
    /// When it is made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// How long changes are told: one that is over for longer counts nowhere.
    pub told: Duration,
}

/// What became of a new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// It is kept.
    Kept,
    /// There is no such account.
    NoAccount,
    /// The account has too many.
    TooMany,
    /// It has too many with those that were changed lately.
    TooManyChanged,
}

impl Creation {
    /// What becomes of it: `standing` keys of the account are neither revoked nor over, `told` are those with all whose changes
    /// are told.
    pub(super) fn judge(has_account: bool, standing: i64, told: i64) -> Self {
        match has_account {
            false => Self::NoAccount,
            true if standing >= KEYS_MAX.into() => Self::TooMany,
            true if told >= KEYS_TOLD_MAX.into() => Self::TooManyChanged,
            true => Self::Kept,
        }
    }
}

/// A secret that is followed by another.
#[derive(Clone)]
pub struct Rotation {
    /// Of which key.
    pub which: WhichKey,
    /// The hash of the new secret.
    pub secret_hash: SecretHash,
    /// What the new one begins with.
    pub secret_start: String,
    /// When.
    pub at: Timestamp,
    /// How long the old one counts beside it.
    pub old_ends_at: Timestamp,
}

/// What became of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// The new secret counts, of this owner's key.
    Done(Uuid),
    /// There is no such key, or it counts no more.
    NoKey,
    /// The secret before the present one counts until then.
    EarlierCounts(Timestamp),
}

impl Rotated {
    /// What has become of a key that was found, or not: whose it is, whether it has the new secret, and until when an earlier one
    /// was to count.
    pub(super) fn judge(found: Option<(Uuid, bool, Option<Timestamp>)>) -> Self {
        match found {
            Some((owner, true, _)) => Self::Done(owner),
            Some((_, false, Some(until))) => Self::EarlierCounts(until),
            _ => Self::NoKey,
        }
    }
}

/// A key as it is stored, found by one of its secrets.
pub(super) struct FoundSecret {
    pub key_id: Uuid,
    pub account_id: Uuid,
    pub scopes: String,
    pub rate_per_second: Option<i32>,
    pub expires_at: Option<Timestamp>,
    pub version: i32,
    /// When the secret ends, if it is the old one.
    pub old_ends_at: Option<Timestamp>,
}

impl FoundSecret {
    /// The key, if it counts now.
    pub(super) fn counting_at(self, now: Timestamp) -> Option<KnownKey> {
        let ends_at = [self.expires_at, self.old_ends_at].into_iter().flatten().min();
        ends_at.is_none_or(|end| now < end).then(|| KnownKey {
            key_id: self.key_id,
            account_id: self.account_id,
            scopes: parse_scopes(&self.scopes),
            ends_at,
            rate_per_second: self.rate_per_second.and_then(|rate| u32::try_from(rate).ok()),
            version: self.version,
        })
    }
}

/// Scopes as they are stored.
pub(super) fn scopes_text(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.text()).collect::<Vec<_>>().join(" ")
}

/// Scopes as they were stored. One of a newer release is none yet.
pub(super) fn parse_scopes(text: &str) -> Vec<Scope> {
    text.split(' ').filter_map(|scope| scope.parse().ok()).collect()
}
