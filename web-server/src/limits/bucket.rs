//! How much one caller may still do at one replica.

use super::Moment;

/// For how many windows a caller stays away to have a whole window's quota at once.
const PAUSE: f32 = 1.0;
/// How many windows' quota is saved up for a caller who stays.
const SAVED: f32 = 0.5;
/// What rounding may take from a request's price.
const ROUNDING: f32 = 1e-3;
/// For how many windows debts are remembered of a caller who stays away.
const DEBT_WINDOWS_MAX: f32 = 600.0;

/// A token bucket whose rate may change with every look at it.
///
/// Who comes after a pause has a window's quota at once, and nothing is added in that window. Then quota comes evenly, and half
/// a window's of it can be saved up. So a window's burst is possible, and yet ten windows have at most ten and a half windows'
/// quota: a plain bucket that holds a window's would let in eleven. A rate that changes within the first window changes what is
/// left of it, as if it had always been the new one.
///
/// Rates are requests a window.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// What is left; in the first window, what has been spent, as less than nothing.
    level: f32,
    /// Until when quota is added up; in the first window, its end.
    filled: Moment,
    /// The rate at the last look; with its sign turned while the first window is running, which saves every caller some bytes.
    rate: f32,
}

impl Bucket {
    /// Of a caller who has stayed away.
    #[must_use]
    pub fn rested(now: Moment) -> Self {
        Self { level: f32::INFINITY, filled: now.window_before(), rate: 0.0 }
    }

    /// Takes the price of a request, if there is so much.
    pub fn take(&mut self, price: f32, rate: f32, now: Moment) -> bool {
        self.spend(price, price, rate, now)
    }

    /// Takes the price of what is already let in, unless others' debts are to be paid first. It may become a debt itself.
    pub fn borrow(&mut self, price: f32, rate: f32, now: Moment) -> bool {
        self.spend(price, 0.0, rate, now)
    }

    /// What is left at this rate; less than nothing if there are debts.
    pub fn left(&mut self, rate: f32, now: Moment) -> f32 {
        self.fill(rate, now);
        self.left_at(rate)
    }

    /// Windows until a request of price 1 can be paid at this rate.
    pub fn wait(&mut self, rate: f32, now: Moment) -> f32 {
        let missing = 1.0 - self.left(rate, now);
        if missing <= 0.0 {
            return 0.0;
        }
        let begun = if self.is_first_window() { begun(rate) } else { 0.0 };
        self.filled.windows_since(now).max(0.0) + (missing - begun).max(0.0) / rate.max(f32::MIN_POSITIVE)
    }

    /// How many windows it takes at most, at the rate of the last look, until nothing is owed any more.
    #[must_use]
    pub fn debt_windows(&self) -> f32 {
        let rate = self.rate.abs();
        ((-self.left_at(rate)).max(0.0) / rate.max(f32::MIN_POSITIVE)).min(DEBT_WINDOWS_MAX)
    }

    fn is_first_window(&self) -> bool {
        self.rate.is_sign_negative()
    }

    fn left_at(&self, rate: f32) -> f32 {
        if self.is_first_window() { of_a_window(rate) + self.level } else { self.level }
    }

    fn spend(&mut self, price: f32, needed: f32, rate: f32, now: Moment) -> bool {
        let enough = self.left(rate, now) + ROUNDING >= needed;
        if enough {
            self.level -= price;
        }
        enough
    }

    fn fill(&mut self, rate: f32, now: Moment) {
        let passed = now.windows_since(self.filled);
        if self.is_first_window() {
            if passed < 0.0 {
                self.rate = -rate;
                return;
            }
            self.level += of_a_window(rate) + begun(rate);
        }
        // Less than one request would be nothing, however long the caller waits.
        let full = (rate * SAVED).max(1.0);
        self.level = (self.level.min(full) + passed * rate).min(full);
        (self.filled, self.rate) = (now, rate);
        if passed >= PAUSE && self.level >= full {
            *self = Self { level: 0.0, filled: now.next_window(), rate: -rate };
        }
    }
}

