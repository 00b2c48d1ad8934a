//! A purchase as a Kafka record: JSON value, CloudEvents headers, and what makes a record poison.

use std::borrow::Cow;

use serde_json::value::{RawValue, to_raw_value};

use super::{Malformed, Purchase, PurchaseFields, Timestamp, purchase_id_for_position};
use crate::callbacks::{CallbackUrl, Schemes};

/// Where a record stands in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPosition<'a> {
    /// The life of the topic: a topic made anew counts its offsets from 0 again.
    pub incarnation: &'a str,
    /// The partition's number.
    pub partition: i32,
    /// The record's offset there.
    pub offset: i64,
    /// The record's time, in milliseconds since 1970, if it has one.
    pub timestamp_ms: Option<i64>,
}

/// Why a record can never be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoisonReason {
    /// The value is not JSON.
    NotJson,
    /// A field is missing, wrong or out of range.
    InvalidField,
    /// Its id already stands for a purchase with other content.
    Conflict,
    /// The database refuses this one record.
    RejectedByStore,
}

impl PoisonReason {
    const ALL: [Self; 4] = [Self::NotJson, Self::InvalidField, Self::Conflict, Self::RejectedByStore];

    /// The reason of this label.
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.label() == label)
    }

    /// The reason as it stands in the header `dead_letter_reason`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::InvalidField => "invalid_field",
            Self::Conflict => "conflict",
            Self::RejectedByStore => "rejected_by_store",
        }
    }
}

/// A record that can never be stored, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {error}", reason.label())]
pub struct Poison {
    /// The kind of fault.
    pub reason: PoisonReason,
    /// The fault in words, for whoever mends the record.
    pub error: String,
}

/// A record's purchase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The purchase.
    pub purchase: Purchase,
    /// Whether the record brought no id, and its place has named it.
    pub id_by_place: bool,
}

/// The record's value as bytes.
#[must_use]
pub fn encode_record(purchase: &Purchase) -> Vec<u8> {
    purchase_json(purchase).get().as_bytes().to_vec()
}

/// The record's value: JSON with the price's exact digits; it can stand in an answer too, written only once.
///
/// # Panics
/// Never: a purchase is always JSON, and memory takes every byte.
#[must_use]
pub fn purchase_json(purchase: &Purchase) -> Box<RawValue> {
    to_raw_value(purchase).expect("a purchase is always JSON, and memory takes every byte")
}

/// The record's headers: CloudEvents 1.0, Kafka binary mode, and the W3C trace context.
#[must_use]
pub fn record_headers<'a>(
    purchase: &Purchase,
    source: &'a str,
    traceparent: &'a str,
) -> [(&'static str, Cow<'a, str>); 7] {
    [
        ("ce_specversion", "1.0".into()),
        ("ce_id", purchase.purchase_id.to_string().into()),
        ("ce_type", "purchase.accepted.v1".into()),
        ("ce_source", source.into()),
        ("ce_time", purchase.timestamp.to_string().into()),
        ("content-type", "application/json".into()),
        ("traceparent", traceparent.into()),
    ]
}

/// Reads a record's value. `sent_at` is the record's own time, used when the value has none.
///
/// # Errors
/// When the record can never be stored.
pub fn decode_record(
    value: Option<&[u8]>,
    position: RecordPosition<'_>,
    sent_at: Timestamp,
) -> Result<Decoded, Poison> {
    let value =
        value.ok_or_else(|| Poison { reason: PoisonReason::NotJson, error: "the record has no value".to_owned() })?;
    let fields = PurchaseFields::parse(value).map_err(|malformed| Poison {
        reason: match malformed {
            Malformed::NotJson(_) => PoisonReason::NotJson,
            Malformed::NotAnObject(_) => PoisonReason::InvalidField,
        },
        error: malformed.to_string(),
    })?;
    let mut errors = Vec::new();
    let userid = fields.userid(&mut errors);
    let username = fields.username(&mut errors);
    let price = fields.price(&mut errors);
    let purchase_id = fields.purchase_id(&mut errors);
    let timestamp = fields.timestamp(&mut errors);
    let callback_url = fields.callback_url(|text| CallbackUrl::parse(text, Schemes::HttpToo), &mut errors);
    match (userid, username, price) {
        (Some(userid), Some(username), Some(price)) if errors.is_empty() => {
            let by_place = || purchase_id_for_position(&position);
            let purchase = Purchase {
                purchase_id: purchase_id.unwrap_or_else(by_place),
                userid,
                username,
                price,
                timestamp: timestamp.unwrap_or(sent_at),
                recorded_at: None,
                callback_url,
            };
            Ok(Decoded { purchase, id_by_place: purchase_id.is_none() })
        }
        _ => {
            let complaints: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Err(Poison { reason: PoisonReason::InvalidField, error: complaints.join("; ") })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::new_purchase_id;
    use crate::price::Price;

    const POSITION: RecordPosition<'static> =
        RecordPosition { incarnation: "purchases", partition: 3, offset: 42, timestamp_ms: Some(1_700_000_000_123) };

    fn sent_at() -> Timestamp {
        Timestamp::from_millis(1_700_000_000_123).unwrap()
    }

    fn decode(value: &str) -> Result<Purchase, Poison> {
        decode_record(Some(value.as_bytes()), POSITION, sent_at()).map(|decoded| decoded.purchase)
    }

    #[test]
    fn a_bare_record_of_another_producer_is_named_by_its_position() {
        let purchase = decode(r#"{"userid":"u","username":"n","price":1.5}"#).unwrap();
        assert_eq!(purchase.purchase_id, purchase_id_for_position(&POSITION));
        assert_eq!(purchase.timestamp, sent_at());
    }

    #[test]
    fn each_kind_of_poison_has_its_reason() {
        let reason = |value: Option<&[u8]>| decode_record(value, POSITION, sent_at()).unwrap_err().reason;
        assert_eq!(reason(None), PoisonReason::NotJson);
        assert_eq!(reason(Some(b"")), PoisonReason::NotJson);
        assert_eq!(reason(Some(&[0xc0, 0x80])), PoisonReason::NotJson);
        assert_eq!(reason(Some(b"7")), PoisonReason::InvalidField);
        let all_wrong =
            decode(r#"{"userid":"","username":1,"price":"x","purchase_id":"y","timestamp":"z"}"#).unwrap_err();
        assert_eq!(all_wrong.error.matches(';').count(), 4, "{all_wrong}");
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same(
            userid in "[^\\p{Cc}\\s]{1,256}",
            username in "[^\\p{Cc}\\s]{1,256}",
            units in 1_i64..=i64::MAX,
            millis in 0_i64..=253_402_300_799_999,
        ) {
            let purchase = Purchase {
                purchase_id: new_purchase_id(),
                userid,
                username,
                price: Price::new(rust_decimal::Decimal::new(units, 4)).unwrap(),
                timestamp: Timestamp::from_millis(millis).unwrap(),
                recorded_at: None,
                callback_url: None,
            };
            let value = encode_record(&purchase);
            prop_assert_eq!(decode_record(Some(&value), POSITION, sent_at()), Ok(Decoded { purchase, id_by_place: false }));
        }

        #[test]
        fn no_record_makes_the_decoder_panic(value in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_record(Some(&value), POSITION, sent_at());
        }
    }
}
