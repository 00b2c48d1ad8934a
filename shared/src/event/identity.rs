//! Purchase ids: fresh, by idempotency key, or by a record's position in Kafka.

use uuid::Uuid;

use super::RecordPosition;

/// Namespace of ids made from an idempotency key; fixed for ever, or repeats would become new purchases.
const KEY_NAMESPACE: Uuid = Uuid::from_u128(0x6b1d_3c5e_0f7a_4e52_9d3b_5a0c_77e1_41f8);
/// Namespace of ids made from a record's position, for producers that give no id.
const POSITION_NAMESPACE: Uuid = Uuid::from_u128(0x0c7f_9a41_52d6_4b8e_8e21_f3d9_16ab_60c4);

/// 1 to 255 visible ASCII characters that name one purchase of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// Not an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 255 visible ASCII characters")]
pub struct InvalidIdempotencyKey;

impl IdempotencyKey {
    /// The longest key, in characters.
    pub const LENGTH_MAX: usize = 255;

    /// Parses a key as a caller sends it.
    ///
    /// # Errors
    /// When it is empty, too long, or has a space, a control or a non-ASCII character.
    pub fn parse(text: &str) -> Result<Self, InvalidIdempotencyKey> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if visible && (1..=Self::LENGTH_MAX).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidIdempotencyKey)
        }
    }

    /// The key that this one stands for on the item at `index` of a batch: `KEY:INDEX`.
    #[must_use]
    pub fn for_item(&self, index: usize) -> Self {
        Self(format!("{}:{index}", self.0))
    }
}

/// A fresh id: UUIDv7, so that new rows land side by side in the primary key's index.
#[must_use]
pub fn new_purchase_id() -> Uuid {
    Uuid::now_v7()
}

/// The one id (UUIDv5) of `key` as used by `userid`.
#[must_use]
pub fn purchase_id_for_key(userid: &str, key: &IdempotencyKey) -> Uuid {
    // A userid has no control characters, so the separator keeps every pair distinct.
    Uuid::new_v5(&KEY_NAMESPACE, format!("{userid}\0{}", key.0).as_bytes())
}

/// The id (UUIDv5) of a record whose producer gave none: its place, and its time, because a log that was cut and grew again
/// has other records in the same places.
#[must_use]
pub fn purchase_id_for_position(position: &RecordPosition<'_>) -> Uuid {
    let RecordPosition { incarnation, partition, offset, timestamp_ms } = position;
    let time = timestamp_ms.map_or(String::new(), |millis| millis.to_string());
    Uuid::new_v5(&POSITION_NAMESPACE, format!("{incarnation}\0{partition}\0{offset}\0{time}").as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_key_of_one_user_is_one_purchase() {
        let key = IdempotencyKey::parse("order-1").unwrap();
        assert_eq!(purchase_id_for_key("u", &key), purchase_id_for_key("u", &key));
        assert_ne!(purchase_id_for_key("u", &key), purchase_id_for_key("v", &key));
        assert_ne!(purchase_id_for_key("u", &key), purchase_id_for_key("u", &key.for_item(0)));
    }

    #[test]
    fn ids_never_change_between_releases() {
        let key = IdempotencyKey::parse("order-1").unwrap();
        assert_eq!(purchase_id_for_key("u1", &key).to_string(), "502f0a9c-4773-5d03-818a-3eb9667ccb8c");
        let position = RecordPosition {
            incarnation: "purchases",
            partition: 3,
            offset: 42,
            timestamp_ms: Some(1_700_000_000_123),
        };
        assert_eq!(purchase_id_for_position(&position).to_string(), "f5ceded1-7315-567a-8bd6-95afbb418679");
        let other = RecordPosition { timestamp_ms: Some(1_700_000_000_124), ..position };
        assert_ne!(purchase_id_for_position(&position), purchase_id_for_position(&other), "another history");
    }

    proptest! {
        #[test]
        fn exactly_visible_ascii_is_a_key(text in "\\PC{0,300}|[!-~]{0,300}") {
            let expected = !text.is_empty() && text.len() <= 255 && text.chars().all(|c| ('!'..='~').contains(&c));
            prop_assert_eq!(IdempotencyKey::parse(&text).is_ok(), expected);
        }
    }
}
