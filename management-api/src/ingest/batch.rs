//! Records on their way from Kafka to one transaction.

mod origin;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use shared::api_keys::API_KEY_HEADER;
use shared::event::{Decoded, Poison, PoisonReason, Purchase, Timestamp};
use shared::kafka::ConsumedRecord;
use tokio::time::Instant;
use uuid::Uuid;

use self::origin::Origin;
use crate::letter::{DeadLetter, Sending};
use crate::planted::{self, Bug};
use crate::store::{Batch, OffsetMove};

/// Decoded records of one lane, with the bytes they came from in case one must become a dead letter.
#[derive(Default)]
pub struct PendingBatch {
    /// What the store is to write; its rows stand in the order of arrival.
    pub batch: Batch,
    /// Where each row came from, index by index.
    origins: Vec<Origin>,
    /// Records that can never be stored, and why.
    poison: Vec<(Origin, Poison)>,
    /// Keys, values and headers of all records, one after the other; shared by the parts of a batch that was cut.
    payloads: Arc<Vec<u8>>,
    /// What the dead letters will take, in bytes, beside the payloads.
    poison_bytes: usize,
    /// Whether some id was made of the record's place.
    ids_by_place: bool,
    /// Rows that stood in the batch before, with the same content.
    pub repeats: usize,
    /// When the first record was polled.
    pub began: Option<Instant>,
    /// Each partition's records in the batch.
    spans: Spans,
}

/// A batch's size.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    records: usize,
    bytes: usize,
}

/// Each partition's records in a batch.
pub type Spans = HashMap<i32, Span>;

