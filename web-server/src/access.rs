//! Who may do what (`AUTH`): with tokens and keys, a user buys and reads as itself, and administrators and service keys for all.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::HeaderMap;
use shared::accounts::AccessClaims;
use shared::api_keys::{KnownKey, Scope};
use shared::config::Settings;
use shared::http::{Problem, kinds};
use uuid::Uuid;

use crate::api_keys::{ApiKeys, MayAsk, Presented};
use crate::tokens::Tokens;

/// Who is asked to say who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Nobody: everybody buys and reads for everybody.
    Off,
    /// Everybody, by an access token.
    Jwt,
    /// Everybody, by an API key.
    ApiKey,
    /// Everybody, by either.
    Any,
}

/// The text names no mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownAuthMode;

/// Who asks, as far as it matters for what it may do.
#[derive(Clone, Debug)]
pub enum Asker {
    /// Whoever: nobody was asked.
    Anybody,
    /// An account, by its token.
    Account(Arc<AccessClaims>),
    /// A program, by an account's key.
    Key(Arc<KnownKey>),
}

impl FromStr for AuthMode {
    type Err = UnknownAuthMode;

    fn from_str(text: &str) -> Result<Self, UnknownAuthMode> {
        match text {
            "off" => Ok(Self::Off),
            "jwt" => Ok(Self::Jwt),
            "api_key" => Ok(Self::ApiKey),
            "any" => Ok(Self::Any),
            _ => Err(UnknownAuthMode),
        }
    }
}

impl fmt::Display for UnknownAuthMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be off, jwt, api_key or any")
    }
}

impl AuthMode {
    /// Its name, as the setting has it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Jwt => "jwt",
            Self::ApiKey => "api_key",
            Self::Any => "any",
        }
    }

    /// Reads the setting; a mistake is kept in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        settings.parsed(
            "AUTH",
            "off",
            "who may buy and read: off (everybody, for all), or accounts as themselves, by jwt, api_key, or any of both",
        )
    }

    /// Who asks. Who may have nobody asked (`may_ask` says no) is known only if it was before.
    ///
    /// # Errors
    /// 401 without a good token or key where one is needed, 503 while nobody can tell.
    pub async fn asker(
        self,
        tokens: &Tokens,
        keys: &ApiKeys,
        headers: &HeaderMap,
        may_ask: MayAsk<'_>,
    ) -> Result<Asker, Problem> {
        match self {
            Self::Off => Ok(Asker::Anybody),
            Self::Any if Presented::of(headers) == Presented::Nothing => {
                tokens.check(headers).await.map(Asker::Account)
            }
            Self::Jwt => tokens.check(headers).await.map(Asker::Account),
            Self::ApiKey | Self::Any => keys.check(headers, tokens, may_ask).await.map(Asker::Key),
        }
    }
}

impl Asker {
    /// Whether it may buy and read for this user. An account's purchases have its id as their user's.
    pub fn may_act_for(&self, userid: &str) -> bool {
        match self {
            Self::Anybody => true,
            Self::Account(claims) => claims.is_admin() || is(claims.sub, userid),
            Self::Key(key) => key.has(Scope::Service) || is(key.account_id, userid),
        }
    }

    /// Whether it may do such a thing at all: a key does what its scopes say.
    ///
    /// # Errors
    /// 403 when it may not.
    pub fn require_scope(&self, scope: Scope) -> Result<(), Problem> {
        match self {
            Self::Key(key) if !key.has(scope) => {
                Err(Problem::new(kinds::FORBIDDEN, format!("the API key has not the scope {scope}")))
            }
            _ => Ok(()),
        }
    }

    /// The key that is used, if one is.
    pub fn key_id(&self) -> Option<Uuid> {
        match self {
            Self::Key(key) => Some(key.key_id),
            Self::Anybody | Self::Account(_) => None,
        }
    }

    /// As [`Asker::may_act_for`].
    ///
    /// # Errors
    /// 403 when it may not.
    pub fn require(&self, userid: &str) -> Result<(), Problem> {
        if self.may_act_for(userid) { Ok(()) } else { Err(Problem::new(kinds::FORBIDDEN, "userid is not your own")) }
    }

    /// Of whom alone it may read; of all when there is none.
    pub fn own_userid(&self) -> Option<Uuid> {
        match self {
            Self::Account(claims) if !claims.is_admin() => Some(claims.sub),
            Self::Key(key) if !key.has(Scope::Service) => Some(key.account_id),
            Self::Account(_) | Self::Key(_) | Self::Anybody => None,
        }
    }
}

/// Whether a text is this id, written as we write it.
fn is(id: Uuid, text: &str) -> bool {
    id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text
}