fn of_a_window(rate: f32) -> f32 {
    rate.max(1.0)
}

/// With what the next window begins, or who keeps to the rate would be one request behind for ever.
fn begun(rate: f32) -> f32 {
    rate.min(1.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    /// How many requests pass that come every millisecond from `from` to `to`.
    fn admitted(bucket: &mut Bucket, rate: f32, from: u64, to: u64) -> usize {
        (from..to).filter(|ms| bucket.take(1.0, rate, at(*ms))).count()
    }

    #[test]
    fn a_window_s_quota_can_be_had_at_once_and_ten_windows_have_little_more_than_theirs() {
        let mut bucket = Bucket::rested(at(0));
        assert_eq!((0..200).filter(|_| bucket.take(1.0, 100.0, at(0))).count(), 100);
        assert_eq!(admitted(&mut bucket, 100.0, 0, 1_000), 0);
        assert_eq!(admitted(&mut bucket, 100.0, 1_000, 10_000), 900);
        // Another pause, and half of it is saved up for who does not pause.
        assert_eq!((0..200).filter(|_| bucket.take(1.0, 100.0, at(11_500))).count(), 100);
        assert!(bucket.take(1.0, 100.0, at(12_700)));
        assert_eq!((0..200).filter(|_| bucket.take(1.0, 100.0, at(13_400))).count(), 50);
    }

    #[test]
    fn who_keeps_to_the_rate_is_never_refused() {
        for rate in [1.0, 7.0, 100.0, 333.0] {
            let (mut bucket, mut next) = (Bucket::rested(at(0)), 0.0);
            for ms in 0..30_000_u16 {
                if f32::from(ms) >= next {
                    assert!(bucket.take(1.0, rate, at(ms.into())), "{rate} a window, after {ms} ms");
                    next += 1001.0 / rate;
                }
            }
        }
    }

    #[test]
    fn a_rate_that_changes_in_the_first_window_counts_for_all_of_it() {
        let mut bucket = Bucket::rested(at(0));
        assert_eq!(admitted(&mut bucket, 10.0, 0, 200), 10);
        assert_eq!(admitted(&mut bucket, 100.0, 200, 1_000), 90);
        let mut bucket = Bucket::rested(at(0));
        assert_eq!(admitted(&mut bucket, 50.0, 0, 200), 50);
        assert_eq!(admitted(&mut bucket, 10.0, 200, 1_000), 0);
    }

    #[test]
    fn debts_are_paid_before_anything_else_and_nobody_else_may_make_more() {
        let mut bucket = Bucket::rested(at(0));
        assert!(bucket.take(1.0, 100.0, at(0)) && bucket.borrow(499.0, 100.0, at(0)));
        assert!(!bucket.borrow(1.0, 100.0, at(4_900)), "400 are owed, and nothing is paid in the first window");
        assert!((0.05..0.15).contains(&bucket.debt_windows()), "{bucket:?}");
        assert!(bucket.wait(100.0, at(4_900)) < 0.2);
        assert!(bucket.take(1.0, 100.0, at(5_100)));
    }

    #[test]
    fn what_is_spent_of_the_first_window_s_quota_is_no_debt() {
        let mut bucket = Bucket::rested(at(0));
        assert_eq!(admitted(&mut bucket, 100.0, 0, 900), 100);
        assert!(bucket.debt_windows() < 1e-6, "{bucket:?}");
        assert!(Bucket::rested(at(0)).debt_windows() < 1e-6);
        assert!(bucket.borrow(0.0, 100.0, at(900)) && !bucket.borrow(1.0, 50.0, at(900)));
        assert!((0.9..1.1).contains(&bucket.debt_windows()), "at half the rate it is one");
    }

    #[test]
    fn the_smallest_share_lets_a_first_request_in() {
        let mut bucket = Bucket::rested(at(0));
        assert!(bucket.take(1.0, 0.001, at(0)) && !bucket.take(1.0, 0.001, at(5_000)));
        assert!(bucket.wait(0.001, at(5_000)) > 900.0);
    }
}
