//! Waiting between attempts: longer each time, with jitter so that replicas do not knock together.

use std::time::Duration;

use rand::RngExt;

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
        let pause = self.next.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.next = (self.next * 2).min(self.longest);
        tokio::time::sleep(pause).await;
    }
}
