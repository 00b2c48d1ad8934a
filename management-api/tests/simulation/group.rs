//! The consumer group: who is meant to have which partition, and who has it.

use std::collections::BTreeMap;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use shared::kafka::{Damage, Polled, ReadPosition};
use tokio::time::Instant;

use crate::topic::{Log, Topic};

/// Names a membership; a process that joins again has another.
pub type SeatId = usize;

/// A question to a member that it must answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// These partitions are given.
    Assigned(Vec<i32>),
    /// These are taken.
    Revoked(Vec<i32>),
}

/// How a partition is fetched.
#[derive(Clone, Debug)]
pub struct Fetch {
    next: i64,
    epoch: Option<i32>,
    paused: bool,
    /// It was reset, and waits for another position.
    stopped: bool,
    /// Where its end was told last.
    told_end: Option<i64>,
}

/// A membership.
#[derive(Default)]
pub struct Seat {
    /// Which process.
    pub process: usize,
    /// What it fetches.
    pub fetches: BTreeMap<i32, Fetch>,
    /// What it was asked and has not answered.
    pub unanswered: Option<Question>,
    /// It was silent for too long: what it had is given to others, and it does not know yet.
    pub is_out: bool,
    /// Its next poll ends the client.
    pub is_dying: bool,
    /// A round of the group brings it nothing, and it must answer all the same.
    pub empty_round: bool,
    /// Commits that are under way: when each ends, and whether well.
    pub commits: Vec<(Instant, bool)>,
}

/// The group.
pub struct Group {
    /// Who has each partition, as the group sees it.
    pub owners: Vec<Option<SeatId>>,
    targets: Vec<Option<SeatId>>,
    /// All memberships.
    pub seats: BTreeMap<SeatId, Seat>,
    /// The offsets committed to Kafka.
    pub committed: BTreeMap<i32, i64>,
    next_seat: SeatId,
}

impl Fetch {
    fn at(position: &ReadPosition) -> Self {
        let ReadPosition { offset, leader_epoch, .. } = *position;
        Self { next: offset, epoch: leader_epoch, paused: false, stopped: false, told_end: None }
    }

    /// Stops or goes on fetching.
    pub fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Goes on elsewhere.
    pub fn seek(&mut self, position: &ReadPosition) {
        *self = Self { paused: self.paused, ..Self::at(position) };
    }

    /// The client gives a few records again.
    pub fn echo(&mut self, log: &Log) {
        if !self.stopped {
            self.next = (self.next - 2).max(0).min(log.end());
            self.epoch = log.entry(self.next - 1).map(|entry| entry.epoch);
        }
    }

    fn poll(&mut self, partition: i32, log: &Log, now: Instant) -> Option<Polled<'static>> {
        if self.paused || self.stopped {
            return None;
        }
        let cut_at = self.epoch.map(|epoch| log.end_of_epoch(epoch)).filter(|at| *at < self.next);
        if cut_at.is_some() || self.next > log.end() {
            self.stopped = true;
            return Some(Polled::Reset { partition, cut_at, reason: "the position is not in the log".to_owned() });
        }
        if log.unreadable.is_some_and(|(offset, until)| offset == self.next && now < until) {
            return Some(Polled::Unreadable { partition, damage: Damage::Other, reason: "a broken batch".to_owned() });
        }
        while let Some(entry) = log.entry(self.next) {
            (self.next, self.epoch) = (self.next + 1, Some(entry.epoch));
            if entry.number.is_some() {
                return Some(Polled::Record(entry.record.clone().into()));
            }
        }
        let is_new = self.told_end.replace(self.next) != Some(self.next);
        is_new.then_some(Polled::End { partition, offset: self.next })
    }
}

impl Group {
    /// Without members.
    pub fn new(partitions: usize) -> Self {
        Self {
            owners: vec![None; partitions],
            targets: vec![None; partitions],
            seats: BTreeMap::new(),
            committed: BTreeMap::new(),
            next_seat: 0,
        }
    }

    /// A process joins.
    pub fn join(&mut self, process: usize, rng: &mut StdRng) -> SeatId {
        self.next_seat += 1;
        self.seats.insert(self.next_seat, Seat { process, ..Seat::default() });
        self.rebalance(rng);
        self.next_seat
    }

    /// A member leaves, or the group has noticed that it is dead.
    pub fn leave(&mut self, seat: SeatId, rng: &mut StdRng) {
        self.seats.remove(&seat);
        self.take_from(seat);
        self.rebalance(rng);
    }

    /// The group puts a member out that does not answer; it goes on for as long as it has not heard of it.
    pub fn put_out(&mut self, seat: SeatId, rng: &mut StdRng) {
        if let Some(seat) = self.seats.get_mut(&seat) {
            seat.is_out = true;
        }
        self.take_from(seat);
        self.rebalance(rng);
    }

    fn take_from(&mut self, seat: SeatId) {
        self.owners.iter_mut().filter(|owner| **owner == Some(seat)).for_each(|owner| *owner = None);
    }

