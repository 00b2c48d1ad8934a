//! The text of an API key: a prefix, 30 random characters, and a checksum by which one that was mistyped, or made up, is told
//! from one that may be somebody's, without asking anybody.

use std::fmt;

use rand::distr::{Alphanumeric, SampleString as _};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use sha2::{Digest as _, Sha256};

use crate::config::Secret;

/// What a key begins with, so that scanners find one that was leaked: they look for `pak_[0-9A-Za-z]{36}`.
pub const KEY_PREFIX: &str = "pak_";
/// Random characters, each one of 62: 178 bits.
const RANDOM_CHARS: usize = 30;
/// Characters of the checksum: 62^6 is more than 2^32.
const CHECKSUM_CHARS: usize = 6;
const CHECKSUM_START: usize = KEY_PREFIX.len() + RANDOM_CHARS;
/// How much of it is shown of a key that is kept as its hash.
const SHOWN_CHARS: usize = KEY_PREFIX.len() + 4;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The SHA-256 of a key's text: random as it is, it needs no salt.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretHash(pub [u8; 32]);

/// A key's text, whose checksum is right.
pub struct ApiKeySecret(Secret<String>);

impl ApiKeySecret {
    /// A new one, from the system's own source of chance.
    ///
    /// # Panics
    /// When the system gives none.
    #[must_use]
    pub fn random() -> Self {
        let mut text = KEY_PREFIX.to_owned();
        // It draws again where a remainder would make some characters likelier than others.
        Alphanumeric.append_string(&mut UnwrapErr(SysRng), &mut text, RANDOM_CHARS);
        let checksum = checksum(&text);
        text.extend(checksum.map(char::from));
        Self(Secret::new(text))
    }

    /// The hash of what was presented; nothing when it cannot be a key.
    #[must_use]
    pub fn hash_of(text: &str) -> Option<SecretHash> {
        let (checked, given) = text.split_at_checked(CHECKSUM_START)?;
        let random = checked.strip_prefix(KEY_PREFIX)?;
        let is_key = random.bytes().all(|byte| byte.is_ascii_alphanumeric()) && given.as_bytes() == checksum(checked);
        is_key.then(|| hash(text))
    }

    /// The text, for its holder.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        hash(self.expose())
    }

    /// What of it may be shown, so that people know which it is.
    #[must_use]
    pub fn start(&self) -> &str {
        &self.expose()[..SHOWN_CHARS]
    }
}

impl SecretHash {
    /// Reads what its `Display` has written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let pair = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
        let is_plain = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
        bytes.filter(|_| is_plain)?.try_into().ok().map(Self)
    }
}

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn hash(text: &str) -> SecretHash {
    SecretHash(Sha256::digest(text).into())
}

/// CRC-32 of all that stands before it, in base 62.
fn checksum(text: &str) -> [u8; CHECKSUM_CHARS] {
    let mut rest = crc32fast::hash(text.as_bytes()) as usize;
    let mut characters = [0; CHECKSUM_CHARS];
    for character in characters.iter_mut().rev() {
        *character = DIGITS[rest % DIGITS.len()];
        rest /= DIGITS.len();
    }
    characters
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out with another implementation (Python's `zlib.crc32`): what keys look like never changes.
    const KNOWN: &str = "pak_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123025uaG";

    #[test]
    fn a_key_is_read_as_it_was_made() {
        let (one, other) = (ApiKeySecret::random(), ApiKeySecret::random());
        assert!(one.expose() != other.expose() && one.expose().len() == 40, "40 characters each");
        assert!(ApiKeySecret::hash_of(one.expose()) == Some(one.hash()));
        assert!(one.expose().starts_with(one.start()) && one.start().len() == 8);
        assert!(ApiKeySecret::hash_of(KNOWN).is_some());
        let hash = one.hash();
        assert!(SecretHash::parse(&hash.to_string()) == Some(hash));
        for bad in ["", "00", &"zz".repeat(32), &"00".repeat(33), &format!("+{}", "0".repeat(63))] {
            assert!(SecretHash::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn no_slip_of_the_finger_is_a_key() {
        let key = ApiKeySecret::random().expose().to_owned();
        for place in 0..key.len() {
            let mut bytes = key.clone().into_bytes();
            for byte in b' '..=b'~' {
                bytes[place] = byte;
                let text = str::from_utf8(&bytes).unwrap();
                assert!(ApiKeySecret::hash_of(text).is_none() || text == key, "another character at {place}");
            }
            let mut without = key.clone();
            without.remove(place);
            let mut twice = key.clone();
            twice.insert(place, key.as_bytes()[place].into());
            let mut swapped = key.clone().into_bytes();
            swapped.swap(place, place.saturating_sub(1));
            let swapped = String::from_utf8(swapped).unwrap();
            for text in [without, twice] {
                assert!(ApiKeySecret::hash_of(&text).is_none(), "{place}");
            }
            assert!(ApiKeySecret::hash_of(&swapped).is_none() || swapped == key, "{place}");
        }
        for text in ["", "pak_", &key[..39], &format!("{key} "), &format!("pak_{}", "é".repeat(18))] {
            assert!(ApiKeySecret::hash_of(text).is_none());
        }
    }
}
