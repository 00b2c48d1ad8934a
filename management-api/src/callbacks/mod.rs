//! Calling buyers back: what is due is taken up, sent, and written down, by whichever replica. At least once, under an id that stays.

mod breaker;
mod config;
mod dispatcher;
mod failing;
mod hosts;
mod operator;
mod pending;
mod schedule;
pub mod sending;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use shared::shutdown::Shutdown;
use tokio::sync::{Mutex, mpsc};
use tokio::time::sleep;

pub use self::config::{CallbackConfig, DispatchConfig};
use self::dispatcher::Dispatcher;
pub use self::operator::{OperatorError, list_hosts, resend_dead, resend_one, switch_on};
pub use self::pending::PendingCallback;
pub use self::schedule::Schedule;
use self::sending::{AttemptOutcome, CallbackClient, CallbackRequest};
use crate::metrics::CallbackMetrics;
use crate::store::{CallbackBatch, CallbackOutbox};

/// The most callbacks that are held in memory.
const HELD_MAX: usize = 4_000;
/// How often it is counted what there is.
const COUNT_INTERVAL: Duration = Duration::from_secs(10);
/// How often what is old is forgotten.
const FORGET_INTERVAL: Duration = Duration::from_mins(5);

/// Delivers one callback, once.
#[async_trait]
pub trait Courier: Send + Sync + 'static {
    /// Gives what became of it.
    async fn deliver(&self, callback: &PendingCallback) -> AttemptOutcome;
}

#[async_trait]
impl Courier for CallbackClient {
    async fn deliver(&self, callback: &PendingCallback) -> AttemptOutcome {
        let Some(url) = &callback.purchase.callback_url else { return AttemptOutcome::Forbidden };
        let (id, body) = (callback.purchase.purchase_id, callback.body().into());
        self.send(&CallbackRequest { id, url, body, traceparent: None }).await
    }
}

/// Takes callbacks from the outbox to their receivers.
pub struct Callbacks {
    store: Arc<dyn CallbackOutbox>,
    courier: Arc<dyn Courier>,
    config: DispatchConfig,
    metrics: Arc<CallbackMetrics>,
    /// What was recorded here, and for how many there is room.
    inbox: Mutex<mpsc::UnboundedReceiver<CallbackBatch>>,
    entrance: mpsc::UnboundedSender<CallbackBatch>,
    in_inbox: AtomicUsize,
    held: AtomicUsize,
}

impl Callbacks {
    /// Nothing is taken up yet.
    #[must_use]
    pub fn new(
        store: Arc<dyn CallbackOutbox>,
        courier: Arc<dyn Courier>,
        config: DispatchConfig,
        metrics: Arc<CallbackMetrics>,
    ) -> Arc<Self> {
        let (entrance, inbox) = mpsc::unbounded_channel();
        let (in_inbox, held) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { store, courier, config, metrics, inbox: Mutex::new(inbox), entrance, in_inbox, held })
    }

    /// For how long what is recorded here is called back from here.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.config.lease()
    }

    /// Takes up what was recorded here just now. Where there is no room, somebody does when its claim ends.
    pub fn take_up(&self, batches: Vec<CallbackBatch>) {
        for batch in batches {
            let count = batch.purchases.len();
            if count <= self.room() {
                self.in_inbox.fetch_add(count, Ordering::Relaxed);
                // It goes nowhere only where nothing is called back any more.
                let _ = self.entrance.send(batch);
            }
        }
    }

    /// How many more can be held.
    fn room(&self) -> usize {
        HELD_MAX.saturating_sub(self.in_inbox.load(Ordering::Relaxed) + self.held.load(Ordering::Relaxed))
    }

    /// Delivers until the shutdown.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let mut inbox = self.inbox.lock().await;
        Dispatcher::new(&self).run(&mut inbox, &shutdown).await;
    }
}

/// Counts what there is and forgets what is old, wherever callbacks are delivered.
pub async fn keep_house(
    store: Arc<dyn CallbackOutbox>,
    metrics: Arc<CallbackMetrics>,
    dead_kept: Duration,
    shutdown: Shutdown,
) {
    let mut forget_in = FORGET_INTERVAL;
    while !shutdown.is_stopped() {
        match store.count_callbacks().await {
            Ok(counts) => {
                metrics.set_waiting(counts.waiting, counts.oldest_due);
                metrics.set_given_up(counts.dead, counts.hosts_switched_off);
            }
            Err(error) => tracing::debug!(%error, "callbacks not counted"),
        }
        forget_in = forget_in.saturating_sub(COUNT_INTERVAL);
        if forget_in.is_zero() {
            forget_in = FORGET_INTERVAL;
            if let Err(error) = store.forget_callbacks(dead_kept).await {
                tracing::debug!(%error, "old callbacks not forgotten");
            }
        }
        sleep(COUNT_INTERVAL).await;
    }
}
