//! The control of load shedding in virtual time, before a back end that serves a few at once and lets others wait. The code that
//! decides is the one that runs in the service.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use web_server::shedding::control::{Control, Seen};

use crate::rate_limit_traffic::chance::Chance;

const LIMIT_MAX: usize = 4096;
const TARGET: Duration = Duration::from_millis(500);
const SECOND: u64 = 1_000_000;
const LOOK_US: u64 = 20_000;
const LOOKS_A_TURN: u32 = 5;
/// A back end of so many at once, of which each takes so long on average, serves 800 a second.
const AT_ONCE: usize = 16;
const TIME_US: u64 = 20_000;
const CAPACITY: f64 = 800.0;
/// How many the limit always lets in.
const FLOOR: usize = LIMIT_MAX / 32;
const SEEDS: u64 = 5;

/// What became of requests.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    served: u32,
    shed: u32,
    longest_us: u64,
}

/// A web-server, its callers and what is behind it.
struct World {
    now: u64,
    control: Control,
    limit: usize,
    in_flight: usize,
    seen_in_flight: usize,
    looks: u32,
    /// Since the last turn.
    served: u64,
    took_us: u64,
    shed: u64,
    at_once: usize,
    time_us: u64,
    busy: usize,
    waiting: VecDeque<u64>,
    /// When each that is being served is done, and when it came.
    ending: BinaryHeap<Reverse<(u64, u64)>>,
    next_look: u64,
    chance: Chance,
    tally: Tally,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            now: 0,
            control: Control::new(LIMIT_MAX, TARGET),
            limit: LIMIT_MAX,
            in_flight: 0,
            seen_in_flight: 0,
            looks: 0,
            served: 0,
            took_us: 0,
            shed: 0,
            at_once: AT_ONCE,
            time_us: TIME_US,
            busy: 0,
            waiting: VecDeque::new(),
            ending: BinaryHeap::new(),
            next_look: LOOK_US,
            chance: Chance::of_seed(seed),
            tally: Tally::default(),
        }
    }

    /// Before a back end of so many at once, of which each takes so long.
    fn before(seed: u64, at_once: usize, time_us: u64) -> Self {
        Self { at_once, time_us, ..Self::new(seed) }
    }

    /// Lets so many come a second, independently of each other, for so long; gives what became of requests meanwhile.
    fn run(&mut self, seconds: u64, per_second: f64) -> Tally {
        self.tally = Tally::default();
        let end = self.now + seconds * SECOND;
        let mut next_arrival = self.now + self.pause(per_second);
        loop {
            let ends = self.ending.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
            self.now = next_arrival.min(ends).min(self.next_look);
            if self.now >= end {
                self.now = end;
                return self.tally;
            }
            if self.now == ends {
                self.end_one();
            } else if self.now == self.next_look {
                self.look();
            } else {
                self.come();
                next_arrival = self.now + self.pause(per_second);
            }
        }
    }

    fn pause(&mut self, per_second: f64) -> u64 {
        let seconds = -self.chance.part().max(1e-9).ln() / per_second;
        u64::try_from(Duration::from_secs_f64(seconds).as_micros()).unwrap().max(1)
    }

    fn come(&mut self) {
        if self.in_flight >= self.limit {
            self.shed += 1;
            self.tally.shed += 1;
            return;
        }
        self.in_flight += 1;
        self.waiting.push_back(self.now);
        self.begin();
    }

    fn begin(&mut self) {
        while self.busy < self.at_once {
            let Some(came) = self.waiting.pop_front() else { return };
            self.busy += 1;
            let time = self.chance.between(self.time_us / 2, self.time_us * 3 / 2);
            self.ending.push(Reverse((self.now + time, came)));
        }
    }

    fn end_one(&mut self) {
        let Some(Reverse((_, came))) = self.ending.pop() else { return };
        self.busy -= 1;
        self.in_flight -= 1;
        self.served += 1;
        self.took_us += self.now - came;
        self.tally.served += 1;
        self.tally.longest_us = self.tally.longest_us.max(self.now - came);
        self.begin();
    }

    fn look(&mut self) {
        self.next_look += LOOK_US;
        self.seen_in_flight += self.in_flight;
        self.looks += 1;
        if self.looks < LOOKS_A_TURN {
            return;
        }
        let in_flight = f64::from(u32::try_from(self.seen_in_flight).unwrap()) / f64::from(LOOKS_A_TURN);
        let elapsed = Duration::from_micros(LOOK_US) * LOOKS_A_TURN;
        let (served, took) = (self.served, Duration::from_micros(self.took_us));
        let seen = Seen { elapsed, in_flight, served, took, shed: self.shed, pressure: 0.0 };
        self.limit = self.control.turn(seen);
        (self.seen_in_flight, self.looks, self.served, self.took_us, self.shed) = (0, 0, 0, 0, 0);
    }
}

