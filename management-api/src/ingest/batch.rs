//! Records on their way from Kafka to one transaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use shared::event::{Decoded, Poison, PoisonReason, RecordPosition, Timestamp, decode_record};
use shared::kafka::ConsumedRecord;

use crate::dead_letters::{DeadLetter, Original};
use crate::store::{Batch, OffsetMove};

/// Decoded records of one lane, with the bytes they came from in case one must become a dead letter.
#[derive(Default)]
pub struct PendingBatch {
    /// What the store is to write; its rows stand in the order of arrival.
    pub batch: Batch,
    /// Where each row came from, index by index.
    origins: Vec<Origin>,
    /// Records that can never be stored.
    pub poison: Vec<DeadLetter>,
    /// Keys and values of all records, one after the other.
    payloads: Vec<u8>,
    /// Whether some id was made of the record's place.
    ids_by_place: bool,
    /// Rows that stood in the batch before, with the same content.
    pub repeats: usize,
    /// When the first record was polled.
    pub began: Option<Instant>,
    /// Each partition's record times in the batch.
    times: RecordTimes,
}

/// A batch's size.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    records: usize,
    bytes: usize,
}

/// Each partition's oldest and newest record time, in milliseconds since 1970.
pub type RecordTimes = HashMap<i32, TimeSpan>;

/// From the oldest record to the newest, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeSpan {
    /// The first record read.
    pub oldest_ms: i64,
    /// The last one.
    pub newest_ms: i64,
}

/// Where a record stood in Kafka, and its bytes in the batch's payloads. Kept small: tens of thousands are held.
#[derive(Clone, Debug)]
struct Origin {
    partition: i32,
    offset: i64,
    /// Where it first stood, if it is a dead letter that was sent back.
    first: Option<Box<(Original, u32)>>,
    sent_at: Timestamp,
    /// Its own time, if it has one.
    timestamp_ms: Option<i64>,
    /// Where its key begins; its value follows.
    start: usize,
    key_bytes: Option<u32>,
    value_bytes: Option<u32>,
}

impl PendingBatch {
    /// An empty batch of this incarnation of the topic.
    #[must_use]
    pub fn new(incarnation: Arc<str>) -> Self {
        Self::with_room(incarnation, Room::default())
    }

    /// The same with room for as much as a batch before it had: buffers that grow step by step leave gaps in memory.
    #[must_use]
    pub fn with_room(incarnation: Arc<str>, room: Room) -> Self {
        Self {
            batch: Batch { incarnation, rows: Vec::with_capacity(room.records), ..Batch::default() },
            origins: Vec::with_capacity(room.records),
            payloads: Vec::with_capacity(room.bytes),
            ..Self::default()
        }
    }

    /// How much it holds.
    #[must_use]
    pub fn room(&self) -> Room {
        Room { records: self.len(), bytes: self.bytes() }
    }

    /// Decodes a record and adds it. `expected` is the partition's next offset before this batch.
    pub fn push(&mut self, record: &ConsumedRecord<'_>, expected: i64) {
        // A dead letter sent back keeps its first position and time, so that sent twice it is still one purchase.
        let first = Original::of_returned(record).map(Box::new);
        let timestamp_ms =
            first.as_deref().map_or_else(|| record.timestamp_ms(), |(original, _)| original.timestamp_ms);
        let sent_at = timestamp_ms.and_then(Timestamp::from_millis).unwrap_or_else(Timestamp::now);
        let position = first.as_deref().map_or_else(|| self.position(record), |(original, _)| position_of(original));
        let decoded = decode_record(record.value(), position, sent_at);
        let origin = Origin {
            partition: record.partition(),
            offset: record.offset(),
            first,
            sent_at,
            timestamp_ms,
            start: self.payloads.len(),
            key_bytes: record.key().map(|key| self.keep(key)),
            value_bytes: record.value().map(|value| self.keep(value)),
        };
        self.began.get_or_insert_with(Instant::now);
        let now = sent_at.millis();
        self.times.entry(origin.partition).or_insert(TimeSpan { oldest_ms: now, newest_ms: now }).newest_ms = now;
        self.advance(origin.partition, expected, origin.offset + 1);
        match decoded {
            Ok(Decoded { purchase, id_by_place }) => {
                self.ids_by_place |= id_by_place;
                self.batch.rows.push(purchase);
                self.origins.push(origin);
            }
            Err(poison) => self.condemn(&origin, poison),
        }
    }

