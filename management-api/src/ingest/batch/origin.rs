//! Where a record came from, and its bytes, in case it must become a dead letter.

use std::sync::Arc;

use shared::event::{Decoded, Poison, RecordPosition, Timestamp, decode_record};
use shared::kafka::{ConsumedRecord, HeaderRef, RecordHeader};

use crate::letter::{DeadLetter, Original, Sending, is_own_header};
use crate::store::OffsetMove;

/// Where a record stood in Kafka, and where its bytes are in the batch's payloads. Kept small: tens of thousands are held.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Which leader wrote it, if that is known.
    pub(super) leader_epoch: Option<i32>,
    /// The record's time, in milliseconds since 1970, if it has one.
    timestamp_ms: Option<i64>,
    /// The same, or when it was read.
    pub(super) sent_at: Timestamp,
    /// Where it says that it first stood and how often it was sent back, if it says that it is a dead letter that comes back.
    returned: Option<Box<(Original, u32)>>,
    /// Where its key begins; its value and its headers follow.
    start: usize,
    key_bytes: Option<u32>,
    value_bytes: Option<u32>,
    headers: u32,
}

impl Origin {
    /// Copies a record's bytes behind `payloads`.
    pub(super) fn keep(record: &ConsumedRecord<'_>, payloads: &mut Vec<u8>) -> Self {
        let start = payloads.len();
        let key_bytes = record.key().map(|key| append(payloads, key));
        let value_bytes = record.value().map(|value| append(payloads, value));
        let mut headers = 0;
        record.for_each_header(|name, value| {
            append_with_length(payloads, Some(name));
            append_with_length(payloads, value);
            headers += 1;
        });
        Self {
            partition: record.partition(),
            offset: record.offset(),
            leader_epoch: record.leader_epoch(),
            timestamp_ms: record.timestamp_ms(),
            sent_at: record.timestamp_ms().and_then(Timestamp::from_millis).unwrap_or_else(Timestamp::now),
            returned: Original::of_returned(record).map(Box::new),
            start,
            key_bytes,
            value_bytes,
            headers,
        }
    }

    /// The partition's step to behind it.
    pub(super) fn step_from(&self, (expected, expected_epoch): (i64, Option<i32>)) -> OffsetMove {
        let (partition, next, leader_epoch) = (self.partition, self.offset + 1, self.leader_epoch);
        OffsetMove { partition, expected, expected_epoch, next, leader_epoch }
    }

    /// The purchase that the record brings, or why it brings none.
    pub(super) fn decode(&self, incarnation: &str, payloads: &[u8]) -> Result<Decoded, Poison> {
        let position = self.position(incarnation);
        let time = position.timestamp_ms.and_then(Timestamp::from_millis).unwrap_or(self.sent_at);
        decode_record(self.content(payloads).value, position, time)
    }

    /// What names the record: a dead letter sent back keeps its first place, so that sent twice it is one purchase.
    fn position<'a>(&'a self, incarnation: &'a str) -> RecordPosition<'a> {
        match self.returned.as_deref() {
            None => RecordPosition {
                incarnation,
                partition: self.partition,
                offset: self.offset,
                timestamp_ms: self.timestamp_ms,
            },
            Some((original, _)) => RecordPosition {
                incarnation: &original.incarnation,
                partition: original.partition,
                offset: original.offset,
                timestamp_ms: original.timestamp_ms,
            },
        }
    }

    /// Whether it says that it was sent back.
    pub(super) fn is_claimant(&self) -> bool {
        self.returned.is_some()
    }

    /// What it says of itself, if it says that it was sent back.
    pub(super) fn claim(&self, payloads: &[u8]) -> Option<Sending> {
        let (original, _) = self.returned.as_deref()?;
        let Content { key, value, headers } = self.content(payloads);
        Some(Sending::new(original.id(), key, value, headers))
    }

    /// It is another record, whatever its headers say.
    pub(super) fn disown(&mut self) {
        self.returned = None;
    }

    /// What it takes as a dead letter.
    pub(super) fn bytes(&self, payloads: &[u8]) -> usize {
        let Content { key, value, headers } = self.content(payloads);
        let headers =
            headers.map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len) + size_of::<RecordHeader>());
        headers.sum::<usize>() + [key, value].into_iter().flatten().map(<[u8]>::len).sum::<usize>()
    }

    /// The record as a dead letter, bytes untouched.
    pub(super) fn dead_letter(self, incarnation: &Arc<str>, payloads: &[u8], poison: Poison) -> DeadLetter {
        let Content { key, value, headers } = self.content(payloads);
        let headers = headers.filter(|(name, _)| !is_own_header(name));
        let headers = headers.map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect();
        let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
        let Self { partition, offset, timestamp_ms, .. } = self;
        let place = || Original { incarnation: Arc::clone(incarnation), partition, offset, timestamp_ms };
        let (original, redrive) = self.returned.map_or_else(|| (place(), 0), |returned| *returned);
        DeadLetter { original, redrive, key, value, headers, reason: poison.reason, error: poison.error }
    }

    fn content<'a>(&self, payloads: &'a [u8]) -> Content<'a, impl Iterator<Item = HeaderRef<'a>> + use<'a>> {
        let mut rest = payloads.get(self.start..).unwrap_or_default();
        let mut part = |bytes: Option<u32>| bytes.map(|bytes| cut(&mut rest, bytes));
        let (key, value) = (part(self.key_bytes), part(self.value_bytes));
        let headers = (0..self.headers)
            .map(move |_| (cut_with_length(&mut rest).unwrap_or_default(), cut_with_length(&mut rest)));
        Content { key, value, headers }
    }
}

/// A record's bytes.
struct Content<'a, H> {
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: H,
}

fn append(payloads: &mut Vec<u8>, bytes: &[u8]) -> u32 {
    payloads.extend_from_slice(bytes);
    // A record is far smaller than 4 GiB: Kafka's own length of a message is 31 bits.
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// The length is written before the bytes; -1 for none.
fn append_with_length(payloads: &mut Vec<u8>, bytes: Option<&[u8]>) {
    let length = bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    payloads.extend_from_slice(&length.to_ne_bytes());
    payloads.extend_from_slice(bytes.unwrap_or_default());
}

fn cut<'a>(rest: &mut &'a [u8], bytes: u32) -> &'a [u8] {
    rest.split_off(..bytes as usize).unwrap_or_default()
}

fn cut_with_length<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = rest.split_off(..4)?.first_chunk().copied().map(i32::from_ne_bytes)?;
    u32::try_from(length).ok().map(|length| cut(rest, length))
}