/// From a partition's first record in a batch to its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first record's time, in milliseconds since 1970.
    pub oldest_ms: i64,
    /// The last one's.
    pub newest_ms: i64,
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
            batch: Batch {
                incarnation,
                rows: Vec::with_capacity(room.records),
                key_ids: Vec::with_capacity(room.records),
                ..Batch::default()
            },
            origins: Vec::with_capacity(room.records),
            payloads: Arc::new(Vec::with_capacity(room.bytes)),
            ..Self::default()
        }
    }

    /// How much it holds.
    #[must_use]
    pub fn room(&self) -> Room {
        Room { records: self.len(), bytes: self.bytes() }
    }

    /// Reads a record and adds it. `expected` is the partition's next offset before this batch, with its leader epoch.
    pub fn push(&mut self, record: &ConsumedRecord<'_>, expected: (i64, Option<i32>)) {
        let origin = Origin::keep(record, Arc::make_mut(&mut self.payloads));
        self.began.get_or_insert_with(Instant::now);
        self.advance(origin.step_from(expected));
        self.extend_span(origin.partition, origin.sent_at.millis());
        match origin.decode(&self.batch.incarnation, &self.payloads) {
            Ok(Decoded { purchase, id_by_place }) => {
                self.ids_by_place |= id_by_place;
                self.batch.rows.push(purchase);
                self.batch.key_ids.push(api_key(record));
                if planted::is(Bug::PricesSwapped) {
                    planted::swap_prices(&mut self.batch.rows);
                }
                self.origins.push(origin);
            }
            Err(poison) => {
                self.poison_bytes += origin.bytes(&self.payloads);
                self.poison.push((origin, poison));
            }
        }
    }

    /// What records say of themselves that say that they are dead letters which come back. Anybody can write such headers.
    pub fn claims(&self) -> Vec<Sending> {
        let origins = self.origins.iter().chain(self.poison.iter().map(|(origin, _)| origin));
        origins.filter_map(|origin| origin.claim(&self.payloads)).collect()
    }

    /// Of these claims, which are all of the batch in their order, those in `announced` are true; every other record is one of
    /// its own place, whatever its headers say.
    pub fn disown_all_but(&mut self, claims: &[Sending], announced: &HashSet<Sending>) {
        let Self { batch, origins, poison, payloads, .. } = self;
        let mut claims = claims.iter();
        let mut is_false =
            |origin: &Origin| origin.is_claimant() && claims.next().is_some_and(|claim| !announced.contains(claim));
        let mut rows: Vec<_> = batch.rows.iter_mut().zip(origins).filter(|(_, origin)| is_false(origin)).collect();
        for (origin, _) in poison.iter_mut().filter(|(origin, _)| is_false(origin)) {
            origin.disown();
        }
        for (row, origin) in &mut rows {
            origin.disown();
            // Its id may be made of its place, and its time is that of the record.
            if let Ok(Decoded { purchase, .. }) = origin.decode(&batch.incarnation, payloads) {
                **row = purchase;
            }
        }
    }

    /// Moves a partition past what will never be polled.
    pub fn pass(&mut self, step: OffsetMove) {
        self.began.get_or_insert_with(Instant::now);
        self.advance(step);
    }

    fn extend_span(&mut self, partition: i32, sent_at_ms: i64) {
        let first = Span { oldest_ms: sent_at_ms, newest_ms: sent_at_ms };
        self.spans.entry(partition).or_insert(first).newest_ms = sent_at_ms;
    }

    fn advance(&mut self, to: OffsetMove) {
        match self.batch.moves.iter_mut().find(|step| step.partition == to.partition) {
            Some(step) => (step.next, step.leader_epoch) = (to.next, to.leader_epoch),
            None => self.batch.moves.push(to),
        }
    }

    /// Whether a record can never be stored.
    #[must_use]
    pub fn has_poison(&self) -> bool {
        !self.poison.is_empty()
    }

    /// What can never be stored, bytes untouched.
    pub fn take_dead_letters(&mut self) -> Vec<DeadLetter> {
        let poison = std::mem::take(&mut self.poison).into_iter();
        poison.map(|(origin, why)| origin.dead_letter(&self.batch.incarnation, &self.payloads, why)).collect()
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

    /// Bytes held for keys, values and headers, and those that dead letters will take, each in memory of its own.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.payloads.len() + self.poison_bytes
    }

    /// Whether some id was made of the record's place in this life of the topic.
    #[must_use]
    pub fn has_ids_by_place(&self) -> bool {
        self.ids_by_place
    }

    /// The time of the oldest record of a partition, in milliseconds since 1970.
    #[must_use]
    pub fn oldest_ms(&self, partition: i32) -> Option<i64> {
        self.spans.get(&partition).map(|span| span.oldest_ms)
    }

    /// Each partition's records.
    #[must_use]
    pub fn spans(&self) -> &Spans {
        &self.spans
    }

    /// When each row's record was sent, for the delay from there to the commit.
    pub fn sent_at(&self) -> impl Iterator<Item = Timestamp> {
        self.origins.iter().map(|origin| origin.sent_at)
    }

    /// Leaves each id once in the batch: a repeat with the same content is dropped, another is a conflict. Which of them is the
    /// purchase is told by the first one, unless the id is in `stored`.
    ///
    /// # Errors
    /// When ids stand for several purchases, and nobody has looked yet what is stored for them; nothing is changed then.
    pub fn deduplicate(&mut self, stored: Option<&HashMap<Uuid, Purchase>>) -> Result<(), Vec<Uuid>> {
        let mut first: HashMap<Uuid, usize> = HashMap::with_capacity(self.batch.rows.len());
        let (mut repeats, mut conflicts) = (Vec::new(), Vec::new());
        for (index, row) in self.batch.rows.iter().enumerate() {
            if stored.and_then(|stored| stored.get(&row.purchase_id)).is_some_and(|stored| !stored.same_content(row)) {
                conflicts.push(index);
                continue;
            }
            let before = *first.entry(row.purchase_id).or_insert(index);
            if before != index && !planted::is(Bug::RepeatKept) {
                let same = self.batch.rows[before].same_content(row);
                if same { repeats.push(index) } else { conflicts.push(index) }
            }
        }
        if stored.is_none() && !conflicts.is_empty() {
            return Err(conflicts.into_iter().map(|index| self.batch.rows[index].purchase_id).collect());
        }
        self.repeats += repeats.len();
        for index in &conflicts {
            self.condemn_row(*index, conflict());
        }
        repeats.append(&mut conflicts);
        self.remove(&mut repeats);
        Ok(())
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
        self.batch.key_ids.clear();
        self.origins.clear();
    }

    fn condemn_row(&mut self, index: usize, poison: Poison) {
        self.poison.push((self.origins[index].clone(), poison));
    }

    fn remove(&mut self, indexes: &mut [usize]) {
        if indexes.is_empty() {
            return;
        }
        indexes.sort_unstable();
        keep_others(&mut self.batch.rows, indexes);
        if !planted::is(Bug::KeyLeftBehind) {
            keep_others(&mut self.batch.key_ids, indexes);
        }
        keep_others(&mut self.origins, indexes);
    }

    /// Cuts the batch in two by the order of arrival; the first moves each partition as far as its own rows go.
    #[must_use]
    pub fn split(mut self) -> (Self, Self) {
        let middle = self.batch.rows.len() / 2;
        let mut second = Self::new(Arc::clone(&self.batch.incarnation));
        second.batch.rows = self.batch.rows.split_off(middle);
        second.batch.key_ids = self.batch.key_ids.split_off(middle);
        second.batch.callback_lease = self.batch.callback_lease;
        second.origins = self.origins.split_off(middle);
        second.payloads = Arc::clone(&self.payloads);
        let mut moves = Vec::new();
        for step in std::mem::take(&mut self.batch.moves) {
            // Everything of a partition up to the first row of the second half is done with the first half.
            let cut = second.origins.iter().find(|origin| origin.partition == step.partition);
            let Some(cut) = cut.filter(|_| !planted::is(Bug::SplitMovesTooFar)) else {
                moves.push(step);
                continue;
            };
            // What stands before a record is of no newer leader, and whoever cuts it off later is one: its epoch is as good.
            let (next, leader_epoch) = (cut.offset, cut.leader_epoch);
            moves.push(OffsetMove { next, leader_epoch, ..step });
            second.batch.moves.push(OffsetMove { expected: next, expected_epoch: leader_epoch, ..step });
        }
        self.batch.moves = moves;
        (self, second)
    }
}

/// The key that a record's header names. What names none counts for nobody: anybody can write headers, and none of them stops
/// a purchase.
fn api_key(record: &ConsumedRecord<'_>) -> Option<Uuid> {
    record.header(API_KEY_HEADER)?.parse().ok()
}

/// Drops what stands at these indexes, which are in order.
fn keep_others<T>(all: &mut Vec<T>, indexes: &[usize]) {
    let mut places = 0..;
    all.retain(|_| places.next().is_some_and(|index| indexes.binary_search(&index).is_err()));
}

fn conflict() -> Poison {
    Poison {
        reason: PoisonReason::Conflict,
        error: "the purchase_id is recorded with another userid, username, price or callback_url".to_owned(),
    }
}
