//! A record as the consumer gives it.

use std::str;

use crate::kafka::sys::FetchedRecord;

/// A header: its name and its value, bytes both. Names are UTF-8 by convention only.
pub type RecordHeader = (Vec<u8>, Option<Vec<u8>>);

/// A record as read: borrowed from the client, or owned where no client is.
pub struct ConsumedRecord<'a>(Source<'a>);

enum Source<'a> {
    Fetched(FetchedRecord<'a>),
    Owned(Box<OwnedRecord>),
}

/// A record in memory of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedRecord {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Which leader of the partition wrote it, counted from the partition's beginning.
    pub leader_epoch: Option<i32>,
    /// Milliseconds since 1970, if the record has a time.
    pub timestamp_ms: Option<i64>,
    /// The key, if any.
    pub key: Option<Vec<u8>>,
    /// The value; nothing is a tombstone.
    pub value: Option<Vec<u8>>,
    /// All headers, in order.
    pub headers: Vec<RecordHeader>,
}

impl From<OwnedRecord> for ConsumedRecord<'static> {
    fn from(record: OwnedRecord) -> Self {
        Self(Source::Owned(Box::new(record)))
    }
}

impl<'a> ConsumedRecord<'a> {
    pub(in crate::kafka) fn new(record: FetchedRecord<'a>) -> Self {
        Self(Source::Fetched(record))
    }
}

impl ConsumedRecord<'_> {
    /// The partition.
    pub fn partition(&self) -> i32 {
        match &self.0 {
            Source::Fetched(record) => record.partition(),
            Source::Owned(record) => record.partition,
        }
    }

    /// The offset.
    pub fn offset(&self) -> i64 {
        match &self.0 {
            Source::Fetched(record) => record.offset(),
            Source::Owned(record) => record.offset,
        }
    }

    /// Which leader of the partition wrote it, counted from the partition's beginning; old formats do not tell.
    pub fn leader_epoch(&self) -> Option<i32> {
        match &self.0 {
            Source::Fetched(record) => record.leader_epoch(),
            Source::Owned(record) => record.leader_epoch,
        }
    }

    /// Milliseconds since 1970, if the record has a time.
    pub fn timestamp_ms(&self) -> Option<i64> {
        match &self.0 {
            Source::Fetched(record) => record.timestamp_ms(),
            Source::Owned(record) => record.timestamp_ms,
        }
    }

    /// The key, if any.
    pub fn key(&self) -> Option<&[u8]> {
        match &self.0 {
            Source::Fetched(record) => record.key(),
            Source::Owned(record) => record.key.as_deref(),
        }
    }

    /// The value; nothing is a tombstone.
    pub fn value(&self) -> Option<&[u8]> {
        match &self.0 {
            Source::Fetched(record) => record.value(),
            Source::Owned(record) => record.value.as_deref(),
        }
    }

    /// A header's text, the last one of that name; nothing if it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.borrowed_headers().filter(|(other, _)| *other == name.as_bytes()).last()?;
        str::from_utf8(found.1?).ok()
    }

    /// All headers, in order.
    pub fn headers(&self) -> Vec<RecordHeader> {
        self.borrowed_headers().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect()
    }

    /// All of it, in memory of its own.
    #[must_use]
    pub fn to_owned(&self) -> OwnedRecord {
        OwnedRecord {
            partition: self.partition(),
            offset: self.offset(),
            leader_epoch: self.leader_epoch(),
            timestamp_ms: self.timestamp_ms(),
            key: self.key().map(<[u8]>::to_vec),
            value: self.value().map(<[u8]>::to_vec),
            headers: self.headers(),
        }
    }

    /// Shows every header, in order, without a copy.
    pub fn for_each_header(&self, mut each: impl FnMut(&[u8], Option<&[u8]>)) {
        self.borrowed_headers().for_each(|(name, value)| each(name, value));
    }

    fn borrowed_headers(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        (0..).map_while(|index| match &self.0 {
            Source::Fetched(record) => record.header(index),
            Source::Owned(record) => record.headers.get(index).map(|(name, value)| (name.as_slice(), value.as_deref())),
        })
    }
}
