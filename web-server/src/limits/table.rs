//! What is known of every caller, in a table that never grows past its limit.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::class::{LANES, RouteClass, moment_of};
use super::{Bucket, CallerKey, Demand, Moment, Shares};

/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 64;
/// Places among which a caller may be found.
const WAYS: usize = 8;
/// Places for three callers: so full it is at most, so that few find all of theirs taken.
const PLACES_FOR_THREE: usize = 4;
/// Whoever has asked for nothing for so many windows is forgotten: it would be treated as if it were new. Who has debts, when they
/// would be paid.
const FORGOTTEN_AFTER: f32 = 10.0;
/// Callers who are watched because they ask for much.
const WATCHED_MAX: usize = 8192;

/// A caller in a class.
pub type Quota = (CallerKey, RouteClass);

/// What a caller may do in a class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    /// Who, and what.
    pub quota: Quota,
    /// How many requests a window, at all replicas together.
    pub limit: f32,
}

/// What a caller may still do, and what it asks for, in one class.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// What it may still do here.
    pub bucket: Bucket,
    /// What it asks for here.
    pub demand: Demand,
    /// How much was let in here, as a count that begins anew when the caller is forgotten.
    pub admitted: u32,
}

#[derive(Clone, Copy)]
struct Slot {
    caller: CallerKey,
    lanes: [Lane; LANES],
}

/// All callers. 72 bytes each, and free places for a third more: 96 at most. It grows with them, up to its limit, and then forgets who
/// has been away longest.
pub struct Table {
    shards: Box<[Mutex<Shard>]>,
    /// Who is watched, and its limit.
    watched: Mutex<HashMap<Quota, f32>>,
    hasher: RandomState,
    sets_max: usize,
}

#[derive(Default)]
struct Shard {
    sets: Vec<[Option<Slot>; WAYS]>,
    callers: usize,
}

impl Table {
    /// Of about so many callers at most.
    #[must_use]
    pub fn new(callers_max: usize) -> Self {
        let sets_max = (callers_max * PLACES_FOR_THREE / 3).div_ceil(WAYS * SHARDS).max(1);
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, watched: Mutex::default(), hasher: RandomState::new(), sets_max }
    }

    /// Looks at a caller, who is known from now on. One who then asks for so much that others should know is watched.
    pub fn visit<T>(
        &self,
        allowance: Allowance,
        now: Duration,
        shares: &Shares,
        look: impl FnOnce(&mut Lane, Moment) -> T,
    ) -> T {
        let (caller, class) = allowance.quota;
        let now_here = class.moment(now);
        let (mut shard, place) = self.shard_of(caller);
        let lane = &mut shard.enter(caller, place, self, now).lanes[class.lane()];
        let (seen, demand) = (look(lane, now_here), lane.demand.per_window(now_here));
        drop(shard);
        if demand > 0.0 && demand >= shares.watch_from(allowance) {
            let mut watched = lock(&self.watched);
            if watched.len() < WATCHED_MAX || watched.contains_key(&allowance.quota) {
                watched.insert(allowance.quota, allowance.limit);
            }
        }
        seen
    }

    /// What a caller asks for a window, and how much was let in, if it is known.
    #[must_use]
    pub fn seen(&self, (caller, class): Quota, now: Duration) -> Option<(f32, u32)> {
        let (mut shard, place) = self.shard_of(caller);
        let lane = &mut shard.find(caller, place)?.lanes[class.lane()];
        Some((lane.demand.per_window(class.moment(now)), lane.admitted))
    }

    /// The watched callers; whoever asks for little is watched no more.
    #[must_use]
    pub fn watched(&self, now: Duration, shares: &Shares) -> Vec<Allowance> {
        let watched = lock(&self.watched).clone();
        let (much, little): (Vec<_>, Vec<_>) =
            watched.into_iter().map(|(quota, limit)| Allowance { quota, limit }).partition(|allowance| {
                let until = shares.watch_until(allowance.limit);
                self.seen(allowance.quota, now).is_some_and(|(demand, _)| demand >= until)
            });
        for Allowance { quota, .. } in little {
            lock(&self.watched).remove(&quota);
        }
        much
    }

    /// Forgets who has been away, in one shard after the other.
    pub fn forget(&self, turn: usize, now: Duration) {
        lock(&self.shards[turn % SHARDS]).forget(now);
    }

    /// How many callers are known.
    #[must_use]
    pub fn callers(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).callers).sum()
    }

    /// The bytes that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let sets: usize = self.shards.iter().map(|shard| lock(shard).sets.capacity()).sum();
        sets * size_of::<[Option<Slot>; WAYS]>()
    }

    /// A caller's shard, and a number that says where in it the caller is.
    fn shard_of(&self, caller: CallerKey) -> (MutexGuard<'_, Shard>, u64) {
        let hash = self.hasher.hash_one(caller);
        let shard = usize::try_from(hash >> 58).unwrap_or(0) % SHARDS;
        (lock(&self.shards[shard]), hash << 6)
    }
}

fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn find(&mut self, caller: CallerKey, place: u64) -> Option<&mut Slot> {
        let (set, way) = self.position(caller, place)?;
        self.sets[set][way].as_mut()
    }

    fn position(&self, caller: CallerKey, place: u64) -> Option<(usize, usize)> {
        let set = set_of(place, self.sets.len());
        let is_it = |slot: &Option<Slot>| slot.as_ref().is_some_and(|slot| slot.caller == caller);
        Some((set, self.sets.get(set)?.iter().position(is_it)?))
    }

    fn enter(&mut self, caller: CallerKey, place: u64, table: &Table, now: Duration) -> &mut Slot {
        let (set, way) = self.position(caller, place).unwrap_or_else(|| {
            if self.is_crowded(place) && self.sets.len() < table.sets_max {
                self.grow(table);
            }
            self.make_room(place, now)
        });
        let now = moment_of(caller, now);
        let lane = Lane { bucket: Bucket::rested(now), demand: Demand::none(now), admitted: 0 };
        self.sets[set][way].get_or_insert(Slot { caller, lanes: [lane; LANES] })
    }

    /// Whether somebody would have to be forgotten for one caller more, though the shard is not nearly empty.
    fn is_crowded(&self, place: u64) -> bool {
        let set = self.sets.get(set_of(place, self.sets.len()));
        self.callers * 4 >= self.sets.len() * WAYS && set.is_none_or(|set| set.iter().all(Option::is_some))
    }

    /// A free place, or that of who has been away longest, for one caller more.
    fn make_room(&mut self, place: u64, now: Duration) -> (usize, usize) {
        let set = set_of(place, self.sets.len());
        let idle = |slot: &Option<Slot>| slot.as_ref().map_or(f32::INFINITY, |slot| slot.idle_windows(now));
        let places = self.sets[set].iter().map(idle).enumerate();
        let way = places.max_by(|(_, one), (_, other)| one.total_cmp(other)).map_or(0, |(way, _)| way);
        if self.sets[set][way].take().is_none() {
            self.callers += 1;
        }
        (set, way)
    }

    fn grow(&mut self, table: &Table) {
        let sets = (self.sets.len() * 2).clamp(1, table.sets_max);
        let mut larger = Vec::with_capacity(sets);
        larger.resize(sets, [None; WAYS]);
        let before = std::mem::replace(&mut self.sets, larger);
        self.callers = 0;
        for slot in before.into_iter().flatten().flatten() {
            let (set, way) = self.make_room(table.hasher.hash_one(slot.caller) << 6, Duration::ZERO);
            self.sets[set][way] = Some(slot);
        }
    }

    fn forget(&mut self, now: Duration) {
        for place in self.sets.iter_mut().flatten() {
            if place.is_some_and(|slot| slot.is_forgettable(now)) {
                *place = None;
                self.callers -= 1;
            }
        }
    }
}