    fn position(&self, record: &ConsumedRecord<'_>) -> RecordPosition<'_> {
        let (partition, offset) = (record.partition(), record.offset());
        RecordPosition { incarnation: &self.batch.incarnation, partition, offset }
    }

    fn keep(&mut self, bytes: &[u8]) -> u32 {
        self.payloads.extend_from_slice(bytes);
        // A record is far smaller than 4 GiB: Kafka's own length of a message is 31 bits.
        u32::try_from(bytes.len()).unwrap_or(u32::MAX)
    }

    fn advance(&mut self, partition: i32, expected: i64, next: i64) {
        match self.batch.moves.iter_mut().find(|step| step.partition == partition) {
            Some(step) => step.next = next,
            None => self.batch.moves.push(OffsetMove { partition, expected, next, leader_epoch: None }),
        }
    }

    fn condemn(&mut self, origin: &Origin, poison: Poison) {
        let mut rest = &self.payloads[origin.start..];
        let mut cut = |bytes: u32| rest.split_off(..bytes as usize).unwrap_or_default().to_vec();
        let (key, value) = (origin.key_bytes.map(&mut cut), origin.value_bytes.map(&mut cut));
        let (original, redrive) = origin.first.as_deref().cloned().unwrap_or_else(|| {
            let (incarnation, timestamp_ms) = (Arc::clone(&self.batch.incarnation), origin.timestamp_ms);
            (Original { incarnation, partition: origin.partition, offset: origin.offset, timestamp_ms }, 0)
        });
        let (reason, error) = (poison.reason, poison.error);
        self.poison.push(DeadLetter { original, redrive, key, value, headers: Vec::new(), reason, error });
    }

    /// Whether nothing was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.moves.is_empty()
    }

    /// Records read, of any kind.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.rows.len() + self.poison.len()
    }

    /// Bytes held for keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.payloads.len()
    }

    /// Whether some id was made of the record's place in this life of the topic.
    #[must_use]
    pub fn has_ids_by_place(&self) -> bool {
        self.ids_by_place
    }

    /// The time of the oldest record of a partition, in milliseconds since 1970.
    #[must_use]
    pub fn oldest_ms(&self, partition: i32) -> Option<i64> {
        self.times.get(&partition).map(|span| span.oldest_ms)
    }

    /// The record times of each partition.
    #[must_use]
    pub fn times(&self) -> &RecordTimes {
        &self.times
    }

    /// When each row's record was sent, for the delay from there to the commit.
    pub fn sent_at(&self) -> impl Iterator<Item = Timestamp> {
        self.origins.iter().map(|origin| origin.sent_at)
    }

    /// Leaves each id once in the batch: a repeat with the same content is dropped, another is a conflict.
    pub fn deduplicate(&mut self) {
        let mut first: HashMap<uuid::Uuid, usize> = HashMap::with_capacity(self.batch.rows.len());
        let mut repeats = Vec::new();
        let mut conflicts = Vec::new();
        for (index, row) in self.batch.rows.iter().enumerate() {
            let before = *first.entry(row.purchase_id).or_insert(index);
            if before != index {
                let same = self.batch.rows[before].same_content(row);
                if same { repeats.push(index) } else { conflicts.push(index) }
            }
        }
        self.repeats += repeats.len();
        for index in &conflicts {
            self.condemn_row(*index, conflict());
        }
        repeats.append(&mut conflicts);
        self.remove(&mut repeats);
    }

    /// Turns rows whose id is stored with other content into dead letters.
    pub fn condemn_conflicts(&mut self, mut indexes: Vec<usize>) {
        for index in &indexes {
            self.condemn_row(*index, conflict());
        }
        self.remove(&mut indexes);
    }

    /// Turns the batch's one row into a dead letter, because the database refuses it.
    pub fn condemn_rejected(&mut self, error: &str) {
        for index in 0..self.batch.rows.len() {
            self.condemn_row(index, Poison { reason: PoisonReason::RejectedByStore, error: error.to_owned() });
        }
        self.batch.rows.clear();
        self.origins.clear();
    }

    fn condemn_row(&mut self, index: usize, poison: Poison) {
        let origin = self.origins[index].clone();
        self.condemn(&origin, poison);
    }

    fn remove(&mut self, indexes: &mut [usize]) {
        if indexes.is_empty() {
            return;
        }
        indexes.sort_unstable();
        let mut all = 0..;
        self.batch.rows.retain(|_| all.next().is_some_and(|index| indexes.binary_search(&index).is_err()));
        let mut all = 0..;
        self.origins.retain(|_| all.next().is_some_and(|index| indexes.binary_search(&index).is_err()));
    }

    /// Cuts the batch in two by the order of arrival; the first moves each partition as far as its own rows go.
    #[must_use]
    pub fn split(mut self) -> (Self, Self) {
        let middle = self.batch.rows.len() / 2;
        let mut second = Self::new(Arc::clone(&self.batch.incarnation));
        second.batch.rows = self.batch.rows.split_off(middle);
        second.origins = self.origins.split_off(middle);
        second.payloads.clone_from(&self.payloads);
        let mut moves = Vec::new();
        for step in std::mem::take(&mut self.batch.moves) {
            // Everything of a partition up to the first row of the second half is done with the first half.
            let cut = second.origins.iter().find(|origin| origin.partition == step.partition);
            let cut = cut.map_or(step.next, |origin| origin.offset);
            if cut > step.expected {
                moves.push(OffsetMove { next: cut, ..step });
            }
            if step.next > cut {
                second.batch.moves.push(OffsetMove { expected: cut.max(step.expected), ..step });
            }
        }
        self.batch.moves = moves;
        (self, second)
    }
}

fn conflict() -> Poison {
    Poison {
        reason: PoisonReason::Conflict,
        error: "the purchase_id is recorded with another userid, username or price".to_owned(),
    }
}

fn position_of(original: &Original) -> RecordPosition<'_> {
    RecordPosition { incarnation: &original.incarnation, partition: original.partition, offset: original.offset }
}
