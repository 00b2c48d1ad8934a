//! How far somebody has followed the log of commits.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Commit;

/// The longest text that is read as a position: it has to fit into the head of a request.
const TEXT_BYTES_MAX: usize = 4 * 1024;

/// A position in the log: of each partition the number of the last commit that was seen, and how many purchases were seen of the
/// commit after that. As text it is the log's id and those, `LOG.PARTITION-NUMBER…` or `.PARTITION-NUMBER~PURCHASES`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitPosition {
    /// Names the log. Those of other databases have other names.
    pub log_id: u32,
    seen: BTreeMap<i32, Seen>,
}

/// What was seen of a partition; of two, the larger one has seen more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    /// The last commit that was seen, all of it; 0 before the first.
    number: i64,
    /// Purchases of the next one.
    purchases: usize,
}

/// No position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no position in the log of commits")]
pub struct InvalidPosition;

impl CommitPosition {
    /// After the commits with these numbers, of these partitions.
    #[must_use]
    pub fn new(log_id: u32, numbers: impl IntoIterator<Item = (i32, i64)>) -> Self {
        let seen = |(partition, number)| (partition, Seen { number, purchases: 0 });
        Self { log_id, seen: numbers.into_iter().map(seen).collect() }
    }

    /// The last commit that was seen of a partition, all of it; 0 before the first.
    #[must_use]
    pub fn number(&self, partition: i32) -> i64 {
        self.of(partition).number
    }

    /// The last number of each partition of which anything was seen.
    pub fn numbers(&self) -> impl Iterator<Item = (i32, i64)> {
        self.seen.iter().map(|(partition, seen)| (*partition, seen.number))
    }

    /// How many commits were seen, all of each.
    #[must_use]
    pub fn commits(&self) -> i64 {
        self.numbers().fold(0, |sum, (_, number)| sum.saturating_add(number))
    }

    /// Whether the commit comes after it, at least a part of it.
    #[must_use]
    pub fn is_before(&self, commit: &Commit) -> bool {
        self.number(commit.partition) < commit.number
    }

    /// Whether nothing is missing between it and the commit.
    #[must_use]
    pub fn is_just_before(&self, commit: &Commit) -> bool {
        self.number(commit.partition).checked_add(1) == Some(commit.number)
    }

    /// How many purchases of a commit were seen.
    #[must_use]
    pub fn seen_of(&self, commit: &Commit) -> usize {
        if !self.is_before(commit) {
            return commit.purchase_ids.len();
        }
        if self.is_just_before(commit) { self.of(commit.partition).purchases } else { 0 }
    }

    /// Whether whoever is at `other` has seen all that was seen here.
    #[must_use]
    pub fn is_reached_by(&self, other: &Self) -> bool {
        self.log_id == other.log_id && self.seen.iter().all(|(partition, seen)| *seen <= other.of(*partition))
    }

    /// What was seen at both positions of one log.
    #[must_use]
    pub fn nearest(&self, other: &Self) -> Self {
        let both = self.seen.iter().map(|(partition, seen)| (*partition, (*seen).min(other.of(*partition))));
        Self { log_id: self.log_id, seen: both.filter(|(_, seen)| *seen > Seen::default()).collect() }
    }

    /// What was seen at one of two positions of one log.
    #[must_use]
    pub fn furthest(&self, other: &Self) -> Self {
        let mut position = self.clone();
        for (partition, seen) in &other.seen {
            match position.seen.entry(*partition) {
                Entry::Vacant(place) => drop(place.insert(*seen)),
                Entry::Occupied(mut place) => drop(place.insert(*seen.max(place.get()))),
            }
        }
        position
    }

    /// A commit was seen, all of it.
    pub fn pass(&mut self, commit: &Commit) {
        self.seen.insert(commit.partition, Seen { number: commit.number, purchases: 0 });
    }

    /// The position from here within the next commit, when so many of its purchases were seen.
    #[must_use]
    pub fn within(&self, commit: &Commit, purchases: usize) -> Self {
        let mut position = self.clone();
        if purchases >= commit.purchase_ids.len() {
            position.pass(commit);
        } else {
            position.seen.insert(commit.partition, Seen { number: commit.number - 1, purchases });
        }
        position
    }

    fn of(&self, partition: i32) -> Seen {
        self.seen.get(&partition).copied().unwrap_or_default()
    }
}

