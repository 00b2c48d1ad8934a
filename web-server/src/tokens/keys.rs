//! Whether an access token is good (RFC 9068, 4).

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use shared::accounts::{ACCESS_TOKEN_TYPE, AccessClaims, CLOCK_SKEW, TokenKey, TokenKeys};
use shared::config::TokenConfig;
use uuid::Uuid;

/// What tokens are checked with.
pub(super) struct Keys {
    /// When management-api was asked for them.
    pub asked_at: Instant,
    by_kid: HashMap<String, DecodingKey>,
    revoked: HashSet<Uuid>,
    validation: Validation,
}

/// What a token is.
pub(super) enum Verdict {
    /// It is good, and says this.
    Good(Box<AccessClaims>),
    /// It is signed by nobody who is known.
    UnknownKey,
    /// Anything else.
    Bad,
}

impl Keys {
    /// What management-api has told. A key of another kind is none.
    pub(super) fn new(told: TokenKeys, names: &TokenConfig, asked_at: Instant) -> Self {
        let key = |TokenKey { kty, crv, alg, kid, x }: TokenKey| {
            let is_ours = kty == "OKP" && crv == "Ed25519" && alg == "EdDSA";
            let key = DecodingKey::from_ed_components(&x).ok().filter(|_| is_ours)?;
            Some((kid, key))
        };
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = CLOCK_SKEW.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&names.issuer]);
        validation.set_audience(&[&names.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let by_kid = told.keys.into_iter().filter_map(key).collect();
        Self { asked_at, by_kid, revoked: told.revoked.into_iter().collect(), validation }
    }

    /// Looks at a token. The library checks that its algorithm is the key's, and when it counts, for whom and by whom.
    pub(super) fn judge(&self, token: &str) -> Verdict {
        let Ok(header) = decode_header(token) else { return Verdict::Bad };
        // What is signed to tell a client who somebody is (an ID token) opens nothing.
        let is_access_token = header.typ.as_deref().is_some_and(|typ| {
            typ.eq_ignore_ascii_case(ACCESS_TOKEN_TYPE) || typ.eq_ignore_ascii_case("application/at+jwt")
        });
        if !is_access_token || header.alg != Algorithm::EdDSA {
            return Verdict::Bad;
        }
        let Some(kid) = header.kid else { return Verdict::Bad };
        let Some(key) = self.by_kid.get(&kid) else { return Verdict::UnknownKey };
        let Ok(token) = decode::<AccessClaims>(token, key, &self.validation) else { return Verdict::Bad };
        let claims = token.claims;
        let is_revoked = self.revoked.contains(&claims.sub) || self.revoked.contains(&claims.sid);
        if is_revoked { Verdict::Bad } else { Verdict::Good(Box::new(claims)) }
    }
}
