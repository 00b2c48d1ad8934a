//! How many may be in flight: as many as are served in the time that one may take. What is more than that is a queue.
//!
//! By Little's law the mean time is what is in flight divided by what is served a second; so no request is timed, one that never
//! ends counts, and the target is a setting: nothing is probed, and there is no baseline that could drift.

use std::time::Duration;

use super::patience::Patience;

/// The share of the most that is always let in: a target below what an idle back end takes would let in nothing otherwise.
const FLOOR_SHARE: usize = 32;
/// So many in any case, or all that there may be: of fewer the rate is known too badly to tell a queue.
const FLOOR_MIN: usize = 8;
/// The same while the kind yields to purchases.
const YIELDING_SHARE: usize = 512;
/// How long what is seen is remembered.
const MEMORY: Duration = Duration::from_millis(500);
/// Of a limit that is too high, what is left after a turn at least.
const FALL: f64 = 0.7;
/// How much a limit that is used grows in a turn at most.
const RISE: f64 = 1.5;
/// How much a limit that is not used grows in a turn: nobody is refused for what was over minutes ago.
const RELAX: f64 = 1.01;
/// How strongly pressure is answered in a turn: its effect shows only some turns later.
const YIELD: f64 = 0.3;

/// The limit of one kind of work.
#[derive(Clone, Debug)]
pub struct Control {
    /// The time that one may take; nothing for a fixed limit.
    patience: Option<Patience>,
    max: usize,
    /// The fewest that are let in, unless the kind yields.
    floor: f64,
    limit: f64,
    /// Served a second.
    rate: f64,
    shed_rate: f64,
    in_flight: f64,
}

/// What was seen since the last turn.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// How long that is.
    pub elapsed: Duration,
    /// The mean of what was in flight.
    pub in_flight: f64,
    /// How many were served, and not failed.
    pub served: u64,
    /// How long those took together.
    pub took: Duration,
    /// How many were refused.
    pub shed: u64,
    /// How far the process is behind, as a multiple of what the kind accepts: over 1 it yields.
    pub pressure: f64,
}

impl Control {
    /// At most `max` at once, and fewer when they take longer than `target` on average; zero for `max` always.
    #[must_use]
    pub fn new(max: usize, target: Duration) -> Self {
        let patience = (!target.is_zero()).then(|| Patience::new(target));
        // All is taken to be well until it is seen not to be.
        let rate = patience.as_ref().map_or(0.0, |patience| float(max) / patience.seconds());
        let floor = float((max / FLOOR_SHARE).max(FLOOR_MIN).min(max));
        Self { patience, max, floor, limit: float(max), rate, shed_rate: 0.0, in_flight: 0.0 }
    }

    /// Works in what was seen; gives how many may be in flight from now on. To be called about every 100 ms.
    pub fn turn(&mut self, seen: Seen) -> usize {
        let elapsed = seen.elapsed.as_secs_f64();
        if elapsed > 0.0 {
            let weight = 1.0 - (-elapsed / MEMORY.as_secs_f64()).exp();
            self.in_flight += weight * (seen.in_flight - self.in_flight);
            self.rate += weight * (count(seen.served) / elapsed - self.rate);
            self.shed_rate += weight * (count(seen.shed) / elapsed - self.shed_rate);
        }
        if let Some(patience) = &mut self.patience {
            let is_lowest = self.limit <= self.floor && seen.in_flight <= self.floor && seen.pressure <= 1.0;
            patience.turn(&seen, self.floor, is_lowest);
            let time = patience.seconds();
            self.limit = self.next(time, &seen);
        }
        self.limit()
    }

    /// How many may be in flight.
    #[must_use]
    pub fn limit(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a usize")]
        let limit = self.limit as usize;
        limit
    }

