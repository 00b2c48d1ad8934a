//! What recording needs of a database.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shared::event::{Purchase, Timestamp};
use uuid::Uuid;

use super::{CallbackBatch, StoreError};
use crate::letter::{DeadLetter, Sending};

/// What recording needs of a database.
#[async_trait]
pub trait Recording: Send + Sync + 'static {
    /// Brings the tables up to date, and makes the database's file where it is one. Several replicas may do so at once.
    async fn migrate(&self) -> Result<(), StoreError>;

    /// Writes rows, per-user totals and next offsets in one transaction, or nothing at all.
    ///
    /// # Errors
    /// See [`RecordError`]. The database is as it was before, except that after `Unavailable` the batch may have been
    /// recorded and only the answer lost: its repeat is then `Fenced`.
    async fn record(&self, batch: &Batch) -> Result<Recorded, RecordError>;

    /// The next offset to record of each partition of this incarnation of the topic; 0 where none was stored yet.
    async fn next_offsets(&self, incarnation: &str, partitions: &[i32]) -> Result<Vec<PartitionOffset>, StoreError>;

    /// The stored purchases among `ids`, in no particular order. Readers, however many, do not keep it waiting.
    async fn find_recorded(&self, ids: &[Uuid]) -> Result<Vec<Purchase>, StoreError>;

    /// Those of `sendings` that were announced, in no particular order.
    async fn find_announced(&self, sendings: &[Sending]) -> Result<Vec<Sending>, StoreError>;
}

/// Decoded records of several partitions with the offsets that move with them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Which topic, in which life: stored offsets of another incarnation mean nothing.
    pub incarnation: Arc<str>,
    /// One for each partition in the batch.
    pub moves: Vec<OffsetMove>,
    /// The purchases, each id once.
    pub rows: Vec<Purchase>,
    /// The API key that bought each of them, if one did, index by index: what is newly recorded is counted. Empty where none has
    /// bought anything.
    pub key_ids: Vec<Option<Uuid>>,
    /// For how long what is recorded here is also called back from here, before others may take it over.
    pub callback_lease: Duration,
    /// Dead letters that the dead-letter topic does not keep.
    pub dead_letters: Vec<DeadLetter>,
}

/// A partition's step from one next offset to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetMove {
    /// The partition.
    pub partition: i32,
    /// What the database must hold now; anything else means that someone else owns the partition.
    pub expected: i64,
    /// The leader epoch that is stored with that, if it is known. Another one means that the offset is of another history of
    /// the log, though the number is the same.
    pub expected_epoch: Option<i32>,
    /// What it holds afterwards: the last offset of the batch + 1. Less than expected, when the log was cut.
    pub next: i64,
    /// The leader epoch of the record before `next`, if it is known.
    pub leader_epoch: Option<i32>,
}

/// A partition and its next offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionOffset {
    /// The partition.
    pub partition: i32,
    /// The first offset not yet recorded.
    pub next_offset: i64,
    /// The leader epoch of the record before it, if it is known.
    pub leader_epoch: Option<i32>,
}

/// What a committed batch changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Rows that were new.
    pub inserted: usize,
    /// Rows whose id was stored before, with the same content.
    pub duplicates: usize,
    /// The commit's time, stored with each new row.
    pub recorded_at: Timestamp,
    /// The outbox's new rows: new purchases whose buyers are to be called back.
    pub callbacks: Vec<CallbackBatch>,
}

/// Why a batch was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// An expected offset was not there: another replica owns the partition now. Drop the batch, read the offsets again.
    #[error("another consumer has moved the offsets")]
    Fenced,
    /// These rows (indexes into `Batch::rows`) carry an id that is stored with other content.
    #[error("{} purchases use an id that is stored with other content", .0.len())]
    Conflict(Vec<usize>),
    /// The database refuses some row of the batch for what it holds; bisect to find it.
    #[error("the database refuses a row: {0}")]
    Rejected(String),
    /// The database is away, full, or too slow: try again.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}
