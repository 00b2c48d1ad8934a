//! Whether an access token is good (RFC 9068, 4).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use shared::accounts::{ACCESS_TOKEN_TYPE, AccessClaims, CLOCK_SKEW, TokenKey, TokenKeys};
use shared::api_keys::KnownKey;
use shared::config::TokenConfig;
use uuid::Uuid;

/// What tokens are checked with.
pub(super) struct Keys {
    /// When management-api was asked for them.
    pub asked_at: Instant,
    by_kid: HashMap<String, DecodingKey>,
    revoked: HashSet<Uuid>,
    /// API keys that were changed, with the version that counts.
    versions: HashMap<Uuid, i32>,
    validation: Validation,
}

/// Whether a token of this type is an access token (RFC 9068, 2.1).
pub(super) fn is_access_token_type(typ: &str) -> bool {
    typ.eq_ignore_ascii_case(ACCESS_TOKEN_TYPE) || typ.eq_ignore_ascii_case("application/at+jwt")
}

/// A token whose signature is good.
#[derive(Clone)]
pub(super) struct Checked {
    /// What it says.
    pub(super) claims: Arc<AccessClaims>,
    /// Whose signature it is.
    pub(super) kid: Arc<str>,
}

impl Checked {
    /// Whether its time is over, by a clock that may be late.
    pub(super) fn is_over(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_secs() >= u64::try_from(self.claims.exp).unwrap_or(0) + CLOCK_SKEW.as_secs()
    }
}

/// What the library checks of a token beside its signature: when it counts, for whom and by whom.
pub(super) fn validation(algorithm: Algorithm, issuer: &str, audience: &str) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = CLOCK_SKEW.as_secs();
    validation.validate_nbf = true;
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation
}

/// What a token is.
pub(super) enum Verdict {
    /// It is good.
    Good(Checked),
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
        let validation = validation(Algorithm::EdDSA, &names.issuer, &names.audience);
        let by_kid = told.keys.into_iter().filter_map(key).collect();
        let versions = told.changed_keys.into_iter().map(|key| (key.key_id, key.version)).collect();
        Self { asked_at, by_kid, revoked: told.revoked.into_iter().collect(), versions, validation }
    }

    /// Whether an API key is as it is known, and its account is there.
    pub(super) fn is_up_to_date(&self, key: &KnownKey) -> bool {
        let is_outdated = self.versions.get(&key.key_id).is_some_and(|version| *version > key.version);
        !is_outdated && !self.revoked.contains(&key.account_id)
    }

    /// Looks at a token. The library checks that its algorithm is the key's, and when it counts, for whom and by whom.
    pub(super) fn judge(&self, token: &str) -> Verdict {
        let Ok(header) = decode_header(token) else { return Verdict::Bad };
        // What is signed to tell a client who somebody is (an ID token) opens nothing.
        let is_access_token = header.typ.as_deref().is_some_and(is_access_token_type);
        // What has to be understood, and is not (RFC 7515, 4.1.11).
        let has_demands = header.crit.is_some();
        if !is_access_token || has_demands || header.alg != Algorithm::EdDSA {
            return Verdict::Bad;
        }
        let Some(kid) = header.kid else { return Verdict::Bad };
        let Some(key) = self.by_kid.get(&kid) else { return Verdict::UnknownKey };
        let Ok(token) = decode::<AccessClaims>(token, key, &self.validation) else { return Verdict::Bad };
        let checked = Checked { claims: Arc::new(token.claims), kid: kid.into() };
        if self.still_count(&checked) { Verdict::Good(checked) } else { Verdict::Bad }
    }

    /// Whether a token whose signature was good before counts now: its key is still one, its time is not over, and neither its
    /// account nor its session is revoked.
    pub(super) fn still_count(&self, checked: &Checked) -> bool {
        let Checked { claims, kid } = checked;
        let is_revoked = self.revoked.contains(&claims.sub) || self.revoked.contains(&claims.sid);
        !is_revoked && !checked.is_over() && self.by_kid.contains_key(&**kid)
    }
}
