//! Asks management-api what access tokens are checked with, again and again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use shared::accounts::TokenKeys;
use shared::config::TokenConfig;
use shared::shutdown::Shutdown;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::Known;
use super::keys::Keys;
use crate::management_client::{ManagementClient, calls::CallKind};
use crate::metrics::Metrics;

/// The pause between two looks, beside the shortest one. With the time that an answer may take, what is revoked counts no more within five seconds.
const INTERVAL: Duration = Duration::from_millis(1_900);
/// The pause after a look that failed, so that one may, and five seconds are still kept.
const INTERVAL_AFTER_FAILURE: Duration = Duration::from_millis(400);
/// How often at most.
const PAUSE: Duration = Duration::from_millis(100);
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(1);

/// Keeps what is known up to date; what was known stays while nobody answers.
pub(super) struct Keeper {
    names: TokenConfig,
    management: Arc<ManagementClient>,
    metrics: Arc<Metrics>,
    known: watch::Sender<Known>,
    look: Arc<Notify>,
    /// When what is known was asked for.
    asked_at: Mutex<Option<Instant>>,
}

impl Keeper {
    pub(super) fn new(
        names: TokenConfig,
        management: Arc<ManagementClient>,
        metrics: Arc<Metrics>,
        known: watch::Sender<Known>,
        look: Arc<Notify>,
    ) -> Self {
        Self { names, management, metrics, known, look, asked_at: Mutex::default() }
    }

    /// Asks until the service stops, from the first token on: where nobody uses any, nobody is asked.
    pub(super) async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let mut failing = false;
        if matches!(*self.known.borrow(), Known::Nothing) {
            tokio::select! {
                () = self.look.notified() => {}
                () = shutdown.stopped() => return,
            }
        }
        loop {
            let answered = self.ask().await;
            if let Err(detail) = &answered
                && !failing
            {
                tracing::warn!(detail, "management-api does not say which tokens count; what was known stays");
            }
            failing = answered.is_err();
            if failing {
                // Who waits for news hears that there are none.
                self.known.send_modify(|_| {});
            }
            let asked_at = *self.asked_at.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(asked_at) = asked_at {
                self.metrics.set_token_revocations_age(asked_at.elapsed());
            }
            // However many want news.
            sleep(PAUSE).await;
            tokio::select! {
                () = sleep(if failing { INTERVAL_AFTER_FAILURE } else { INTERVAL }) => {}
                () = self.look.notified() => {}
                () = shutdown.stopped() => return,
            }
        }
    }

    fn knows_keys(&self) -> bool {
        matches!(*self.known.borrow(), Known::Keys(_))
    }

    async fn ask(&self) -> Result<(), String> {
        let now = Instant::now();
        let told = match self.management.ask(CallKind::Own, "/internal/token-keys".to_owned(), DEADLINE).await {
            Ok(json) => {
                let told: TokenKeys = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
                Known::Keys(Arc::new(Keys::new(told, &self.names, now)))
            }
            // While a release rolls out, a replica may not know of accounts yet: what another one has told stays.
            Err(problem) if problem.status() == StatusCode::NOT_FOUND && !self.knows_keys() => Known::NotSetUp,
            Err(problem) => return Err(problem.detail().to_owned()),
        };
        *self.asked_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        self.known.send_replace(told);
        Ok(())
    }
}
