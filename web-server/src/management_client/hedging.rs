//! When a second attempt begins, and how many there may be.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A second attempt begins no sooner, however quick the route is.
const DELAY_MIN: Duration = Duration::from_millis(5);
/// And no later, however slow it is.
pub const DELAY_MAX: Duration = Duration::from_millis(300);
/// Nor later than after this share of the call's time.
const DEADLINE_SHARE: f64 = 0.6;
/// Of so many first attempts in a hundred the time is awaited.
const PERCENTILE: u32 = 95;
/// Fewer times than these say nothing.
const TIMES_MIN: u32 = 20;
/// Times are forgotten after this, or after twice as long.
const HALF_LIFE: Duration = Duration::from_secs(5);
/// Bounds of times from [`DELAY_MIN`] to [`DELAY_MAX`], each a tenth above the one before.
const BUCKETS: usize = 44;
const GROWTH: f64 = 1.1;

/// Attempts beyond the first are at most a tenth of the calls of so many seconds,
const SECONDS: usize = 10;
const CALLS_PER_EXTRA: u32 = 10;
/// or so many, where there are few calls.
const EXTRAS_MIN: u32 = 10;

/// A route whose calls are hedged, by its own times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// A user's purchases and totals.
    UserPurchases,
    /// A page of purchases.
    Purchases,
    /// One purchase.
    Purchase,
    /// What is no read of purchases.
    Other,
}

/// An attempt beyond a call's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// One without which the call may have no answer.
    Second,
    /// One more at the same time. It takes nothing that others need for their second: half of what there may be is left to those.
    Third,
}

/// What decides about attempts beyond the first.
#[derive(Default)]
pub struct Hedging {
    times: [RecentTimes; 4],
    extras: ExtraAttempts,
}

/// The times of a route's recent first attempts.
#[derive(Default)]
struct RecentTimes(Mutex<Times>);

struct Times {
    since: Instant,
    now: [u32; BUCKETS],
    before: [u32; BUCKETS],
}

/// Calls and attempts beyond their first, second by second.
struct ExtraAttempts {
    began: Instant,
    seconds: Mutex<[Second; SECONDS]>,
}

#[derive(Clone, Copy, Default)]
struct Second {
    /// Which second since the start.
    number: usize,
    calls: u32,
    extras: u32,
}

impl Hedging {
    /// How long a call of `route` that may take `time` waits for its first attempt before others begin: as long as 95 of a hundred
    /// took lately.
    pub fn delay(&self, route: Route, time: Duration, now: Instant) -> Duration {
        let usual = self.times[route as usize].percentile(now).unwrap_or(DELAY_MAX);
        usual.max(DELAY_MIN).min(DELAY_MAX).min(time.mul_f64(DEADLINE_SHARE))
    }

    /// Takes note of a first attempt's time. Of one that others have overtaken it is enough to know that it took longer.
    pub fn first_attempt_took(&self, route: Route, time: Duration, now: Instant) {
        self.times[route as usize].add(time, now);
    }

    /// Counts a call.
    pub fn call(&self, now: Instant) {
        self.extras.count_call(now);
    }

    /// Whether one more attempt beyond a call's first may begin; it is counted then.
    pub fn may_try_again(&self, extra: Extra, now: Instant) -> bool {
        self.extras.take(extra, now)
    }
}

impl RecentTimes {
    fn add(&self, time: Duration, now: Instant) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.age(now);
        times.now[bucket(time)] += 1;
    }

    /// A bound that 95 of a hundred times kept; none when there are too few.
    fn percentile(&self, now: Instant) -> Option<Duration> {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.age(now);
        let counts: Vec<u32> = times.now.iter().zip(&times.before).map(|(now, before)| now + before).collect();
        let all: u32 = counts.iter().sum();
        if all < TIMES_MIN {
            return None;
        }
        let wanted = all.saturating_mul(PERCENTILE).div_ceil(100);
        let mut sum = 0;
        let reached = counts.iter().position(|count| {
            sum += count;
            sum >= wanted
        });
        Some(bound(reached.unwrap_or(BUCKETS)))
    }
}

impl Default for Times {
    fn default() -> Self {
        Self { since: Instant::now(), now: [0; BUCKETS], before: [0; BUCKETS] }
    }
}

impl Times {
    fn age(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age < HALF_LIFE {
            return;
        }
        let before = if age < 2 * HALF_LIFE { self.now } else { [0; BUCKETS] };
        *self = Self { since: now, now: [0; BUCKETS], before };
    }
}

