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

/// A growing pause.
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Begins with about `first` and never waits longer than `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// Waits between half and all of the present pause, then doubles it.
    pub async fn sleep(&mut self) {
        let pause = self.next.mul_f64(JITTER.with_borrow_mut(|jitter| jitter.random_range(0.5..=1.0)));
        self.next = (self.next * 2).min(self.longest);
        tokio::time::sleep(pause).await;
    }
}
