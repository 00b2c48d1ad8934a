//! A dead letter, and the headers that say where it came from.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use shared::event::PoisonReason;
use shared::kafka::{ConsumedRecord, HeaderRef, RecordHeader};
use uuid::Uuid;

/// Header: why the record is dead.
pub(crate) const REASON: &str = "dead_letter_reason";
/// Header: the same in words.
pub(crate) const ERROR: &str = "dead_letter_error";
/// Header of a dead letter that was sent back: the how manieth time it was.
pub(crate) const REDRIVE: &str = "dead_letter_redrive";
/// Header: the topic it was read from.
pub(crate) const ORIGINAL_TOPIC: &str = "original_topic";
/// Header: its partition there.
pub(crate) const ORIGINAL_PARTITION: &str = "original_partition";
/// Header: its offset there.
pub(crate) const ORIGINAL_OFFSET: &str = "original_offset";
/// Header: the life of the topic that the offset belongs to.
pub(crate) const ORIGINAL_INCARNATION: &str = "original_incarnation";
/// Header: the record's own time there, in milliseconds since 1970; -1 for a record without one, as in Kafka's protocol.
pub(crate) const ORIGINAL_TIMESTAMP: &str = "original_timestamp";

/// Whether a header is one of those above, and so says nothing of the record itself.
#[must_use]
pub fn is_own_header(name: &[u8]) -> bool {
    let own = [
        REASON,
        ERROR,
        REDRIVE,
        ORIGINAL_TOPIC,
        ORIGINAL_PARTITION,
        ORIGINAL_OFFSET,
        ORIGINAL_INCARNATION,
        ORIGINAL_TIMESTAMP,
    ];
    own.iter().any(|own| own.as_bytes() == name)
}

/// Names dead letters.
const NAMESPACE: Uuid = Uuid::from_u128(0x9d0b_6b0e_4f0c_4c1e_9a57_0d2f_7a3c_51e4);

/// Header names and values as bytes, in order; a header may have no value.
pub type Headers = Vec<RecordHeader>;

/// A record that can never be stored, bytes untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it first stood. Sent back and set aside again, it keeps that.
    pub original: Original,
    /// The how manieth time it was sent back that brought it here; 0 for a record that never was a dead letter.
    pub redrive: u32,
    /// The key, if any.
    pub key: Option<Vec<u8>>,
    /// The value, if any.
    pub value: Option<Vec<u8>>,
    /// The record's headers.
    pub headers: Headers,
    /// Why it cannot be stored.
    pub reason: PoisonReason,
    /// The same in words.
    pub error: String,
}

/// A dead letter on its way back, by what nobody else can send: its very content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sending {
    /// Names the dead letter.
    pub letter_id: Uuid,
    /// Of what was sent.
    pub digest: [u8; 32],
}

impl Sending {
    /// Of a record with this content; headers that are ours do not count. The digest is SHA-256 of all parts, each behind its
    /// length. What is not there is as good as empty: brokers and clients mix them up.
    #[must_use]
    pub fn new<'a>(
        letter_id: Uuid,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = HeaderRef<'a>>,
    ) -> Self {
        let mut digest = Sha256::new();
        let mut put = |part: Option<&[u8]>| {
            let part = part.unwrap_or_default();
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        };
        put(key);
        put(value);
        for (name, value) in headers.into_iter().filter(|(name, _)| !is_own_header(name)) {
            put(Some(name));
            put(value);
        }
        Self { letter_id, digest: digest.finalize().into() }
    }
}

/// Where and when a record first stood in the topic of purchases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original {
    /// The life of the topic.
    pub incarnation: Arc<str>,
    /// Its partition there.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its own time, in milliseconds since 1970, if it has one. It tells records apart that stood at one offset, one after
    /// the other, because the log was cut in between.
    pub timestamp_ms: Option<i64>,
}

impl Original {
    /// Names the dead letter: however often it comes back, it is one.
    #[must_use]
    pub fn id(&self) -> Uuid {
        let Self { incarnation, partition, offset, timestamp_ms } = self;
        let time = timestamp_ms.map(|time| time.to_string()).unwrap_or_default();
        Uuid::new_v5(&NAMESPACE, format!("{incarnation}\0{partition}\0{offset}\0{time}").as_bytes())
    }

    /// Where a record says that it first stood, if it is a dead letter.
    #[must_use]
    pub fn of_dead_letter(record: &ConsumedRecord<'_>) -> Option<Self> {
        Some(Self {
            incarnation: record.header(ORIGINAL_INCARNATION)?.into(),
            partition: record.header(ORIGINAL_PARTITION)?.parse().ok()?,
            offset: record.header(ORIGINAL_OFFSET)?.parse().ok()?,
            timestamp_ms: match record.header(ORIGINAL_TIMESTAMP) {
                Some(time) => time.parse().ok().filter(|time| *time >= 0),
                // Set aside by a release that gave the dead letter the original's time.
                None => record.timestamp_ms(),
            },
        })
    }

    /// The same of a record that says that it is a dead letter sent back, and the how manieth time it was.
    #[must_use]
    pub fn of_returned(record: &ConsumedRecord<'_>) -> Option<(Self, u32)> {
        let redrive = record.header(REDRIVE)?.parse().ok().filter(|redrive| *redrive > 0)?;
        Some((Self::of_dead_letter(record)?, redrive))
    }
}

/// Headers as they are lent.
pub fn borrowed(headers: &Headers) -> impl Iterator<Item = HeaderRef<'_>> {
    headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref()))
}

/// The headers of a record that is sent: the original's, as they are, and behind them where it stood.
pub(crate) struct OutgoingHeaders(Headers);

impl OutgoingHeaders {
    pub(crate) fn of(letter: &DeadLetter, topic: &str) -> Self {
        Self::of_original(letter.headers.clone(), &letter.original, topic)
    }

    pub(crate) fn of_original(mut headers: Headers, original: &Original, topic: &str) -> Self {
        headers.retain(|(name, _)| !is_own_header(name));
        let mut headers = Self(headers);
        headers.set(ORIGINAL_TOPIC, topic.to_owned());
        headers.set(ORIGINAL_PARTITION, original.partition.to_string());
        headers.set(ORIGINAL_OFFSET, original.offset.to_string());
        headers.set(ORIGINAL_INCARNATION, original.incarnation.to_string());
        headers.set(ORIGINAL_TIMESTAMP, original.timestamp_ms.unwrap_or(-1).to_string());
        headers
    }

    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.0.push((name.as_bytes().to_vec(), Some(value.into_bytes())));
    }

    pub(crate) fn borrowed(&self) -> Vec<HeaderRef<'_>> {
        borrowed(&self.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_its_place_names_a_dead_letter() {
        let one = Original { incarnation: "a".into(), partition: 1, offset: 2, timestamp_ms: Some(3) };
        let others = [
            Original { incarnation: "b".into(), ..one.clone() },
            Original { partition: 2, ..one.clone() },
            Original { offset: 1, ..one.clone() },
            Original { timestamp_ms: Some(4), ..one.clone() },
            Original { timestamp_ms: None, ..one.clone() },
        ];
        assert_eq!(one.id(), one.clone().id());
        assert!(others.iter().all(|other| other.id() != one.id()));
    }
}
