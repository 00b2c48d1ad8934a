//! Refresh tokens: random, named after their session, and each with one successor.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use shared::config::Secret;
use uuid::Uuid;

use crate::store::TokenHash;

/// What such a token begins with, so that scanners know one that was leaked.
const PREFIX: &str = "prt_";
/// The session's id and the random part.
const BYTES: usize = 16 + 32;

/// A refresh token.
pub(super) struct RefreshToken {
    /// Its session.
    pub session_id: Uuid,
    random: Secret<[u8; 32]>,
}

impl RefreshToken {
    /// The first one of a new session.
    pub(super) fn first() -> Self {
        Self { session_id: Uuid::new_v4(), random: random_key() }
    }

    /// Reads a token; nothing when it cannot be one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        let bytes: [u8; BYTES] = bytes.try_into().ok()?;
        let (session_id, random) = bytes.split_first_chunk()?;
        Some(Self { session_id: Uuid::from_bytes(*session_id), random: Secret::new(random.try_into().ok()?) })
    }

    /// The token for its holder.
    pub(super) fn text(&self) -> String {
        let mut bytes = self.session_id.as_bytes().to_vec();
        bytes.extend(self.random.expose());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What is kept of it: random as it is, it needs no salt.
    pub(super) fn hash(&self) -> TokenHash {
        Sha256::digest(self.random.expose()).into()
    }

    /// What comes after it: the same, whoever makes it and however often, and nothing that can be made without the key.
    pub(super) fn successor(&self, key: &Secret<[u8; 32]>) -> Self {
        // HMAC itself fills a key up with zeros to the length of a block (RFC 2104).
        let mut block = [0; 64];
        block[..32].copy_from_slice(key.expose());
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(self.random.expose());
        Self { session_id: self.session_id, random: Secret::new(mac.finalize().into_bytes().into()) }
    }
}

/// 256 random bits.
pub(super) fn random_key() -> Secret<[u8; 32]> {
    Secret::new(rand::random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is_one() {
        let token = RefreshToken::first();
        let text = token.text();
        assert_eq!(text.len(), 4 + 64);
        let read = RefreshToken::parse(&text).unwrap();
        assert_eq!((read.session_id, read.hash()), (token.session_id, token.hash()));
        for bad in ["", "prt_", &text[1..], &text[..67], &format!("{text}A"), &text.replace("prt_", "pat_")] {
            assert!(RefreshToken::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_token_has_one_successor_for_each_key() {
        let (token, key) = (RefreshToken::first(), random_key());
        assert_eq!(token.successor(&key).text(), token.successor(&key).text());
        assert_ne!(token.successor(&key).text(), token.successor(&random_key()).text());
        assert_ne!(token.successor(&key).text(), token.text());
    }
}
