//! What callbacks are signed with: Standard Webhooks (github.com/standard-webhooks/standard-webhooks, 1.0.0), `v1` by a secret that the
//! receiver has too, `v1a` by a key whose public half anybody may have.

use std::fmt;
use std::ops::RangeInclusive;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519_PUBLIC_KEY_LEN, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use shared::callbacks::WebhookKey;
use shared::config::Secret;

const SECRET_PREFIX: &str = "whsec_";
const PRIVATE_PREFIX: &str = "whsk_";
const PUBLIC_PREFIX: &str = "whpk_";
/// Bytes of a secret, as the specification has them.
const SECRET_BYTES: RangeInclusive<usize> = 24..=64;
/// Bytes of a new one.
const NEW_SECRET_BYTES: usize = 32;
/// Bytes of an Ed25519 key, which may be followed by its public half.
const SEED_BYTES: usize = 32;
/// The most keys of a kind: the one that is new, and the one that goes.
const KEYS_MAX: usize = 2;
/// The example of the specification's own libraries, and that of its best-known user's documentation: anybody has them.
const PUBLISHED: [&str; 2] = ["C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"];

/// What is wrong with the keys; nothing of them is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    /// No key at all.
    #[error("must have a key: `management-api callbacks new-secret` makes some")]
    Empty,
    /// Something that is neither kind of key.
    #[error("must be keys that begin with whsec_ or whsk_, apart by spaces or commas")]
    Unknown,
    /// Not base64, or of another length.
    #[error("must have 24 to 64 bytes in base64 after whsec_")]
    Secret,
    /// Not base64, of another length, or with a public half that is another key's.
    #[error("must have the 32 bytes of an Ed25519 key in base64 after whsk_, alone or with its public key behind them")]
    PrivateKey,
    /// A key that stands in documents or has one byte alone.
    #[error("has a key that anybody can have")]
    Guessable,
    /// More than two of a kind, or one twice.
    #[error("must have two different keys of a kind at most")]
    TooMany,
}

/// The keys of callbacks. Every one signs, so that receivers may change from one to the other when they like.
pub struct SigningKeys {
    secrets: Vec<hmac::Key>,
    pairs: Vec<Ed25519KeyPair>,
}

impl SigningKeys {
    /// Reads keys, newest first, apart by spaces or commas.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(text: &str) -> Result<Self, InvalidKeys> {
        let words: Vec<_> = text.split([' ', ',', '\n', '\r', '\t']).filter(|word| !word.is_empty()).collect();
        let mut keys = Self { secrets: Vec::new(), pairs: Vec::new() };
        for (index, word) in words.iter().enumerate() {
            if words[..index].contains(word) {
                return Err(InvalidKeys::TooMany);
            }
            if let Some(text) = word.strip_prefix(SECRET_PREFIX) {
                keys.secrets.push(parse_secret(text)?);
            } else {
                keys.pairs.push(parse_pair(word.strip_prefix(PRIVATE_PREFIX).ok_or(InvalidKeys::Unknown)?)?);
            }
        }
        if words.is_empty() {
            return Err(InvalidKeys::Empty);
        }
        let is_too_many = keys.secrets.len() > KEYS_MAX || keys.pairs.len() > KEYS_MAX;
        if is_too_many { Err(InvalidKeys::TooMany) } else { Ok(keys) }
    }

    /// The header `webhook-signature` of a message: a signature by each key, apart by spaces. `id` must not contain a full stop.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
        let symmetric = self.secrets.iter().map(|key| format!("v1,{}", STANDARD.encode(hmac::sign(key, &signed))));
        let asymmetric = self.pairs.iter().map(|pair| format!("v1a,{}", STANDARD.encode(pair.sign(&signed))));
        symmetric.chain(asymmetric).collect::<Vec<_>>().join(" ")
    }

    /// What receivers verify `v1a` with.
    #[must_use]
    pub fn public_keys(&self) -> Vec<WebhookKey> {
        self.pairs.iter().map(|pair| published(pair.public_key().as_ref())).collect()
    }
}

/// A new secret and a new key pair, as the setting takes them.
#[must_use]
pub fn new_secret() -> Secret<String> {
    let (secret, seed) = (rand::random::<[u8; NEW_SECRET_BYTES]>(), rand::random::<[u8; SEED_BYTES]>());
    // Libraries of the specification expect the public half behind the private one.
    let public = Ed25519KeyPair::from_seed_unchecked(&seed).map(|pair| pair.public_key().as_ref().to_vec());
    let pair = [seed.to_vec(), public.unwrap_or_default()].concat();
    Secret::new(format!("{SECRET_PREFIX}{} {PRIVATE_PREFIX}{}", STANDARD.encode(secret), STANDARD.encode(pair)))
}

fn parse_secret(text: &str) -> Result<hmac::Key, InvalidKeys> {
    let bytes = STANDARD.decode(text).ok().filter(|bytes| SECRET_BYTES.contains(&bytes.len()));
    let bytes = bytes.ok_or(InvalidKeys::Secret)?;
    if PUBLISHED.contains(&text) || is_one_byte_alone(&bytes) {
        return Err(InvalidKeys::Guessable);
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

fn parse_pair(text: &str) -> Result<Ed25519KeyPair, InvalidKeys> {
    let bytes = STANDARD.decode(text).map_err(|_| InvalidKeys::PrivateKey)?;
    let (seed, public) = bytes.split_at_checked(SEED_BYTES).ok_or(InvalidKeys::PrivateKey)?;
    if is_one_byte_alone(seed) {
        return Err(InvalidKeys::Guessable);
    }
    let pair = match public.len() {
        0 => Ed25519KeyPair::from_seed_unchecked(seed),
        ED25519_PUBLIC_KEY_LEN => Ed25519KeyPair::from_seed_and_public_key(seed, public),
        _ => return Err(InvalidKeys::PrivateKey),
    };
    pair.map_err(|_| InvalidKeys::PrivateKey)
}

fn is_one_byte_alone(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == bytes[0])
}

fn published(public: &[u8]) -> WebhookKey {
    let x = URL_SAFE_NO_PAD.encode(public);
    // RFC 7638, 3 and RFC 8037, 2: these members alone, in the order of their names.
    let thumbprint = Sha256::digest(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#));
    WebhookKey {
        kty: "OKP".to_owned(),
        crv: "Ed25519".to_owned(),
        alg: "EdDSA".to_owned(),
        purpose: "sig".to_owned(),
        kid: URL_SAFE_NO_PAD.encode(thumbprint),
        x,
        webhook_public_key: format!("{PUBLIC_PREFIX}{}", STANDARD.encode(public)),
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests;