impl Display for CommitPosition {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:x}", self.log_id)?;
        for (partition, Seen { number, purchases }) in &self.seen {
            write!(formatter, ".{partition}-{number}")?;
            if *purchases > 0 {
                write!(formatter, "~{purchases}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for CommitPosition {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(InvalidPosition);
        }
        let mut parts = text.split('.');
        let log_id = parts.next().filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let log_id = log_id.and_then(|id| u32::from_str_radix(id, 16).ok()).ok_or(InvalidPosition)?;
        let mut seen = BTreeMap::new();
        for part in parts {
            let (partition, rest) = part.split_once('-').ok_or(InvalidPosition)?;
            let (number, purchases) = rest.split_once('~').unwrap_or((rest, "0"));
            let of_partition = Seen { number: digits(number)?, purchases: digits(purchases)? };
            if seen.insert(digits(partition)?, of_partition).is_some() {
                return Err(InvalidPosition);
            }
        }
        Ok(Self { log_id, seen })
    }
}

/// A number of digits alone: what Rust reads may also have a sign.
fn digits<T: FromStr>(text: &str) -> Result<T, InvalidPosition> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).ok_or(InvalidPosition)
}

impl TryFrom<String> for CommitPosition {
    type Error = InvalidPosition;

    fn try_from(text: String) -> Result<Self, InvalidPosition> {
        text.parse()
    }
}

impl From<CommitPosition> for String {
    fn from(position: CommitPosition) -> Self {
        position.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn commit(partition: i32, number: i64, purchases: u128) -> Commit {
        let purchase_ids = (0..purchases).map(Uuid::from_u128).collect();
        Commit { partition, number, purchase_ids, userid_marks: None }
    }

    #[test]
    fn what_was_seen_is_behind_and_the_rest_is_not() {
        let mut position = CommitPosition::new(7, [(0, 4), (3, 9)]);
        assert_eq!(position.to_string(), "7.0-4.3-9");
        assert!(!position.is_before(&commit(3, 9, 1)) && position.is_before(&commit(3, 10, 1)));
        assert!(position.is_before(&commit(5, 1, 1)) && position.is_just_before(&commit(5, 1, 1)));
        assert!(!position.is_just_before(&commit(0, 6, 1)));
        position = position.within(&commit(0, 5, 3), 2);
        assert_eq!(position.to_string(), "7.0-4~2.3-9");
        assert_eq!([4, 5, 6].map(|number| position.seen_of(&commit(0, number, 3))), [3, 2, 0]);
        position.pass(&commit(3, 10, 1));
        assert_eq!(position.to_string(), "7.0-4~2.3-10", "another partition goes on");
        assert_eq!(position.within(&commit(3, 11, 5), 1).to_string(), "7.0-4~2.3-10~1");
        position.pass(&commit(0, 5, 3));
        assert_eq!(position, CommitPosition::new(7, [(0, 5), (3, 10)]));
        assert_eq!(position.within(&commit(0, 6, 1), 1), CommitPosition::new(7, [(0, 6), (3, 10)]));
    }

    #[test]
    fn a_position_is_reached_by_who_has_seen_as_much_of_each_partition_of_the_same_log() {
        let position = CommitPosition::new(7, [(0, 4)]);
        let reaches = |log_id, numbers: &[(i32, i64)]| {
            position.is_reached_by(&CommitPosition::new(log_id, numbers.iter().copied()))
        };
        assert!(reaches(7, &[(0, 4)]) && reaches(7, &[(0, 5), (1, 1)]));
        assert!(!reaches(7, &[(0, 3), (1, 9)]) && !reaches(8, &[(0, 5)]));
        let within = position.within(&commit(0, 5, 3), 2);
        assert!(position.is_reached_by(&within) && !within.is_reached_by(&position));
    }

    #[test]
    fn two_positions_have_one_behind_and_one_before_them() {
        let one = CommitPosition::new(7, [(0, 4), (3, 9)]).within(&commit(0, 5, 3), 2);
        let other = CommitPosition::new(7, [(1, 1), (3, 8)]);
        assert_eq!(one.nearest(&other), CommitPosition::new(7, [(3, 8)]));
        assert_eq!(one.furthest(&other).to_string(), "7.0-4~2.1-1.3-9");
        assert_eq!(one.furthest(&CommitPosition::new(7, [(0, 5)])).to_string(), "7.0-5.3-9");
    }

    proptest! {
        #[test]
        fn a_position_is_read_as_it_was_written(
            log_id: u32,
            numbers in proptest::collection::btree_map(0..i32::MAX, 0..i64::MAX, 0..20),
            purchases: usize,
        ) {
            let seen = numbers.into_iter().map(|(partition, number)| (partition, Seen { number, purchases })).collect();
            let position = CommitPosition { log_id, seen };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn garbage_is_no_position(text in "[0-9a-f.~-]{0,40}|\\PC{0,20}") {
            if let Ok(position) = text.parse::<CommitPosition>() {
                prop_assert_eq!(position.to_string().parse(), Ok(position));
            }
        }
    }
}
