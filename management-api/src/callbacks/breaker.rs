//! How much a host is asked at once: more the better it goes, and nothing for a while when it does not go at all.

use std::time::Duration;

use shared::backoff::Backoff;
use tokio::time::Instant;

/// Attempts at once to a host of which nothing is known.
const BEGIN: usize = 4;
/// Failures in a row after which a host is left alone.
const FAILURES_MAX: u32 = 5;
/// How long it is left alone: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(5));

/// How a host took an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answered, whatever it said of the callback.
    Well,
    /// It did not answer, or said that it cannot.
    Failed,
}

/// A host's circuit breaker, with the number of attempts that it gets at once.
#[derive(Debug)]
pub struct Breaker {
    limit: usize,
    limit_max: usize,
    failures: u32,
    open_until: Option<Instant>,
    backoff: Backoff,
}

impl Breaker {
    /// Of a host of which nothing is known; it never gets more than `limit_max` attempts at once.
    #[must_use]
    pub fn new(limit_max: usize) -> Self {
        let limit = BEGIN.min(limit_max);
        Self { limit, limit_max, failures: 0, open_until: None, backoff: Backoff::new(PAUSES.0, PAUSES.1) }
    }

    /// How many attempts may run at once. One, to find out, once the time is over for which the host is left alone.
    #[must_use]
    pub fn limit(&self, now: Instant) -> usize {
        match self.open_until {
            Some(until) if now < until => 0,
            Some(_) => 1,
            None => self.limit,
        }
    }

    /// One attempt is to find out how the host is, whatever is known of it.
    pub fn admit_trial(&mut self, now: Instant) {
        self.open_until = self.open_until.map(|until| until.min(now));
    }

    /// For how much longer the host is left alone, if it is.
    #[must_use]
    pub fn open_for(&self, now: Instant) -> Option<Duration> {
        self.open_until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// An attempt has ended.
    pub fn note(&mut self, verdict: Verdict, now: Instant) {
        match verdict {
            Verdict::Well => {
                self.limit = if self.open_until.take().is_some() { BEGIN } else { self.limit + 1 }.min(self.limit_max);
                self.failures = 0;
                self.backoff.reset();
            }
            Verdict::Failed => {
                self.limit = (self.limit / 2).max(1);
                self.failures = self.failures.saturating_add(1);
                // Attempts that began before it was left alone say nothing new.
                if self.failures >= FAILURES_MAX && self.open_for(now).is_none() {
                    self.open_until = Some(now + self.backoff.pause());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_host_that_fails_is_left_alone_for_longer_each_time_until_one_attempt_goes_well() {
        let mut breaker = Breaker::new(32);
        for _ in 0..FAILURES_MAX {
            assert!(breaker.limit(Instant::now()) > 0);
            breaker.note(Verdict::Failed, Instant::now());
        }
        let mut last = Duration::ZERO;
        for _ in 0..3 {
            let left = breaker.open_for(Instant::now()).expect("it is left alone");
            assert_eq!(breaker.limit(Instant::now()), 0);
            assert!(left >= last, "{left:?} after {last:?}");
            last = left;
            tokio::time::advance(left).await;
            assert_eq!(breaker.limit(Instant::now()), 1);
            breaker.note(Verdict::Failed, Instant::now());
        }
        tokio::time::advance(PAUSES.1).await;
        breaker.note(Verdict::Well, Instant::now());
        assert_eq!(breaker.open_for(Instant::now()), None);
        assert_eq!(breaker.limit(Instant::now()), BEGIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_gets_more_at_once_the_better_it_goes() {
        let mut breaker = Breaker::new(32);
        for _ in 0..100 {
            breaker.note(Verdict::Well, Instant::now());
        }
        assert_eq!(breaker.limit(Instant::now()), 32);
        breaker.note(Verdict::Failed, Instant::now());
        assert_eq!(breaker.limit(Instant::now()), 16);
        assert_eq!(Breaker::new(2).limit(Instant::now()), 2);
    }
}
