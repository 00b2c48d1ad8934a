//! The database: rows, offsets and dead letters that no topic took, moved by one transaction or not at all.

use crate::log::{Id, Kind, Log, Place, Record};
use crate::mutant::Mutant;
use crate::protocol::Protocol;

/// What is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Database {
    /// The next offset of the partition in each life of the topic.
    pub offsets: [Place; 2],
    /// Rows: each id with the record that it came from, by id.
    pub rows: Vec<(Id, Record)>,
    /// Records kept as dead letters, by number.
    pub kept: u8,
    /// Of the mutant that writes rows after the offset: what is still to be written.
    pub late: Vec<(Id, Record)>,
}

/// A record in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Held {
    /// Its number.
    pub record: Record,
    /// Its place: its own offset and epoch.
    pub place: Place,
    /// What is to become of it.
    pub fate: Fate,
}

/// What is to become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// A row.
    Row,
    /// A repeat within the batch: nothing.
    Dropped,
    /// A dead letter, not confirmed yet.
    Condemned,
    /// A dead letter that its topic has.
    Confirmed,
    /// A dead letter that its topic refused: kept in the database by the transaction.
    Refused,
}

/// Records with the offset that moves with them; what one transaction writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    /// The life of the topic that the offsets belong to.
    pub incarnation: u8,
    /// What the database must hold.
    pub expected: Place,
    /// What it holds afterwards.
    pub next: Place,
    /// What was read.
    pub records: Vec<Held>,
}

/// What the database answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Committed.
    Recorded,
    /// The offset is not the expected one; nothing was changed.
    Fenced,
    /// These records' ids are stored with other content; nothing was changed.
    Conflict(Vec<Record>),
    /// A row is refused; nothing was changed.
    Rejected,
}

impl Held {
    /// The place behind the record.
    pub fn after(self) -> Place {
        Place { offset: self.place.offset + 1, epoch: self.place.epoch }
    }
}

impl Part {
    /// Its rows.
    pub fn rows(&self) -> impl Iterator<Item = &Held> {
        self.records.iter().filter(|held| held.fate == Fate::Row)
    }
}

impl Database {
    /// The next offset in a life of the topic.
    pub fn next_offset(&self, incarnation: u8, protocol: &Protocol) -> Place {
        self.offsets[protocol.life(incarnation)]
    }

    /// One transaction: compare-and-set of the offset, rows, dead letters.
    pub fn record(&mut self, part: &Part, protocol: &Protocol) -> Answer {
        let life = protocol.life(part.incarnation);
        let stored = self.offsets[life];
        let same = match protocol.mutant {
            Some(Mutant::FenceDropped) => true,
            Some(Mutant::EpochNotCompared) => stored.offset == part.expected.offset,
            _ => stored == part.expected,
        };
        if !same {
            return Answer::Fenced;
        }
        if part.rows().any(|held| protocol.kind(held.record) == Kind::Rejected) {
            return Answer::Rejected;
        }
        let rows: Vec<_> = part.rows().map(|held| (protocol.id(part.incarnation, *held), held.record)).collect();
        let conflicts: Vec<Record> =
            rows.iter().filter(|row| self.conflicts(**row, protocol)).map(|row| row.1).collect();
        if !conflicts.is_empty() {
            return Answer::Conflict(conflicts);
        }
        self.offsets[life] = part.next;
        for held in part.records.iter().filter(|held| held.fate == Fate::Refused) {
            self.kept |= 1 << held.record;
        }
        if protocol.is(Mutant::OffsetOutsideTransaction) {
            self.late.extend(rows);
        } else {
            self.insert(rows);
        }
        Answer::Recorded
    }

    /// Inserts rows whose id is not there yet.
    pub fn insert(&mut self, rows: Vec<(Id, Record)>) {
        for row in rows {
            if let Err(at) = self.rows.binary_search_by_key(&row.0, |row| row.0) {
                self.rows.insert(at, row);
            }
        }
    }

    fn conflicts(&self, (id, record): (Id, Record), protocol: &Protocol) -> bool {
        let stored = self.rows.iter().find(|row| row.0 == id);
        stored.is_some_and(|(_, stored)| protocol.purchase(*stored) != protocol.purchase(record))
    }

    /// Whether a record is a row, or stands for the purchase of one.
    pub fn has_row_of(&self, record: Record, protocol: &Protocol) -> bool {
        self.rows.iter().any(|(_, stored)| protocol.purchase(*stored) == protocol.purchase(record))
    }

    /// How far the log is recorded, by what is stored.
    pub fn reached(&self, log: &Log) -> u8 {
        log.validate(self.offsets[usize::from(log.incarnation)])
    }
}
