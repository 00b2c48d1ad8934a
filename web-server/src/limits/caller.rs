//! Who is limited.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU64;

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize, Serializer};

/// Kinds of callers, in the topmost byte of their keys; API keys and users get others.
const IPV4: NonZeroU64 = NonZeroU64::new(1 << 56).unwrap();
const IPV6: NonZeroU64 = NonZeroU64::new(2 << 56).unwrap();

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
    fn a_key_comes_back_as_it_was_sent_and_nothing_else_is_one() {
        for address in ["192.0.2.1", "2001:db8::1", "0.0.0.0", "::"] {
            let json = serde_json::to_string(&key(address)).unwrap();
            assert_eq!(serde_json::from_str::<CallerKey>(&json).unwrap(), key(address));
        }
        for bad in
            ["\"\"", "\"0\"", "\"xé\"", "7", "null", "\"100000000000000000000000000000000\"", "\"00000000000000001\""]
        {
            assert!(serde_json::from_str::<CallerKey>(bad).is_err(), "{bad}");
        }
    }
}
