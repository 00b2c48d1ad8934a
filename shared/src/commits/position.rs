//! How far somebody has followed the log of commits.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Commit;

/// The longest text that is read as a position.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// A position in the log: of each partition the number of the last commit that was seen. As text it is the log's id and the
/// numbers, `LOG.PARTITION-NUMBER…`; of one partition, it may tell how many purchases were seen of the commit after that:
/// `.PARTITION-NUMBER~SEEN`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitPosition {
    /// Names the log. Those of other databases have other names.
    pub log_id: u32,
    /// The last number of each partition; 0 where none is named.
    numbers: BTreeMap<i32, i64>,
    /// A partition, and how many purchases of its next commit were seen.
    part: Option<(i32, usize)>,
}

/// No position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no position in the log of commits")]
pub struct InvalidPosition;

impl CommitPosition {
    /// After the commits with these numbers, of these partitions.
    #[must_use]
    pub fn new(log_id: u32, numbers: impl IntoIterator<Item = (i32, i64)>) -> Self {
        Self { log_id, numbers: numbers.into_iter().collect(), part: None }
    }

    /// The last commit that was seen of a partition, all of it; 0 before the first.
    #[must_use]
    pub fn number(&self, partition: i32) -> i64 {
        self.numbers.get(&partition).copied().unwrap_or(0)
    }

    /// The last number of each partition of which anything was seen.
    pub fn numbers(&self) -> impl Iterator<Item = (i32, i64)> {
        self.numbers.iter().map(|(partition, number)| (*partition, *number))
    }

    /// Whether the commit comes after it, at least a part of it.
    #[must_use]
    pub fn is_before(&self, commit: &Commit) -> bool {
        self.number(commit.partition) < commit.number
    }

    /// Whether nothing is missing between it and the commit.
    #[must_use]
    pub fn is_just_before(&self, commit: &Commit) -> bool {
        self.number(commit.partition) + 1 == commit.number
    }

    /// How many purchases of a commit were seen.
    #[must_use]
    pub fn seen_of(&self, commit: &Commit) -> usize {
        match self.part {
            _ if !self.is_before(commit) => commit.purchase_ids.len(),
            Some((partition, seen)) if partition == commit.partition && self.is_just_before(commit) => seen,
            _ => 0,
        }
    }

    /// Whether whoever is at `other` has seen all that was seen here.
    #[must_use]
    pub fn is_reached_by(&self, other: &Self) -> bool {
        self.log_id == other.log_id && self.numbers().all(|(partition, number)| number <= other.number(partition))
    }

    /// What was seen at both positions of one log.
    #[must_use]
    pub fn nearest(&self, other: &Self) -> Self {
        let numbers = self.numbers().map(|(partition, number)| (partition, number.min(other.number(partition))));
        Self::new(self.log_id, numbers.filter(|(_, number)| *number > 0))
    }

    /// What was seen at one of two positions of one log.
    #[must_use]
    pub fn furthest(&self, other: &Self) -> Self {
        let mut position = self.clone();
        for (partition, number) in other.numbers().filter(|(partition, number)| self.number(*partition) < *number) {
            position.numbers.insert(partition, number);
            position.part = position.part.filter(|(part_of, _)| *part_of != partition);
        }
        position
    }

    /// A commit was seen, all of it.
    pub fn pass(&mut self, commit: &Commit) {
        self.numbers.insert(commit.partition, commit.number);
        self.part = self.part.filter(|(partition, _)| *partition != commit.partition);
    }

    /// The position from here within the next commit, when so many of its purchases were seen.
    #[must_use]
    pub fn within(&self, commit: &Commit, seen: usize) -> Self {
        let mut position = Self { part: None, ..self.clone() };
        if seen >= commit.purchase_ids.len() {
            position.pass(commit);
        } else {
            position.numbers.insert(commit.partition, commit.number - 1);
            position.part = Some((commit.partition, seen));
        }
        position
    }
}

impl Display for CommitPosition {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:x}", self.log_id)?;
        for (partition, number) in &self.numbers {
            write!(formatter, ".{partition}-{number}")?;
            match self.part {
                Some((part_of, seen)) if part_of == *partition => write!(formatter, "~{seen}")?,
                _ => {}
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
        let mut position = Self::new(log_id, []);
        for part in parts {
            let (partition, rest) = part.split_once('-').ok_or(InvalidPosition)?;
            let (number, seen) = rest.split_once('~').map_or((rest, None), |(number, seen)| (number, Some(seen)));
            let (partition, number) = (digits(partition)?, digits(number)?);
            if position.numbers.insert(partition, number).is_some() || (seen.is_some() && position.part.is_some()) {
                return Err(InvalidPosition);
            }
            if let Some(seen) = seen {
                position.part = Some((partition, digits(seen)?));
            }
        }
        Ok(position)
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
            seen: usize,
        ) {
            let part = numbers.keys().next().map(|partition| (*partition, seen));
            let position = CommitPosition { log_id, numbers, part };
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
