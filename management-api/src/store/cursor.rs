//! Where a page of purchases ends and the next begins.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use shared::callbacks::DeadCallback;
use shared::event::{Purchase, Timestamp};
use uuid::Uuid;

/// The first byte: another layout gets another number, and old cursors are refused instead of misread.
const VERSION: u8 = 1;
/// Version, milliseconds since 1970 (big-endian), `purchase_id`.
const LENGTH: usize = 1 + 8 + 16;

/// A position in the order *newest first*: right after one purchase. For callers an opaque text, safe in a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The purchase's time.
    pub timestamp: Timestamp,
    /// Its id.
    pub purchase_id: Uuid,
}

/// The text is no cursor that this service gave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a next_cursor of an earlier answer")]
pub struct InvalidCursor;

impl Cursor {
    /// The position right after `purchase`.
    #[must_use]
    pub fn after(purchase: &Purchase) -> Self {
        Self { timestamp: purchase.timestamp, purchase_id: purchase.purchase_id }
    }

    /// The position right after a callback in the list of those that were given up.
    #[must_use]
    pub fn after_dead(callback: &DeadCallback) -> Self {
        Self { timestamp: callback.recorded_at, purchase_id: callback.purchase_id }
    }

    /// Parses the text of a cursor.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let bytes: [u8; LENGTH] = bytes.try_into().map_err(|_| InvalidCursor)?;
        let [VERSION, rest @ ..] = bytes else { return Err(InvalidCursor) };
        let (millis, purchase_id) = rest.split_first_chunk().ok_or(InvalidCursor)?;
        let millis = i64::from_be_bytes(*millis);
        Ok(Self {
            timestamp: Timestamp::from_millis(millis).ok_or(InvalidCursor)?,
            purchase_id: Uuid::from_slice(purchase_id).map_err(|_| InvalidCursor)?,
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.push(VERSION);
        bytes.extend(self.timestamp.millis().to_be_bytes());
        bytes.extend(self.purchase_id.as_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::event::STORABLE_MILLIS;

    use super::*;

    fn text(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    #[test]
    fn other_versions_lengths_and_alphabets_are_refused() {
        let good = Cursor { timestamp: Timestamp::from_millis(0).unwrap(), purchase_id: Uuid::nil() }.to_string();
        assert!(Cursor::parse(&good).is_ok());
        assert!(good.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
        let mut other_version = [0; LENGTH];
        other_version[0] = VERSION + 1;
        for bad in ["", "=", "AQ", "ключ", &text(&other_version), &format!("{good}="), &format!("{good}A")] {
            assert_eq!(Cursor::parse(bad), Err(InvalidCursor), "{bad}");
        }
    }

    #[test]
    fn times_that_no_database_holds_are_refused() {
        for millis in [i64::MIN, *STORABLE_MILLIS.start() - 1, *STORABLE_MILLIS.end() + 1, i64::MAX] {
            let mut bytes = [VERSION; LENGTH];
            bytes[1..9].copy_from_slice(&millis.to_be_bytes());
            assert_eq!(Cursor::parse(&text(&bytes)), Err(InvalidCursor), "{millis}");
        }
    }

    proptest! {
        #[test]
        fn what_was_given_out_is_read_back(millis in STORABLE_MILLIS, id in any::<u128>()) {
            let timestamp = Timestamp::from_millis(millis).unwrap();
            let cursor = Cursor { timestamp, purchase_id: Uuid::from_u128(id) };
            prop_assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor));
        }

        #[test]
        fn one_position_has_one_text(text in "[A-Za-z0-9_-]{33,35}") {
            if let Ok(cursor) = Cursor::parse(&text) {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,60}|[A-Za-z0-9_=-]{0,60}") {
            let _ = Cursor::parse(&text);
        }
    }
}
