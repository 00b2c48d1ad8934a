//! What following the commits needs of a database.

use std::time::Duration;

use async_trait::async_trait;
use shared::commits::{Commit, CommitPosition};

use super::StoreError;

/// What following the commits needs of it. They are written where purchases are recorded.
#[async_trait]
pub trait CommitLog: Send + Sync + 'static {
    /// The position after the newest commit of every partition.
    async fn last_commits(&self) -> Result<CommitPosition, StoreError>;

    /// The next commits after a position, of each partition its first `limit` in their order. If what comes first does not come
    /// just after the position, then that is no longer there.
    async fn list_commits(&self, after: &CommitPosition, limit: u32) -> Result<Vec<Commit>, StoreError>;

    /// Forgets commits that are older, but for the newest of each partition. Gives how many.
    async fn forget_commits(&self, age: Duration) -> Result<u64, StoreError>;
}
