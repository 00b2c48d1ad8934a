//! Whether an outside issuer's token is good.

use std::collections::HashMap;
use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, decode, decode_header};

use super::claims::OutsideClaims;
use super::config::OidcConfig;
use crate::tokens::keys::{Checked, Verdict, is_access_token_type, validation};

/// The keys of one issuer, each with the one algorithm it is for.
pub(super) struct IssuerKeys {
    by_kid: HashMap<String, (Algorithm, DecodingKey)>,
}

impl IssuerKeys {
    /// Of what the issuer publishes, all that has a name and can sign in a way that is known.
    pub(super) fn new(published: &[Jwk]) -> Self {
        let key = |jwk: &Jwk| {
            let is_for_signing = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
            let algorithm = algorithm(jwk).filter(|_| is_for_signing)?;
            Some((jwk.common.key_id.clone()?, (algorithm, DecodingKey::from_jwk(jwk).ok()?)))
        };
        Self { by_kid: published.iter().filter_map(key).collect() }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.by_kid.is_empty()
    }

    /// Looks at a token. The library checks when it counts, for whom and by whom.
    pub(super) fn judge(&self, token: &str, config: &OidcConfig) -> Verdict {
        let Ok(header) = decode_header(token) else { return Verdict::Bad };
        let Some(kid) = header.kid else { return Verdict::Bad };
        let Some((algorithm, key)) = self.by_kid.get(&kid) else { return Verdict::UnknownKey };
        // Its key says how it is signed, never the token itself; and what has to be understood is not (RFC 7515, 4.1.11).
        if header.alg != *algorithm || header.crit.is_some() {
            return Verdict::Bad;
        }
        let validation = validation(*algorithm, &config.issuer, &config.audience);
        let Ok(token) = decode::<OutsideClaims>(token, key, &validation) else { return Verdict::Bad };
        let is_for_access = match header.typ.as_deref() {
            Some(typ) if is_access_token_type(typ) => true,
            Some(typ) if typ.eq_ignore_ascii_case("JWT") => token.claims.is_for_access(),
            None => token.claims.is_for_access(),
            Some(_) => false,
        };
        match token.claims.into_ours(&config.audience).filter(|_| is_for_access) {
            Some(claims) => Verdict::Good(Checked { claims: Arc::new(claims), kid: kid.into() }),
            None => Verdict::Bad,
        }
    }

    /// Whether a token whose signature was good before counts now.
    pub(super) fn still_count(&self, checked: &Checked) -> bool {
        !checked.is_over() && self.by_kid.contains_key(&*checked.kid)
    }
}

/// What a key signs with, if it is one of the three ways that are taken.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    jwk.common.key_algorithm.is_none_or(|said| said == name).then_some(algorithm)
}
