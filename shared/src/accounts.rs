//! Accounts and their tokens, as one service writes and the other reads them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api_keys::ChangedKey;
use crate::event::Timestamp;

/// How long an access token counts.
pub const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_mins(15);
/// How far the clocks of two machines may be apart.
pub const CLOCK_SKEW: Duration = Duration::from_mins(1);
/// The header `typ` of an access token (RFC 9068, 2.1): what is signed for another purpose is none.
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";
/// The scope of administrators.
pub const ADMIN_SCOPE: &str = "admin";

/// An e-mail address or a name as it is compared: compatibility forms made one (Unicode NFKC: full-width letters, ligatures, letters
/// with their accents apart), without case.
#[must_use]
pub fn comparable(text: &str) -> String {
    // Lower case of a composed letter may be apart again, so it is composed once more.
    let lower: String = text.nfkc().flat_map(char::to_lowercase).collect();
    lower.nfkc().collect()
}

/// What an access token says (RFC 9068, 2.2).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct AccessClaims {
    /// Who has signed it.
    pub iss: String,
    /// For whom.
    pub aud: String,
    /// The account.
    pub sub: Uuid,
    /// What has asked for it.
    pub client_id: String,
    /// The token's own name.
    pub jti: Uuid,
    /// When it was signed, in Unix seconds.
    pub iat: i64,
    /// When it ends, in Unix seconds.
    pub exp: i64,
    /// The session: its refresh tokens have the same name.
    pub sid: Uuid,
    /// The account's name.
    pub username: String,
    /// What it may do besides: `admin`, or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

impl AccessClaims {
    /// Whether it is an administrator's.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.scope.iter().flat_map(|scope| scope.split(' ')).any(|scope| scope == ADMIN_SCOPE)
    }
}

/// What signs and what counts no more.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct TokenKeys {
    /// Every key whose signature counts (RFC 7517).
    pub keys: Vec<TokenKey>,
    /// Accounts and sessions whose tokens count no more, for as long as any of those could be in use.
    pub revoked: Vec<Uuid>,
    /// API keys that are not as they were, for as long as anybody could know them so.
    #[serde(default)]
    pub changed_keys: Vec<ChangedKey>,
}

/// A public Ed25519 key (RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct TokenKey {
    /// Always `OKP`.
    pub kty: String,
    /// Always `Ed25519`.
    pub crv: String,
    /// Always `EdDSA`.
    pub alg: String,
    /// The key's name: its thumbprint (RFC 7638).
    pub kid: String,
    /// The key itself.
    pub x: String,
}

/// An account that is to be.
#[derive(ToSchema)]
#[schema(as = NewAccount)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub struct NewAccountBody {
    /// Not only white space, no control characters; nobody else's, however it is written.
    #[schema(min_length = 1, max_length = 64, example = "ann")]
    username: String,
    /// Any characters.
    #[schema(min_length = 8, max_length = 128, format = Password)]
    password: String,
    /// A local part and a domain; nobody else's, whatever its case.
    #[schema(min_length = 3, max_length = 254, example = "ann@example.com")]
    email: String,
}

/// Who wants in.
#[derive(ToSchema)]
#[schema(as = Login)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub struct LoginBody {
    /// In any case.
    #[schema(example = "ann@example.com")]
    email: String,
    /// The account's.
    #[schema(format = Password)]
    password: String,
}

/// Another password.
#[derive(ToSchema)]
#[schema(as = NewPassword)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub struct PasswordBody {
    /// The account's now.
    #[schema(format = Password)]
    old_password: String,
    /// What it is to be. Any characters.
    #[schema(min_length = 8, max_length = 128, format = Password)]
    new_password: String,
}

/// A session that is to go on.
#[derive(ToSchema)]
#[schema(as = Refresh)]
#[expect(dead_code, reason = "a description: nothing is ever made of it")]
pub struct RefreshBody {
    /// The newest of the session. It is spent by this; for 30 s the same again has the same answer.
    refresh_token: String,
}

/// An account that was made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CreatedAccount)]
pub struct AccountAnswer {
    /// Its id.
    pub account_id: Uuid,
    /// Its name, as it was sent.
    pub username: String,
    /// Its e-mail address, as it was sent.
    pub email: String,
}

/// Tokens of a session.
#[derive(Serialize, ToSchema)]
#[schema(as = Tokens)]
pub struct TokensAnswer {
    /// Who the caller is, for `Authorization: Bearer` (RFC 9068).
    pub access_token: String,
    /// For the next tokens; not there where a cookie keeps it.
    #[schema(required = false)]
    pub refresh_token: String,
    /// Always `Bearer`.
    #[schema(example = "Bearer")]
    pub token_type: &'static str,
    /// Seconds for which the access token counts.
    #[schema(example = 900)]
    pub expires_in: u64,
}

/// Accounts, newest first.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct AccountPage {
    /// Those of the page.
    pub accounts: Vec<AccountRow>,
    /// Where the next page begins, if there is one.
    pub next_cursor: Option<Uuid>,
}

/// One account, as administrators see it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[schema(as = Account)]
pub struct AccountRow {
    /// Its id.
    pub account_id: Uuid,
    /// Its name.
    pub username: String,
    /// Its e-mail address.
    pub email: String,
    /// Whether it is an administrator's.
    pub is_admin: bool,
    /// When it was made.
    pub created_at: Timestamp,
}