    /// A round of the group: partitions are dealt anew, as evenly as they go, and in any order: a member may keep one and
    /// lose another.
    pub fn rebalance(&mut self, rng: &mut StdRng) {
        let mut seats: Vec<_> = self.seats.iter().filter(|(_, seat)| !seat.is_out).map(|(number, _)| *number).collect();
        seats.shuffle(rng);
        let mut targets: Vec<_> = self.targets.iter_mut().collect();
        targets.shuffle(rng);
        for (number, target) in targets.into_iter().enumerate() {
            *target = seats.get(number % seats.len().max(1)).copied();
        }
        for seat in self.seats.values_mut() {
            seat.empty_round = rng.random_ratio(1, 2);
        }
    }

    /// The same, but one partition stays where it is.
    pub fn rebalance_around(&mut self, partition: i32, rng: &mut StdRng) {
        self.rebalance(rng);
        let number = usize::try_from(partition).unwrap_or(0);
        self.targets[number] = self.owners[number].or(self.targets[number]);
    }

    /// What a member is asked next, if anything.
    pub fn question(&mut self, number: SeatId) -> Option<Polled<'static>> {
        let seat = self.seats.get_mut(&number)?;
        if seat.unanswered.is_some() {
            return None;
        }
        let partitions = || 0_i32..;
        let pairs = || partitions().zip(self.owners.iter().zip(&self.targets));
        let taken: Vec<i32> = if seat.is_out {
            seat.fetches.keys().copied().collect()
        } else {
            let leaves = |(owner, target): (&Option<_>, &Option<_>)| *owner == Some(number) && *target != Some(number);
            pairs().filter(|(_, pair)| leaves(*pair)).map(|(partition, _)| partition).collect()
        };
        let given: Vec<i32> = pairs()
            .filter(|(_, (owner, target))| owner.is_none() && **target == Some(number))
            .map(|(partition, _)| partition)
            .collect();
        let question = if seat.is_out || !taken.is_empty() {
            Question::Revoked(taken)
        } else if !given.is_empty() || std::mem::take(&mut seat.empty_round) {
            Question::Assigned(given)
        } else {
            return None;
        };
        if let Question::Assigned(partitions) = &question {
            for partition in partitions {
                self.owners[usize::try_from(*partition).unwrap_or(0)] = Some(number);
            }
        }
        seat.unanswered = Some(question.clone());
        Some(match question {
            Question::Assigned(partitions) => Polled::Assigned(partitions),
            Question::Revoked(partitions) => Polled::Revoked(partitions),
        })
    }

    /// A member tells what is recorded; one that was put out is not heard. Gives whether it was.
    pub fn commit(&mut self, number: SeatId, offsets: &[(i32, i64)]) -> bool {
        let is_heard = self.seats.get(&number).is_some_and(|seat| !seat.is_out);
        if is_heard {
            self.committed.extend(offsets.iter().copied());
        }
        is_heard
    }

    /// A member takes partitions over. Gives whether it was asked to.
    pub fn assign(&mut self, number: SeatId, positions: &[ReadPosition]) -> bool {
        let Some(seat) = self.seats.get_mut(&number) else { return true };
        let partitions = positions.iter().map(|position| position.partition).collect();
        let asked = seat.unanswered.take() == Some(Question::Assigned(partitions));
        seat.fetches.extend(positions.iter().map(|position| (position.partition, Fetch::at(position))));
        asked
    }

    /// A member gives partitions back. Gives whether it was asked to.
    pub fn unassign(&mut self, number: SeatId, partitions: &[i32], rng: &mut StdRng) -> bool {
        let Some(seat) = self.seats.get_mut(&number) else { return true };
        let asked = seat.unanswered.take() == Some(Question::Revoked(partitions.to_vec()));
        for partition in partitions {
            seat.fetches.remove(partition);
            let owner = &mut self.owners[usize::try_from(*partition).unwrap_or(0)];
            *owner = owner.filter(|owner| *owner != number);
        }
        if seat.is_out && seat.fetches.is_empty() {
            seat.is_out = false;
            self.rebalance(rng);
        }
        asked
    }

    /// What a member reads next.
    pub fn read(&mut self, number: SeatId, topic: &Topic, rng: &mut StdRng) -> Option<Polled<'static>> {
        let seat = self.seats.get_mut(&number)?;
        let first = rng.random_range(0..seat.fetches.len().max(1));
        let now = Instant::now();
        let poll = |(partition, fetch): (&i32, &mut Fetch)| {
            fetch.poll(*partition, &topic.logs[usize::try_from(*partition).unwrap_or(0)], now)
        };
        let (before, after): (Vec<_>, Vec<_>) =
            seat.fetches.iter_mut().enumerate().partition(|(number, _)| *number < first);
        after.into_iter().chain(before).find_map(|(_, fetch)| poll(fetch))
    }
}
