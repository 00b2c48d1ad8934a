//! Who is limited.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU64;

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

/// Kinds of callers, in the topmost byte of their keys.
const IPV4: NonZeroU64 = NonZeroU64::new(1 << 56).unwrap();
const IPV6: NonZeroU64 = NonZeroU64::new(2 << 56).unwrap();
const ACCOUNT: NonZeroU64 = NonZeroU64::new(3 << 56).unwrap();
const API_KEY: NonZeroU64 = NonZeroU64::new(4 << 56).unwrap();
const EMAIL: NonZeroU64 = NonZeroU64::new(5 << 56).unwrap();
/// Of who signs in: what it asks for meanwhile is counted by the minute, beside what it asks for otherwise.
const SIGNING_IN: u64 = 1 << 63;
/// All bits but those of the kind.
const NUMBER: u64 = (1 << 56) - 1;

/// Who is limited, the same number at every replica.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallerKey {
    high: NonZeroU64,
    low: u64,
}

impl CallerKey {
    /// A caller known by its address alone: all of an IPv4 address, also where it is written as IPv6, and the network of an IPv6
    /// address (/64), because one machine has as many addresses there as it likes.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Self {
        let (high, low) = match address.to_canonical() {
            IpAddr::V4(address) => (IPV4, address.to_bits().into()),
            IpAddr::V6(address) => (IPV6, u64::try_from(address.to_bits() >> 64).unwrap_or(0)),
        };
        Self { high, low }
    }

    /// An account, wherever it asks from.
    #[must_use]
    pub fn of_account(account_id: Uuid) -> Self {
        Self::of_id(ACCOUNT, account_id)
    }

    /// An API key, whosever it is.
    #[must_use]
    pub fn of_api_key(key_id: Uuid) -> Self {
        Self::of_id(API_KEY, key_id)
    }

    /// Whoever wants to sign in to an account, by a name that was made of its e-mail address.
    #[must_use]
    pub fn of_email(name: Uuid) -> Self {
        Self::of_id(EMAIL, name).signing_in()
    }

    /// The same caller as it signs in.
    #[must_use]
    pub fn signing_in(self) -> Self {
        Self { high: self.high | SIGNING_IN, ..self }
    }

    /// Whether it is one who signs in.
    #[must_use]
    pub fn is_signing_in(self) -> bool {
        self.high.get() & SIGNING_IN != 0
    }

    /// All of an id but its first byte: what is left is by far enough to tell ids apart.
    fn of_id(kind: NonZeroU64, id: Uuid) -> Self {
        let (high, low) = id.as_u64_pair();
        Self { high: kind | (high & NUMBER), low }
    }
}

impl fmt::Debug for CallerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}{:016x}", self.high, self.low)
    }
}

impl Serialize for CallerKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

impl<'de> Deserialize<'de> for CallerKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        let parse = |digits: &str| u64::from_str_radix(digits, 16).ok();
        let key = text
            .split_at_checked(text.len().saturating_sub(16))
            .and_then(|(high, low)| Some(Self { high: NonZeroU64::new(parse(high)?)?, low: parse(low)? }));
        key.ok_or_else(|| D::Error::custom("a caller is a hexadecimal number of more than 16 digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> CallerKey {
        CallerKey::of_address(address.parse().unwrap())
    }

    #[test]
    fn one_machine_is_one_caller() {
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1:2:3"));
        for (one, other) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8:0:1::1"), ("0.0.0.1", "0:0:0:1::")] {
            assert_ne!(key(one), key(other), "{one} {other}");
        }
    }

    #[test]
    fn callers_of_different_kinds_are_different() {
        let id = Uuid::from_u128(7);
        let callers = [CallerKey::of_account(id), CallerKey::of_api_key(id), CallerKey::of_email(id), key("192.0.2.1")];
        let all: Vec<_> = callers.into_iter().chain(callers.map(CallerKey::signing_in)).collect();
        let different: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len() - 1, "an e-mail address is only there to sign in with");
        assert!(!callers[0].is_signing_in() && callers[2].is_signing_in());
    }

    #[test]
    fn a_key_comes_back_as_it_was_sent_and_nothing_else_is_one() {
        for address in ["192.0.2.1", "2001:db8::1", "0.0.0.0", "::"] {
            let json = serde_json::to_string(&key(address)).unwrap();
            assert_eq!(serde_json::from_str::<CallerKey>(&json).unwrap(), key(address));
            let signing_in = serde_json::to_string(&key(address).signing_in()).unwrap();
            assert_eq!(serde_json::from_str::<CallerKey>(&signing_in).unwrap(), key(address).signing_in());
        }
        for bad in
            ["\"\"", "\"0\"", "\"xé\"", "7", "null", "\"100000000000000000000000000000000\"", "\"00000000000000001\""]
        {
            assert!(serde_json::from_str::<CallerKey>(bad).is_err(), "{bad}");
        }
    }
}
