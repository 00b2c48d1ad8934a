//! Waiting between attempts: longer each time, with jitter so that replicas do not knock together.

use std::cell::RefCell;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

thread_local! {
    static JITTER: RefCell<StdRng> = RefCell::new(StdRng::from_rng(&mut rand::rng()));
}

/// Makes this thread's pauses repeatable: a simulation's seed decides all that is left to chance.
pub fn seed(seed: u64) {
    JITTER.set(StdRng::seed_from_u64(seed));
}

/// Between half and all of a pause.
#[must_use]
pub fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(JITTER.with_borrow_mut(|jitter| jitter.random_range(0.5..=1.0)))
}

/// A growing pause.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Begins with about `first` and never waits longer than `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, next: first, longest }
    }

    /// How long to wait now: between half and all of the present pause, which then doubles.
    pub fn pause(&mut self) -> Duration {
        let pause = jitter(self.next);
        self.next = (self.next * 2).min(self.longest);
        pause
    }

    /// Waits so long.
    pub async fn sleep(&mut self) {
        tokio::time::sleep(self.pause()).await;
    }

    /// It went well: the next pause is the first one again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_and_begin_anew_when_it_went_well() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(4));
        for longest in [1.0, 2.0, 4.0, 4.0] {
            let pause = backoff.pause().as_secs_f64();
            assert!((longest / 2.0..=longest).contains(&pause), "{pause}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_secs(1));
    }
}
