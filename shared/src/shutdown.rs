//! The order of ending: drain (not ready, still serving), then stop.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Tells every part of a service how far its shutdown has come. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    stopped: CancellationToken,
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

    /// Waits for the stop.
    pub async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// On SIGTERM or SIGINT drains, and `drain_delay` later stops; a second signal stops at once.
    ///
    /// # Errors
    /// When the process cannot listen to signals.
    pub fn on_signals(&self, drain_delay: Duration) -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        Ok(async move {
            let mut next = async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };
            next().await;
            tracing::info!(drain_delay_ms = drain_delay.as_millis(), "draining");
            shutdown.drain();
            tokio::select! { () = next() => {}, () = tokio::time::sleep(drain_delay) => {} }
            tracing::info!("stopping");
            shutdown.stop();
        })
    }
}
