//! What operators need of a database.

use async_trait::async_trait;
use shared::event::Timestamp;
use uuid::Uuid;

use super::{KeptLetter, OffsetMove, RecordError, Redriven, Redrives, StoreError};
use crate::letter::{DeadLetter, Sending};

/// What operators need of it: dead letters and what nobody can read.
#[async_trait]
pub trait Mending: Send + Sync + 'static {
    /// Steps over records that cannot be read: moves the partition's next offset and writes down what was skipped and why,
    /// in one transaction.
    ///
    /// # Errors
    /// `Fenced` when the database holds another next offset than the expected one.
    async fn skip(&self, incarnation: &str, step: &OffsetMove, reason: &str) -> Result<(), RecordError>;

    /// What was ever skipped, the newest first.
    async fn list_skipped(&self) -> Result<Vec<Skipped>, StoreError>;

    /// A page of the dead letters that the database keeps, by ascending number from the one after `after`. It ends before
    /// it outgrows memory.
    async fn list_dead_letters(&self, after: i64) -> Result<Vec<KeptLetter>, StoreError>;

    /// What the database remembers of these dead letters, in no particular order, wherever they are kept.
    async fn find_redrives(&self, ids: &[Uuid]) -> Result<Vec<Redrives>, StoreError>;

    /// Keeps a dead letter, unless it is kept already.
    async fn keep(&self, letter: &DeadLetter) -> Result<(), StoreError>;

    /// Remembers what is about to be sent back, so that it is known when it comes back.
    async fn announce(&self, sendings: &[Sending]) -> Result<(), StoreError>;

    /// Remembers that dead letters were sent back.
    async fn mark_redriven(&self, redriven: &[Redriven]) -> Result<(), StoreError>;

    /// How many dead letters the database keeps that are not sent back.
    async fn count_dead_letters(&self) -> Result<u64, StoreError>;
}

/// Records that were stepped over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The life of the topic.
    pub incarnation: String,
    /// The partition.
    pub partition: i32,
    /// The first offset that was skipped.
    pub from_offset: i64,
    /// The first one that was not.
    pub to_offset: i64,
    /// Why.
    pub reason: String,
    /// When.
    pub skipped_at: Timestamp,
}
