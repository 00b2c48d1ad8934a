//! For a receiver of callbacks. Crates: base64 0.22, aws-lc-rs 1 (or ring, whose functions have the same names).

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Seconds that the sender's clock and ours may be apart: what is older was kept by somebody and sent again.
const TOLERANCE_SECONDS: u64 = 300;

/// The headers of a callback whose names begin with `webhook-`.
pub struct WebhookHeaders<'a> {
    pub id: &'a str,
    pub timestamp: &'a str,
    pub signature: &'a str,
}

/// Whether a callback is genuine. `key` is the `whsec_…` that you share with the sender, or a `whpk_…` that it publishes; `body` is
/// what came, byte for byte.
pub fn is_genuine(key: &str, headers: &WebhookHeaders<'_>, body: &[u8]) -> bool {
    let WebhookHeaders { id, timestamp, signature } = headers;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let is_fresh = timestamp.parse::<u64>().is_ok_and(|sent| now.abs_diff(sent) <= TOLERANCE_SECONDS);
    let Some((kind, key)) = key.split_once('_') else { return false };
    let Ok(key) = STANDARD.decode(key) else { return false };
    let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    let is_ours = |part: &str| {
        let Some((version, signature)) = part.split_once(',') else { return false };
        let Ok(signature) = STANDARD.decode(signature) else { return false };
        match (kind, version) {
            ("whsec", "v1") => hmac::verify(&hmac::Key::new(HMAC_SHA256, &key), &signed, &signature).is_ok(),
            ("whpk", "v1a") => UnparsedPublicKey::new(&ED25519, &key).verify(&signed, &signature).is_ok(),
            _ => false,
        }
    };
    is_fresh && signature.split(' ').any(is_ours)
}
