//! API keys and their use, as one service writes and the other reads them.

mod secret;
mod usage;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::event::Timestamp;

pub use self::secret::{ApiKeySecret, KEY_PREFIX, SecretHash};
pub use self::usage::{Day, KeyUsage, RequestClass, RequestCount, RequestCounts, UsageAnswer, UsageFlush};

/// The header of a record that names the key that bought.
pub const API_KEY_HEADER: &str = "api_key_id";
/// What a caller may set: the longest name in characters, and the highest rate.
pub const NAME_CHARS_MAX: usize = 64;
/// Requests a second.
pub const RATE_MAX: u32 = 1_000_000;

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Buys, as its owner.
    Buy,
    /// Reads, as its owner.
    Read,
    /// Does so for all users; only administrators give it.
    Service,
}

impl Scope {
    const ALL: [Self; 3] = [Self::Buy, Self::Read, Self::Service];

    /// Its name.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Read => "read",
            Self::Service => "service",
        }
    }
}

/// No scope has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be buy, read or service")]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|scope| scope.text() == text).ok_or(UnknownScope)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// What web-server is told of a key that somebody has presented.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct KnownKey {
    /// Its id.
    pub key_id: Uuid,
    /// Whose it is, and as whom it buys and reads.
    pub account_id: Uuid,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// When this secret counts no more: the key ends, or its successor alone counts.
    #[schema(required)]
    pub ends_at: Option<Timestamp>,
    /// Requests a second, if it has a rate of its own.
    #[schema(required)]
    pub rate_per_second: Option<u32>,
    /// Counts the key's changes.
    pub version: i32,
}

impl KnownKey {
    /// Whether it may be used for this.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// The answer to whoever asks for a key by its hash.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct FoundKey {
    /// The key; `null` when there is none, or it counts no more.
    #[schema(required)]
    pub key: Option<KnownKey>,
}

/// A key that is not any more as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct ChangedKey {
    /// Its id.
    pub key_id: Uuid,
    /// Its changes so far: what is known of an earlier version is outdated.
    pub version: i32,
}

/// A key that is to be.
#[derive(ToSchema)]
#[schema(as = NewApiKey)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub struct NewApiKeyBody {
    /// For people: not only white space, no control characters.
    #[schema(min_length = 1, max_length = 64, example = "till 7")]
    name: String,
    /// What it may be used for; `buy` and `read` when not given. `service` is for administrators to give.
    #[schema(min_items = 1, required = false, nullable = false)]
    scopes: Vec<Scope>,
    /// When it ends; never when not given.
    #[schema(nullable = false)]
    expires_at: Option<Timestamp>,
    /// Requests a second; that of everybody when not given. For administrators to give.
    #[schema(minimum = 1, maximum = 1_000_000, nullable = false)]
    rate_per_second: Option<u32>,
}

/// A secret that is to be followed by another.
#[derive(ToSchema)]
#[schema(as = Rotation)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub struct RotationBody {
    /// Seconds that the old secret still counts, beside the new one: 3600 when not given, 0 for none.
    #[schema(minimum = 0, maximum = 604_800, nullable = false)]
    overlap_seconds: Option<u32>,
}

/// A key, as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct ApiKeyRow {
    /// Its id; it stays when the secret is followed by another.
    pub key_id: Uuid,
    /// Whose it is.
    pub account_id: Uuid,
    /// Its name.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// Requests a second, if it has a rate of its own.
    #[schema(required)]
    pub rate_per_second: Option<u32>,
    /// What its secret begins with.
    #[schema(example = "pak_3kT9")]
    pub secret_start: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends, if ever.
    #[schema(required)]
    pub expires_at: Option<Timestamp>,
    /// When it was used last, to some seconds; `null` for never.
    #[schema(required)]
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked; `null` as long as it counts.
    #[schema(required)]
    pub revoked_at: Option<Timestamp>,
}

/// The keys of an account, newest first.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = ApiKeys)]
pub struct ApiKeysAnswer {
    /// All of them.
    pub api_keys: Vec<ApiKeyRow>,
}

/// A key's new secret. Nobody is shown it again.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKeySecret)]
pub struct SecretAnswer {
    /// The key.
    pub key_id: Uuid,
    /// For `Authorization: Bearer`, or `X-API-Key`: 40 characters that match `pak_[0-9A-Za-z]{36}`.
    #[schema(example = "pak_…")]
    pub api_key: String,
    /// How long the secret before it still counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub old_ends_at: Option<Timestamp>,
}
