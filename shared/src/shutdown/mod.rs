//! The order of ending: drain (not ready, still serving), then stop; and the certainty that it ends.

mod signals;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::supervise::Faults;

/// How long what still runs may take to end once a part that cannot be missed has died.
const FAILED_PATIENCE: Duration = Duration::from_secs(1);

/// Tells every part of a service how far its shutdown has come. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    stopped: CancellationToken,
    failure: Arc<OnceLock<&'static str>>,
    faults: Faults,
}

impl Shutdown {
    /// Not shutting down.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins to drain: readiness says no, requests are still served.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Stops accepting work.
    pub fn stop(&self) {
        self.drain();
        self.stopped.cancel();
    }

    /// Stops at once, because `task` has died and the service cannot do without it.
    pub fn fail(&self, task: &'static str) {
        // The first death is the one to tell; others may follow from it.
        let _ = self.failure.set(task);
        self.stop();
    }

    /// The task whose death has stopped the service, if that is why.
    #[must_use]
    pub fn failure(&self) -> Option<&'static str> {
        self.failure.get().copied()
    }

    /// How long a part of the service may take to end: `limit`, or next to nothing when the service has failed.
    #[must_use]
    pub fn patience(&self, limit: Duration) -> Duration {
        if self.failure().is_some() { limit.min(FAILED_PATIENCE) } else { limit }
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Whether it is time to stop.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.is_cancelled()
    }

    /// Waits for the beginning of the drain.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Waits for the stop.
    pub async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// What tests break in this service.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}
