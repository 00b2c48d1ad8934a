//! What following the commits needs of a database.

use std::time::Duration;

use async_trait::async_trait;
use shared::commits::{Commit, CommitPosition};

use super::StoreError;

/// Commits of each partition that are forgotten at once, at most.
pub(super) const FORGOTTEN_MAX: i64 = 5_000;

/// Commits in the order of their times, as far as that leaves each partition's in its own: a clock may have been set back.
pub(super) fn in_order<T: Ord + Clone>(mut commits: Vec<(T, Commit)>) -> Vec<Commit> {
    commits.sort_by_key(|(_, commit)| (commit.partition, commit.number));
    for place in 1..commits.len() {
        let (before, rest) = commits.split_at_mut(place);
        if let (Some((earlier, one)), Some((time, other))) = (before.last(), rest.first_mut())
            && one.partition == other.partition
            && *time < *earlier
        {
            *time = earlier.clone();
        }
    }
    // It is a stable sort: what has the same time stays in its order.
    commits.sort_by(|(one, _), (other, _)| one.cmp(other));
    commits.into_iter().map(|(_, commit)| commit).collect()
}

/// What following the commits needs of it. They are written where purchases are recorded.
#[async_trait]
pub trait CommitLog: Send + Sync + 'static {
    /// The position after the newest commit of every partition.
    async fn last_commits(&self) -> Result<CommitPosition, StoreError>;

    /// The commits after a position, of each partition those with the next `limit` numbers, in the order of their times. Numbers have no
    /// gaps: one that is not there is forgotten, or was never given.
    async fn list_commits(&self, after: &CommitPosition, limit: u32) -> Result<Vec<Commit>, StoreError>;

    /// Forgets commits that are older, but for the newest of each partition. Gives how many.
    async fn forget_commits(&self, age: Duration) -> Result<u64, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_s_commits_stay_in_their_order_whatever_the_clock_does() {
        let commit = |partition, number| Commit { partition, number, purchase_ids: Vec::new(), userid_marks: None };
        let commits =
            vec![(9, commit(0, 1)), (4, commit(0, 2)), (10, commit(0, 3)), (5, commit(1, 1)), (9, commit(1, 2))];
        let order: Vec<_> = in_order(commits).iter().map(|commit| (commit.partition, commit.number)).collect();
        assert_eq!(order, [(1, 1), (0, 1), (0, 2), (1, 2), (0, 3)]);
    }
}
