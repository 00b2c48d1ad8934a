//! The database: one trait, PostgreSQL and SQLite behind it. SQL stands nowhere else.

mod config;
mod cursor;
mod dead_letters;
mod pending;
mod postgres;
mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;
use shared::event::{Purchase, PurchasePage, Timestamp, UserPurchases};
use uuid::Uuid;

use self::config::Backend;
pub use self::config::{DatabaseUrl, InvalidDatabaseUrl, StoreConfig};
pub use self::cursor::{Cursor, InvalidCursor};
pub use self::dead_letters::{KeptLetter, Redriven, Redrives};
use crate::letter::{DeadLetter, Sending};

/// The most purchases in one answer.
const PAGE_MAX: u32 = 1000;

/// The store that `config` names. Nothing is connected yet: the database may be away, now and at any later time.
#[must_use]
pub fn connect(config: &StoreConfig) -> Arc<dyn Store> {
    match &config.url.0 {
        Backend::Postgres(options) => Arc::new(postgres::PostgresStore::new(options, config)),
        Backend::Sqlite(options) => Arc::new(sqlite::SqliteStore::new(options, config)),
    }
}

/// What the service needs of a database. Every method is safe to repeat after an error.
#[async_trait]
pub trait Store: Send + Sync + 'static {
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

    /// Remembers what is about to be sent back, so that it is known when it comes back.
    async fn announce(&self, sendings: &[Sending]) -> Result<(), StoreError>;

    /// Those of `sendings` that were announced, in no particular order. For who records.
    async fn find_announced(&self, sendings: &[Sending]) -> Result<Vec<Sending>, StoreError>;

    /// Remembers that a dead letter was sent back.
    async fn mark_redriven(&self, redriven: &Redriven) -> Result<(), StoreError>;

    /// How many dead letters the database keeps that are not sent back.
    async fn count_dead_letters(&self) -> Result<u64, StoreError>;

    /// The stored purchases among `ids`, in no particular order. Serves waiters, whatever replica recorded.
    async fn find_purchases(&self, ids: &[Uuid]) -> Result<Vec<Purchase>, StoreError>;

    /// The same for who records: readers, however many, do not keep it waiting.
    async fn find_recorded(&self, ids: &[Uuid]) -> Result<Vec<Purchase>, StoreError> {
        self.find_purchases(ids).await
    }

    /// A user's newest purchases with the exact count and total of all of them, from one snapshot.
    async fn list_user_purchases(&self, userid: &str, limit: u32) -> Result<UserPurchases, StoreError>;

    /// One page of purchases, newest first; stable while rows arrive.
    async fn list_purchases(&self, query: &PageQuery) -> Result<PurchasePage, StoreError>;

    /// Whether the database answers and can do all that is asked of it, on a connection that nothing else waits for.
    async fn check(&self) -> Result<(), Unfit>;

    /// How many connections the pool holds now.
    fn connections(&self) -> Connections;

    /// Closes every connection.
    async fn close(&self);
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

/// What a committed batch changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Rows that were new.
    pub inserted: usize,
    /// Rows whose id was stored before, with the same content.
    pub duplicates: usize,
    /// The commit's time, stored with each new row.
    pub recorded_at: Timestamp,
}

/// Which page of purchases.
#[derive(Clone, Debug, Default)]
pub struct PageQuery {
    /// Only this user's.
    pub userid: Option<String>,
    /// At most so many, 1 to 1000.
    pub limit: u32,
    /// After this position.
    pub cursor: Option<Cursor>,
}

/// Connections of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Open and unused.
    pub idle: u32,
    /// In use.
    pub used: u32,
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

/// The database did not do what was asked; a repeat may succeed. The text is for logs, never for callers.
#[derive(Debug, thiserror::Error)]
#[error("database: {0}")]
pub struct StoreError(pub String);

/// Why the database cannot do its work now, in words for everybody: without hosts, users or SQL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub String);

impl From<StoreError> for Unfit {
    fn from(error: StoreError) -> Self {
        tracing::debug!(%error, "the database does not answer");
        Self("the database does not answer".to_owned())
    }
}

impl From<sqlx::Error> for Unfit {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}

/// A page from its purchases and the one after them, if there is one.
fn page(mut purchases: Vec<Purchase>, limit: u32) -> PurchasePage {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = purchases.len() > limit;
    purchases.truncate(limit);
    let next_cursor = purchases.last().filter(|_| more).map(|last| Cursor::after(last).to_string());
    PurchasePage { purchases, next_cursor }
}
