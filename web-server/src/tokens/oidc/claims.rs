//! What an outside issuer's tokens say.

use serde::Deserialize;
use serde_json::Value;
use shared::accounts::AccessClaims;
use shared::event::check_name;
use uuid::Uuid;

/// The most bytes of a subject (OpenID Connect Core 1.0, 2).
const SUBJECT_BYTES_MAX: usize = 255;

/// The claims that matter here; the library has looked at the others.
#[derive(Deserialize)]
pub(super) struct OutsideClaims {
    iss: String,
    sub: String,
    exp: i64,
    #[serde(default)]
    iat: i64,
    preferred_username: Option<String>,
    client_id: Option<String>,
    azp: Option<String>,
    scope: Option<Value>,
    scp: Option<Value>,
    nonce: Option<Value>,
    at_hash: Option<Value>,
    c_hash: Option<Value>,
    token_use: Option<String>,
    typ: Option<String>,
}

impl OutsideClaims {
    /// Whether what does not call itself an access token (RFC 9068) is one all the same: it says what may be done with it, and has
    /// nothing of what tells a client who somebody is (an ID token: OpenID Connect Core 1.0, 2 and 3.3.2.11; Cognito's `token_use`
    /// and Keycloak's `typ` say it outright).
    pub(super) fn is_for_access(&self) -> bool {
        let has_scope = self.scope.is_some() || self.scp.is_some();
        let tells_who = self.nonce.is_some() || self.at_hash.is_some() || self.c_hash.is_some();
        let says = |claim: &Option<String>, other: &str| {
            claim.as_deref().is_some_and(|kind| !kind.eq_ignore_ascii_case(other))
        };
        has_scope && !tells_who && !says(&self.token_use, "access") && !says(&self.typ, "Bearer")
    }

    /// The same in our words; nothing if nobody is meant. Whatever its scopes are, they say nothing here: they are the issuer's.
    pub(super) fn into_ours(self, audience: &str) -> Option<AccessClaims> {
        if self.sub.is_empty() || self.sub.len() > SUBJECT_BYTES_MAX {
            return None;
        }
        let issuer = Uuid::new_v5(&Uuid::NAMESPACE_URL, self.iss.as_bytes());
        let sub = Uuid::new_v5(&issuer, self.sub.as_bytes());
        Some(AccessClaims {
            iss: self.iss,
            aud: audience.to_owned(),
            sub,
            client_id: self.client_id.or(self.azp).unwrap_or_default(),
            jti: Uuid::nil(),
            iat: self.iat,
            exp: self.exp,
            sid: Uuid::nil(),
            username: self
                .preferred_username
                .filter(|name| check_name(name).is_ok())
                .unwrap_or_else(|| sub.to_string()),
            scope: None,
        })
    }
}