    /// Whether anything is served, however little.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.rate >= 1.0
    }

    /// How many times more is asked for than is served.
    #[must_use]
    pub fn excess(&self) -> f64 {
        if self.shed_rate > 0.0 { self.shed_rate / self.rate.max(1.0) } else { 0.0 }
    }

    fn next(&self, time: f64, seen: &Seen) -> f64 {
        let (most, floor) = (float(self.max), self.floor);
        // So many are served in the time that one may take.
        let enough = (self.rate * time).max(floor);
        let answer_to_pressure = seen.pressure.max(0.01).powf(-YIELD);
        if seen.pressure > 1.0 {
            let least = float((self.max / YIELDING_SHARE).max(1));
            // From twice what there is: a moment of pressure refuses nobody.
            let used = (2.0 * self.in_flight).max(least);
            return (self.limit.min(used) * answer_to_pressure.max(FALL)).clamp(least, most);
        }
        let is_wanted = seen.shed > 0 || self.in_flight >= self.limit / 2.0 || self.limit < floor;
        let limit = if self.in_flight > enough {
            self.limit.min(enough.max(self.limit * FALL))
        } else if is_wanted {
            self.limit.max(enough.min(self.limit * answer_to_pressure.min(RISE)))
        } else {
            self.limit * RELAX
        };
        limit.clamp(1.0, most)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn float(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(super) fn count(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(500);

    fn turns(control: &mut Control, count: usize, in_flight: f64, served: u64, pressure: f64) -> usize {
        let elapsed = Duration::from_millis(100);
        for _ in 0..count {
            control.turn(Seen { elapsed, in_flight, served, took: elapsed.mul_f64(in_flight), shed: 0, pressure });
        }
        control.limit()
    }

    #[test]
    fn what_nobody_exceeds_stays() {
        let mut control = Control::new(4096, TARGET);
        assert_eq!(turns(&mut control, 100, 100.0, 400, 0.0), 4096, "25 ms each");
        assert_eq!(turns(&mut control, 100, 0.0, 0, 0.0), 4096, "an idle night");
        assert_eq!(turns(&mut control, 100, 100.0, 1, 0.0), 4096, "slow, and few: below the floor there is no queue");
    }

    #[test]
    fn what_is_served_in_the_time_of_one_is_the_limit() {
        let mut control = Control::new(4096, TARGET);
        let limit = turns(&mut control, 100, 2_000.0, 100, 0.0);
        assert!((495..=505).contains(&limit), "1,000 a second for half a second, but {limit}");
        assert_eq!(turns(&mut control, 100, 500.0, 0, 0.0), 4096 / 32, "a standstill: the floor");
        assert_eq!(turns(&mut control, 20, 4_000.0, 2_000, 0.0), 4096, "well again within 2 s");
        let mut fixed = Control::new(4096, Duration::ZERO);
        assert_eq!(turns(&mut fixed, 100, 4_096.0, 1, 10.0), 4096, "without a target");
    }

    #[test]
    fn a_few_large_ones_are_never_a_queue() {
        for max in [4, 32] {
            let mut control = Control::new(max, TARGET);
            turns(&mut control, 100, 3.0, 0, 0.0);
            assert!(turns(&mut control, 10, 3.0, 0, 0.0) >= max.min(8), "{max}: none has ended for 11 s");
        }
    }

    #[test]
    fn what_is_not_used_comes_back_by_and_by() {
        let mut control = Control::new(4096, TARGET);
        assert_eq!(turns(&mut control, 100, 4_096.0, 0, 0.0), 128);
        let limit = turns(&mut control, 100, 1.0, 10, 0.0);
        assert!((256..=512).contains(&limit), "slowly: {limit}");
        assert_eq!(turns(&mut control, 300, 1.0, 10, 0.0), 4096);
    }

    #[test]
    fn who_yields_gives_up_nearly_all_and_gets_it_back() {
        let mut control = Control::new(4096, TARGET);
        let limit = turns(&mut control, 40, 100.0, 2_000, 3.0);
        assert!(limit <= 16, "{limit}");
        assert!(turns(&mut control, 10, 8.0, 2_000, 0.1) >= 128);
        assert!(turns(&mut control, 20, 2_000.0, 2_000, 0.1) > 4_000);
    }
}