/// The first bucket whose bound is not below `time`; the last one takes all that is longer.
fn bucket(time: Duration) -> usize {
    (0..BUCKETS - 1).find(|bucket| time <= bound(*bucket)).unwrap_or(BUCKETS - 1)
}

fn bound(bucket: usize) -> Duration {
    DELAY_MIN.mul_f64(GROWTH.powi(i32::try_from(bucket).unwrap_or(i32::MAX)))
}

impl Default for ExtraAttempts {
    fn default() -> Self {
        Self { began: Instant::now(), seconds: Mutex::default() }
    }
}

impl ExtraAttempts {
    fn count_call(&self, now: Instant) {
        let number = self.number(now);
        current(&mut self.lock(), number).calls += 1;
    }

    fn take(&self, extra: Extra, now: Instant) -> bool {
        let number = self.number(now);
        let mut seconds = self.lock();
        let recent = || seconds.iter().filter(|second| second.number + SECONDS > number);
        let calls: u32 = recent().map(|second| second.calls).sum();
        let extras: u32 = recent().map(|second| second.extras).sum();
        let all = (calls / CALLS_PER_EXTRA).max(EXTRAS_MIN);
        let allowed = extras < if extra == Extra::Third { all / 2 } else { all };
        if allowed {
            current(&mut seconds, number).extras += 1;
        }
        allowed
    }

    fn number(&self, now: Instant) -> usize {
        usize::try_from(now.saturating_duration_since(self.began).as_secs()).unwrap_or(usize::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, [Second; SECONDS]> {
        self.seconds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn current(seconds: &mut [Second; SECONDS], number: usize) -> &mut Second {
    let second = &mut seconds[number % SECONDS];
    if second.number != number {
        *second = Second { number, ..Second::default() };
    }
    second
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);
    const TIME: Duration = Duration::from_secs(2);

    #[test]
    fn the_delay_is_what_95_of_a_hundred_took_within_its_limits() {
        let (hedging, now) = (Hedging::default(), Instant::now());
        let delay = |now| hedging.delay(Route::Purchase, TIME, now);
        assert_eq!(delay(now), DELAY_MAX, "nothing is known yet");
        for time in 1..=100 {
            hedging.first_attempt_took(Route::Purchase, time * MILLISECOND, now);
        }
        let usual = delay(now);
        assert!((95 * MILLISECOND..105 * MILLISECOND).contains(&usual), "{usual:?}");
        assert_eq!(hedging.delay(Route::Purchases, TIME, now), DELAY_MAX, "each route has its own");
        assert_eq!(hedging.delay(Route::Purchase, 100 * MILLISECOND, now), 60 * MILLISECOND);
        assert_eq!(delay(now + HALF_LIFE), usual, "still remembered");
        assert_eq!(delay(now + 3 * HALF_LIFE), DELAY_MAX, "forgotten");
    }

    #[test]
    fn quick_and_slow_routes_have_the_least_and_the_longest_delay() {
        let (hedging, now) = (Hedging::default(), Instant::now());
        for _ in 0..100 {
            hedging.first_attempt_took(Route::Purchase, MILLISECOND, now);
            hedging.first_attempt_took(Route::Purchases, 5 * SECOND, now);
        }
        assert_eq!(hedging.delay(Route::Purchase, TIME, now), DELAY_MIN);
        assert_eq!(hedging.delay(Route::Purchases, TIME, now), DELAY_MAX);
    }

    #[test]
    fn attempts_beyond_the_first_are_a_tenth_of_the_calls_of_ten_seconds() {
        let (hedging, start) = (Hedging::default(), Instant::now());
        let taken_by = |extra, now| (0..1_000).filter(|_| hedging.may_try_again(extra, now)).count();
        let taken = |now| taken_by(Extra::Second, now);
        assert_eq!(taken_by(Extra::Third, start), 5, "half is left to second ones");
        assert_eq!(taken(start), 5, "ten, where there are few calls");
        for second in 0..10 {
            (0..100).for_each(|_| hedging.call(start + second * SECOND));
        }
        assert_eq!(taken(start + 9 * SECOND), 90, "a hundred in all");
        assert_eq!(taken(start + 9 * SECOND), 0);
        let later = start + 30 * SECOND;
        (0..200).for_each(|_| hedging.call(later));
        assert_eq!(taken(later), 20);
    }
}
