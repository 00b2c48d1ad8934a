//! How much one caller may still do at one replica.

use super::Moment;

/// How long a caller stays away to have a whole second's quota at once.
const PAUSE_SECONDS: f32 = 1.0;
/// How much of the quota is saved up for a caller who stays.
const SAVED_SECONDS: f32 = 0.5;
/// What rounding may take from a request's price.
const ROUNDING: f32 = 1e-3;

/// A token bucket whose rate may change with every look at it.
///
/// Who comes after a pause has a second's quota at once, and nothing is added in that second. Then quota comes evenly, and half
/// a second's of it can be saved up. So a second's burst is possible, and yet ten seconds have at most ten and a half seconds'
/// quota: a plain bucket that holds a second's would let in eleven. A rate that changes within the first second changes what is
/// left of it, as if it had always been the new one.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// What is left; in the first second, what has been spent, as less than nothing.
    level: f32,
    /// Until when quota is added up; in the first second, its end.
    filled: Moment,
    is_first_second: bool,
}

impl Bucket {
    /// Of a caller who has stayed away.
    #[must_use]
    pub fn rested(now: Moment) -> Self {
        Self { level: f32::INFINITY, filled: now.second_before(), is_first_second: false }
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
        if self.is_first_second { of_a_second(rate) + self.level } else { self.level }
    }

    /// Seconds until a request of price 1 can be paid at this rate.
    pub fn wait_seconds(&mut self, rate: f32, now: Moment) -> f32 {
        let missing = 1.0 - self.left(rate, now);
        if missing <= 0.0 {
            return 0.0;
        }
        let begun = if self.is_first_second { begun(rate) } else { 0.0 };
        self.filled.seconds_since(now).max(0.0) + (missing - begun).max(0.0) / rate.max(f32::MIN_POSITIVE)
    }

    /// What is owed at most.
    #[must_use]
    pub fn debts(&self) -> f32 {
        (-self.level).max(0.0)
    }

    fn spend(&mut self, price: f32, needed: f32, rate: f32, now: Moment) -> bool {
        let enough = self.left(rate, now) + ROUNDING >= needed;
        if enough {
            self.level -= price;
        }
        enough
    }

    fn fill(&mut self, rate: f32, now: Moment) {
        let passed = now.seconds_since(self.filled);
        if self.is_first_second {
            if passed < 0.0 {
                return;
            }
            self.level += of_a_second(rate) + begun(rate);
        }
        // Less than one request would be nothing, however long the caller waits.
        let full = (rate * SAVED_SECONDS).max(1.0);
        self.level = (self.level.min(full) + passed * rate).min(full);
        (self.filled, self.is_first_second) = (now, false);
        if passed >= PAUSE_SECONDS && self.level >= full {
            *self = Self { level: 0.0, filled: now.next_second(), is_first_second: true };
        }
    }
}

fn of_a_second(rate: f32) -> f32 {
    rate.max(1.0)
}

/// With what the next second begins, or who keeps to the rate would be one request behind for ever.
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
    fn a_second_s_quota_can_be_had_at_once_and_ten_seconds_have_little_more_than_theirs() {
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
                    assert!(bucket.take(1.0, rate, at(ms.into())), "{rate} a second, after {ms} ms");
                    next += 1001.0 / rate;
                }
            }
        }
    }

    #[test]
    fn a_rate_that_changes_in_the_first_second_counts_for_all_of_it() {
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
        assert!(!bucket.borrow(1.0, 100.0, at(4_900)), "400 are owed, and nothing is paid in the first second");
        assert!((5.0..15.0).contains(&bucket.debts()), "{bucket:?}");
        assert!(bucket.wait_seconds(100.0, at(4_900)) < 0.2);
        assert!(bucket.take(1.0, 100.0, at(5_100)));
    }

    #[test]
    fn the_smallest_share_lets_a_first_request_in() {
        let mut bucket = Bucket::rested(at(0));
        assert!(bucket.take(1.0, 0.001, at(0)) && !bucket.take(1.0, 0.001, at(5_000)));
        assert!(bucket.wait_seconds(0.001, at(5_000)) > 900.0);
    }
}