/// More are in flight than are let in whatever is worked out: a limit that is worked out wrongly refuses some.
#[test]
fn nobody_is_refused_in_five_minutes_at_80_percent_of_capacity() {
    const CAPACITY: f64 = 2_000.0;
    for seed in 0..SEEDS {
        let mut world = World::before(seed, 400, 200_000);
        assert_eq!(world.run(300, 0.8 * CAPACITY).shed, 0, "from the start, seed {seed}");
        assert!(world.in_flight > FLOOR, "{} in flight, seed {seed}", world.in_flight);
        world.run(60, 3.0 * CAPACITY);
        world.run(2, 0.8 * CAPACITY);
        assert_eq!(world.run(300, 0.8 * CAPACITY).shed, 0, "after an overload, seed {seed}");
    }
}

#[test]
fn under_twice_the_capacity_the_limit_does_not_drift() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        world.run(60, 2.0 * CAPACITY);
        let early = f64::from(u32::try_from(world.limit).unwrap());
        for minute in 2..=10 {
            world.run(60, 2.0 * CAPACITY);
            let late = f64::from(u32::try_from(world.limit).unwrap());
            assert!(
                (0.8..=1.2).contains(&(late / early)),
                "{early} in minute 1, {late} in minute {minute}, seed {seed}"
            );
        }
    }
}

#[test]
fn three_times_the_capacity_takes_nothing_from_what_is_served_and_is_over_within_two_seconds() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        let peak = (5..=30).map(|tenths| World::new(seed).run(20, f64::from(tenths) / 10.0 * CAPACITY).served).max();
        let peak = f64::from(peak.unwrap());
        // The queue that is there before the limit is found.
        world.run(5, 3.0 * CAPACITY);
        let overload = world.run(20, 3.0 * CAPACITY);
        assert!(f64::from(overload.served) >= 0.9 * peak, "{overload:?}, peak {peak}, seed {seed}");
        assert!(overload.longest_us < SECOND, "{overload:?}, seed {seed}");
        world.run(2, 0.8 * CAPACITY);
        let after = world.run(10, 0.8 * CAPACITY);
        assert!(after.shed == 0 && after.longest_us < SECOND / 4, "{after:?}, seed {seed}");
    }
}

#[test]
fn a_back_end_that_was_slow_or_stood_still_has_all_its_callers_again_within_two_seconds() {
    for (seed, at_once) in (0..SEEDS).flat_map(|seed| [(seed, 0), (seed, 2)]) {
        let mut world = World::new(seed);
        world.run(10, 0.8 * CAPACITY);
        world.at_once = at_once;
        assert!(world.run(20, 0.8 * CAPACITY).shed > 0, "seed {seed}, {at_once} at once");
        assert!(world.limit <= LIMIT_MAX / 16, "{} let in, seed {seed}, {at_once} at once", world.limit);
        world.at_once = AT_ONCE;
        world.begin();
        world.run(2, 0.8 * CAPACITY);
        let after = world.run(10, 0.8 * CAPACITY);
        assert!(after.shed == 0, "{after:?}, seed {seed}, {at_once} at once");
    }
}