/// The set for a place: all sets get as many callers, whatever their number.
fn set_of(place: u64, sets: usize) -> usize {
    let sets = u128::try_from(sets).unwrap_or(0);
    usize::try_from((u128::from(place) * sets) >> 64).unwrap_or(0)
}

impl Slot {
    fn idle_windows(&self, now: Duration) -> f32 {
        let now = moment_of(self.caller, now);
        self.lanes.iter().map(|lane| lane.demand.idle_windows(now)).fold(f32::INFINITY, f32::min)
    }

    fn is_forgettable(&self, now: Duration) -> bool {
        let debts = self.lanes.iter().map(|lane| lane.bucket.debt_windows()).fold(0.0, f32::max);
        self.idle_windows(now) > FORGOTTEN_AFTER + debts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const MIB: usize = 1024 * 1024;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn shares() -> Shares {
        Shares::even(1)
    }

    fn allowance(number: u32) -> Allowance {
        Allowance { quota: quota(number), limit: 4.0 }
    }

    fn quota(number: u32) -> Quota {
        (CallerKey::of_address(Ipv4Addr::from_bits(number).into()), RouteClass::Buy)
    }

    /// Whether the caller is let in, at one request a second.
    fn ask(table: &Table, number: u32, now: Duration) -> bool {
        table.visit(allowance(number), now, &shares(), |lane, now| {
            lane.demand.add(1.0, now);
            lane.bucket.take(1.0, 1.0, now)
        })
    }

    #[test]
    fn a_million_callers_are_known_in_less_than_100_mib() {
        let table = Table::new(1_000_000);
        assert_eq!(table.bytes(), 0);
        for number in 0..1_000_000 {
            assert!(ask(&table, number, at(0)));
        }
        let (callers, bytes) = (table.callers(), table.bytes());
        assert!(callers > 940_000 && bytes < 100 * MIB, "{callers} callers, {bytes} bytes");
        for number in 1_000_000..3_000_000 {
            ask(&table, number, at(1));
        }
        assert_eq!(table.bytes(), bytes, "it grows no further");
    }

    #[test]
    fn a_caller_is_remembered_while_others_come_and_forgotten_when_it_makes_no_difference() {
        let table = Table::new(1_000_000);
        (0..100).for_each(|number| assert!(ask(&table, number, at(0))));
        (1_000..40_000).for_each(|number| assert!(ask(&table, number, at(1))));
        // A few have lost their places to others, by chance.
        let remembered = (0..100).filter(|number| !ask(&table, *number, at(500))).count();
        assert!(remembered > 80, "{remembered} of 100: the table has grown since");
        assert!(table.visit(allowance(200), at(500), &shares(), |lane, now| lane.bucket.borrow(100.0, 1.0, now)));
        (0..SHARDS).for_each(|turn| table.forget(turn, at(9_000)));
        assert!(table.callers() > 38_900, "{}", table.callers());
        (0..SHARDS).for_each(|turn| table.forget(turn, at(12_000)));
        assert_eq!(table.callers(), 1, "one has debts");
        (0..SHARDS).for_each(|turn| table.forget(turn, at(112_000)));
        assert_eq!(table.callers(), 0);
    }

    #[test]
    fn who_asks_for_much_is_watched_for_as_long_as_it_does() {
        let table = Table::new(1_000);
        (0..20).for_each(|_| {
            ask(&table, 1, at(0));
        });
        let watched = table.watched(at(0), &shares());
        assert_eq!(watched, [allowance(1)]);
        assert!(matches!(table.seen(quota(1), at(0)), Some((demand, 0)) if demand > 10.0));
        assert!(table.watched(at(9_000), &shares()).is_empty());
        assert!(table.watched(at(0), &shares()).is_empty(), "and not looked at again before it comes back");
    }
}
