//! Kafka: the topic's log, in lives and leader epochs, and what its records are.

/// Records that there can be, in all lives and histories of the log.
pub const RECORDS: usize = 5;
/// A record's number; no two records of any life or history share one.
pub type Record = u8;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A purchase whose id is made of the record's place.
    ByPlace,
    /// A purchase with an id of its own.
    Own,
    /// The same purchase as record 0.
    Repeat,
    /// Other content under the id of record 0.
    Conflict,
    /// Cannot be decoded.
    Poison,
    /// The database refuses its row.
    Rejected,
}

/// A purchase's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    /// Made of a place: life of the topic, leader epoch, offset.
    Place(u8, u8, u8),
    /// The record says it.
    Given(u8),
}

/// An offset with the leader epoch of the record before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The next offset.
    pub offset: u8,
    /// The epoch in which the record before it was written.
    pub epoch: u8,
}

/// The partition as the broker has it now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    /// Which life of the topic.
    pub incarnation: u8,
    /// Each record and the leader epoch in which it was written.
    pub records: Vec<(Record, u8)>,
}

impl Log {
    /// The first life, with so many records.
    pub fn new(records: u8) -> Self {
        Self { incarnation: 0, records: (0..records).map(|record| (record, 0)).collect() }
    }

    /// The next offset.
    pub fn end(&self) -> u8 {
        u8::try_from(self.records.len()).unwrap_or(u8::MAX)
    }

    /// Where this history parts from one in which `place` was reached: the first offset to read.
    pub fn validate(&self, place: Place) -> u8 {
        let newer = self.records.iter().position(|(_, epoch)| *epoch > place.epoch);
        let end_of_epoch = newer.and_then(|offset| u8::try_from(offset).ok()).unwrap_or(self.end());
        place.offset.min(end_of_epoch)
    }

    /// The topic is deleted and made again, with other records.
    pub fn make_anew(&mut self) {
        *self = Self { incarnation: self.incarnation + 1, records: vec![(3, 0), (4, 0)] };
    }

    /// A broker loses all but the first record, and the log grows again, further than it was before.
    pub fn cut(&mut self) {
        self.records.truncate(1);
        self.records.extend([(3, 1), (4, 1)]);
    }
}