#[test]
fn little_load_changes_nothing_and_a_burst_after_it_is_taken() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        world.run(600, 1.0);
        assert_eq!(world.limit, LIMIT_MAX, "seed {seed}");
        let burst = world.run(1, 1.5 * CAPACITY);
        assert_eq!(burst.shed, 0, "{burst:?}, seed {seed}");
    }
}

/// As many as come, each after the same time: a follower that is slow, which Kafka's answer waits for.
#[test]
fn what_takes_its_time_however_few_are_let_in_is_let_in_once_that_is_seen() {
    const PER_SECOND: f64 = 1_000.0;
    const QUICK_US: u64 = 5_000;
    for (seed, slow_us) in (0..SEEDS).flat_map(|seed| [(seed, 550_000), (seed, 700_000)]) {
        let mut world = World::before(seed, usize::MAX, QUICK_US);
        assert_eq!(world.run(60, PER_SECOND).shed, 0, "seed {seed}");
        world.time_us = slow_us;
        let seeing = world.run(30, PER_SECOND);
        assert!(seeing.served > 15_000, "{seeing:?}, seed {seed}, {slow_us} us");
        assert_eq!(world.run(120, PER_SECOND).shed, 0, "seed {seed}, {slow_us} us");
        // And it is remembered while hardly anybody asks.
        world.run(300, 1.0);
        for part in [0.2, 0.4, 0.6, 0.8, 1.0] {
            assert_eq!(world.run(10, part * PER_SECOND).shed, 0, "{part} of the load, seed {seed}, {slow_us} us");
        }
        world.time_us = QUICK_US;
        assert_eq!(world.run(60, PER_SECOND).shed, 0, "seed {seed}, {slow_us} us");
        assert_eq!(world.limit, LIMIT_MAX, "seed {seed}");
        // It is over, so too much to do is a queue again: a thousand a second are served.
        world.at_once = 5;
        world.run(10, 3.0 * PER_SECOND);
        let overload = world.run(30, 3.0 * PER_SECOND);
        assert!(overload.longest_us < 3 * SECOND / 4, "{overload:?}, seed {seed}, {slow_us} us");
    }
}

/// The same with a queue: who is let in has the time that it takes, and half of that again.
#[test]
fn what_takes_its_time_and_has_too_much_to_do_still_has_a_limit() {
    const CAPACITY: f64 = 1_000.0;
    for seed in 0..SEEDS {
        let mut world = World::before(seed, 600, 600_000);
        world.run(30, 3.0 * CAPACITY);
        let overload = world.run(300, 3.0 * CAPACITY);
        assert!(f64::from(overload.served) >= 0.95 * 300.0 * CAPACITY, "{overload:?}, seed {seed}");
        assert!(overload.longest_us < 3 * SECOND / 2, "{overload:?}, seed {seed}");
    }
}

/// So slow that even the fewest are a queue: the limit must not follow the queue, and forget it when it is over.
#[test]
fn where_even_the_fewest_wait_too_long_the_limit_does_not_drift() {
    for (seed, at_once) in (0..SEEDS).flat_map(|seed| [(seed, 1), (seed, 4)]) {
        let mut world = World::before(seed, at_once, TIME_US);
        for minute in 1..=10 {
            world.run(60, 2.0 * CAPACITY);
            assert!(world.limit <= 2 * FLOOR, "{} in minute {minute}, seed {seed}, {at_once} at once", world.limit);
        }
        world.at_once = 0;
        world.run(30, 2.0 * CAPACITY);
        world.at_once = AT_ONCE;
        world.begin();
        world.run(10, 2.0 * CAPACITY);
        let well = world.run(60, 2.0 * CAPACITY);
        assert!(well.longest_us < SECOND, "{well:?}, seed {seed}, {at_once} at once before");
    }
}
