//! Where a record came from, and its bytes, in case it must become a dead letter.

use std::sync::Arc;

use shared::event::{Poison, RecordPosition, Timestamp};
use shared::kafka::{ConsumedRecord, RecordHeader};

use crate::letter::{DeadLetter, Original, is_own_header};
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
    /// Where it first stood and how often it was sent back, if it is a dead letter that came back.
    returned: Option<Box<(Original, u32)>>,
    /// Where its key begins; its value and its headers follow.
    start: usize,
    key_bytes: Option<u32>,
    value_bytes: Option<u32>,
    headers: u32,
}

impl Origin {
    /// Copies a record's bytes behind `payloads`.
    pub(super) fn keep(record: &ConsumedRecord<'_>, sent_at: Timestamp, payloads: &mut Vec<u8>) -> Self {
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
            sent_at,
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

    /// What names the record: a dead letter sent back keeps its first place, so that sent twice it is one purchase.
    pub(super) fn position<'a>(&'a self, incarnation: &'a str) -> RecordPosition<'a> {
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

    /// The record as a dead letter, bytes untouched.
    pub(super) fn dead_letter(&self, incarnation: &Arc<str>, payloads: &[u8], poison: Poison) -> DeadLetter {
        let mut rest = &payloads[self.start..];
        let key = self.key_bytes.map(|bytes| cut(&mut rest, bytes));
        let value = self.value_bytes.map(|bytes| cut(&mut rest, bytes));
        let headers =
            (0..self.headers).map(|_| (cut_with_length(&mut rest).unwrap_or_default(), cut_with_length(&mut rest)));
        let headers: Vec<RecordHeader> = headers.filter(|(name, _)| !is_own_header(name)).collect();
        let place = Original {
            incarnation: Arc::clone(incarnation),
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
        };
        let returned = self.returned.as_deref().filter(|(_, redrive)| *redrive > 0).cloned();
        let (original, redrive) = returned.unwrap_or_else(|| (place.clone(), 0));
        DeadLetter { place, original, redrive, key, value, headers, reason: poison.reason, error: poison.error }
    }
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

fn cut(rest: &mut &[u8], bytes: u32) -> Vec<u8> {
    rest.split_off(..bytes as usize).unwrap_or_default().to_vec()
}

fn cut_with_length(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = rest.split_off(..4)?.first_chunk().copied().map(i32::from_ne_bytes)?;
    u32::try_from(length).ok().map(|length| cut(rest, length))
}
