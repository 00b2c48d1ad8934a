//! The newest commits, in memory.

use std::collections::VecDeque;

use shared::commits::{Commit, CommitPage, CommitPosition};

use super::is_next;

/// Purchases that are kept in memory, give or take a batch: some seconds of a full load, in one MiB.
const PURCHASES_KEPT: usize = 50_000;
/// Purchases in one answer, give or take a batch.
const PAGE_PURCHASES: usize = 1_000;

/// The newest commits, without a gap.
pub(super) struct Recent {
    /// Before the oldest of them.
    base: CommitPosition,
    head: CommitPosition,
    commits: VecDeque<Commit>,
    purchases: usize,
}

/// What memory says of a position.
pub(super) enum Glance {
    /// There is something after it.
    Found(CommitPage),
    /// Nothing comes after it so far.
    Newest,
    /// It is not behind what was seen so far: another replica may have seen more.
    Ahead,
    /// It is older than what is in memory, or of another log.
    Unknown,
}

impl Recent {
    /// Nothing after a position.
    pub(super) fn new(position: CommitPosition) -> Self {
        Self { base: position.clone(), head: position, commits: VecDeque::new(), purchases: 0 }
    }

    /// The position after the newest of them.
    pub(super) fn head(&self) -> &CommitPosition {
        &self.head
    }

    /// With what comes next; nothing, if something is missing between.
    pub(super) fn append(mut self, commits: Vec<Commit>) -> Option<Self> {
        if !is_next(&self.head, &commits) {
            return None;
        }
        for commit in commits {
            self.head.pass(&commit);
            self.purchases += commit.purchase_ids.len();
            self.commits.push_back(commit);
        }
        while self.purchases > PURCHASES_KEPT
            && let Some(oldest) = self.commits.pop_front()
        {
            self.base.pass(&oldest);
            self.purchases -= oldest.purchase_ids.len();
        }
        Some(self)
    }

    pub(super) fn glance(&self, after: &CommitPosition) -> Glance {
        if !self.base.is_reached_by(after) {
            return Glance::Unknown;
        }
        if !after.is_reached_by(&self.head) {
            return Glance::Ahead;
        }
        page(after, self.commits.iter().filter(|commit| after.is_before(commit))).map_or(Glance::Newest, Glance::Found)
    }
}

/// The first of these commits, which come next after a position; nothing if there are none.
pub(super) fn page<'a>(after: &CommitPosition, commits: impl Iterator<Item = &'a Commit>) -> Option<CommitPage> {
    let mut page = CommitPage { position: after.clone(), commits: Vec::new(), is_reset: false };
    let mut purchases = 0;
    for commit in commits {
        page.position.pass(commit);
        page.commits.push(commit.clone());
        purchases += commit.purchase_ids.len();
        if purchases >= PAGE_PURCHASES {
            break;
        }
    }
    (!page.commits.is_empty()).then_some(page)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn commit(partition: i32, number: i64, purchases: usize) -> Commit {
        Commit { partition, number, purchase_ids: vec![Uuid::nil(); purchases], userid_marks: None }
    }

    fn at(numbers: &[(i32, i64)]) -> CommitPosition {
        CommitPosition::new(1, numbers.iter().copied())
    }

    fn found(recent: &Recent, after: &CommitPosition) -> Option<Vec<(i32, i64)>> {
        match recent.glance(after) {
            Glance::Found(page) => Some(page.commits.iter().map(|commit| (commit.partition, commit.number)).collect()),
            Glance::Newest => Some(Vec::new()),
            Glance::Ahead | Glance::Unknown => None,
        }
    }

    #[test]
    fn what_comes_after_a_position_is_found_and_nothing_else() {
        let recent = Recent::new(at(&[(0, 5)]));
        let recent = recent.append(vec![commit(0, 6, 1), commit(3, 1, 1), commit(0, 7, 1)]).unwrap();
        assert_eq!(found(&recent, &at(&[(0, 5)])), Some(vec![(0, 6), (3, 1), (0, 7)]));
        assert_eq!(found(&recent, &at(&[(0, 6)])), Some(vec![(3, 1), (0, 7)]));
        assert_eq!(found(&recent, &at(&[(0, 7), (3, 1)])), Some(Vec::new()));
        for unknown in [at(&[(0, 4)]), at(&[(0, 8)]), at(&[(0, 5), (9, 1)]), CommitPosition::new(2, [(0, 5)])] {
            assert_eq!(found(&recent, &unknown), None, "{unknown}");
        }
        assert!(recent.append(vec![commit(0, 9, 1)]).is_none(), "one is missing");
    }

    #[test]
    fn memory_and_answers_are_bounded() {
        let mut recent = Recent::new(at(&[]));
        for number in 1..=200 {
            recent = recent.append(vec![commit(0, number, 500)]).unwrap();
        }
        assert_eq!((recent.commits.len(), found(&recent, &at(&[(0, 99)]))), (100, None));
        assert_eq!(found(&recent, &at(&[(0, 100)])).map(|found| found.len()), Some(2));
    }
}
