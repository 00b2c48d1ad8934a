//! Dead letters in the database: those that the dead-letter topic does not keep, and what was sent back.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::event::{PoisonReason, Timestamp};
use uuid::Uuid;

use crate::letter::{DeadLetter, Headers, Original};

/// Dead letters in a page at most.
pub(super) const PAGE_LETTERS: i64 = 200;
/// A page ends with the letter that makes it larger than so many bytes.
pub(super) const PAGE_BYTES: i64 = 4 * 1024 * 1024;

/// A dead letter that the database keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLetter {
    /// Its number, counted up.
    pub number: i64,
    /// What it is.
    pub letter: DeadLetter,
    /// When it was set aside.
    pub kept_at: Timestamp,
    /// How often it was sent back and came back.
    pub redrives: Redrives,
}

/// What is remembered of a dead letter that was sent back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redrives {
    /// Which dead letter.
    pub id: Uuid,
    /// How often it was sent back.
    pub sent: u32,
    /// The last of these times that it came back, still poison.
    pub returned: u32,
    /// Whether the database keeps it, wherever else it stands.
    pub kept: bool,
}

impl Redrives {
    /// Of a dead letter that was never sent back.
    #[must_use]
    pub fn none(id: Uuid) -> Self {
        Self { id, sent: 0, returned: 0, kept: false }
    }

    /// The how manieth time it is when it is sent back next. Whoever sent it last may have died before that was written down.
    #[must_use]
    pub fn next(&self) -> u32 {
        self.sent.max(self.returned).saturating_add(1)
    }

    /// Whether it was sent back and did not come back.
    #[must_use]
    pub fn is_redriven(&self) -> bool {
        self.sent > self.returned
    }
}

/// A dead letter that was sent back.
#[derive(Clone, Debug)]
pub struct Redriven {
    /// Where it first stood.
    pub original: Original,
    /// The how manieth time it is.
    pub number: u32,
}

/// Dead letters on their way into the database: each once, and nothing in them that a database could refuse.
pub(super) struct PendingLetters<'a>(Vec<(Uuid, &'a DeadLetter)>);

impl<'a> PendingLetters<'a> {
    pub(super) fn new(letters: &'a [DeadLetter]) -> Self {
        // By ascending id, as rows: sessions wait for each other in one order.
        let mut newest: BTreeMap<Uuid, &DeadLetter> = BTreeMap::new();
        for letter in letters {
            let known = newest.entry(letter.original.id()).or_insert(letter);
            if known.redrive < letter.redrive {
                *known = letter;
            }
        }
        Self(newest.into_iter().collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Uuid, &'a DeadLetter)> {
        self.0.iter().copied()
    }
}

/// A text that every database takes.
pub(super) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Headers as one run of bytes: of each the length of its name, its name, the length of its value or -1, its value.
pub(super) fn encode_headers(headers: &Headers) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |part: Option<&[u8]>| {
        let length = part.map_or(-1, |part| i64::try_from(part.len()).unwrap_or(i64::MAX));
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(part.unwrap_or_default());
    };
    for (name, value) in headers {
        put(Some(name));
        put(value.as_deref());
    }
    bytes
}

/// The opposite; what is no such run ends it.
pub(super) fn decode_headers(mut bytes: &[u8]) -> Headers {
    let mut take = || {
        let length = i64::from_be_bytes(*bytes.split_off(..8)?.first_chunk()?);
        let Ok(length) = usize::try_from(length) else { return Some(None) };
        Some(Some(bytes.split_off(..length)?.to_vec()))
    };
    let mut headers = Vec::new();
    while let (Some(Some(name)), Some(value)) = (take(), take()) {
        headers.push((name, value));
    }
    headers
}

/// A row's columns, the same in every database.
pub(super) struct Columns {
    pub number: i64,
    pub incarnation: String,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<u8>,
    pub reason: String,
    pub error: String,
    pub sent: i64,
    pub returned: i64,
}

impl Columns {
    pub(super) fn into_letter(self, kept_at: Timestamp) -> KeptLetter {
        let original = Original {
            incarnation: Arc::from(self.incarnation),
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
        };
        let count = |count: i64| u32::try_from(count).unwrap_or(0);
        let redrives =
            Redrives { id: original.id(), sent: count(self.sent), returned: count(self.returned), kept: true };
        let letter = DeadLetter {
            original,
            redrive: redrives.returned,
            key: self.key,
            value: self.value,
            headers: decode_headers(&self.headers),
            reason: PoisonReason::parse(&self.reason).unwrap_or(PoisonReason::RejectedByStore),
            error: self.error,
        };
        KeptLetter { number: self.number, letter, kept_at, redrives }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_every_kind_come_back_as_they_were() {
        let headers: Headers = vec![
            (b"caf\xe9".to_vec(), Some(b"\0\xff".to_vec())),
            (Vec::new(), None),
            (b"same".to_vec(), Some(Vec::new())),
            (b"same".to_vec(), Some(vec![7; 70_000])),
        ];
        assert_eq!(decode_headers(&encode_headers(&headers)), headers);
        assert!(encode_headers(&Vec::new()).is_empty());
        for garbage in [&b"\xff"[..], &[0; 8], &[0, 0, 0, 0, 0, 0, 0, 9, 1], &[0x7f; 16]] {
            assert!(decode_headers(garbage).is_empty());
        }
    }
}
