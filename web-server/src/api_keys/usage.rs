//! Requests of keys, summed here and told to management-api every few seconds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::api_keys::{Day, RequestClass, RequestCount, UsageFlush};
use shared::event::Timestamp;
use shared::http::RequestContext;
use shared::shutdown::Shutdown;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::management_client::ManagementClient;

/// How often what was counted is told.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long management-api may take to take it.
const DEADLINE: Duration = Duration::from_secs(2);
/// The most sums held, about 100 bytes each; what comes beyond them while nobody takes any is not counted.
const SUMS_MAX: usize = 50_000;
/// How long something is told again. It is known for twice as long, so that it is never added twice.
const REPEATED_FOR: Duration = Duration::from_hours(24);

/// What was counted and is not yet told.
pub struct KeyUsage {
    management: Arc<ManagementClient>,
    sums: Mutex<Sums>,
    /// What is being told, under the same ids until it is taken.
    flushes: tokio::sync::Mutex<Vec<(UsageFlush, Instant)>>,
}

/// Requests and the last of them, by key, day and class.
#[derive(Default)]
struct Sums {
    counts: HashMap<(Uuid, Day, RequestClass), (u32, Timestamp)>,
    /// For which there was no room.
    uncounted: u64,
}

impl KeyUsage {
    pub(super) fn new(management: Arc<ManagementClient>) -> Self {
        Self { management, sums: Mutex::default(), flushes: tokio::sync::Mutex::default() }
    }

    /// Counts one request.
    pub fn count(&self, key_id: Uuid, class: RequestClass) {
        let now = Timestamp::now();
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (key_id, Day::of(now), class);
        if sums.counts.len() == SUMS_MAX && !sums.counts.contains_key(&place) {
            sums.uncounted += 1;
            return;
        }
        let (requests, last_at) = sums.counts.entry(place).or_insert((0, now));
        *requests = requests.saturating_add(1);
        *last_at = now.max(*last_at);
    }

    /// Tells what was counted until the service stops.
    pub(super) async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let mut failing = false;
        loop {
            // What is under way at the end is told again, by the last flush.
            let flushed = tokio::select! {
                flushed = async { sleep(INTERVAL).await; self.flush().await } => flushed,
                () = shutdown.stopped() => return,
            };
            if let Err(detail) = &flushed
                && !failing
            {
                tracing::warn!(detail, "the use of API keys cannot be told; trying on");
            }
            failing = flushed.is_err();
        }
    }

    /// Tells all that was counted, before the service ends.
    pub async fn flush_last(&self, limit: Duration) {
        let told = timeout(limit, self.flush()).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::error!("the last requests of API keys are not counted");
        }
    }

    async fn flush(&self) -> Result<(), String> {
        let mut flushes = self.flushes.lock().await;
        if flushes.is_empty() {
            *flushes = self.take();
        }
        // One that is taken is gone at once: a flush that ends in the middle goes on with the next.
        while let Some((flush, taken_at)) = flushes.last() {
            if taken_at.elapsed() < REPEATED_FOR {
                self.tell(flush).await?;
            } else {
                tracing::error!("requests of API keys could not be told for a day, and are not counted");
            }
            flushes.pop();
        }
        Ok(())
    }

    fn take(&self) -> Vec<(UsageFlush, Instant)> {
        let Sums { counts, uncounted } = std::mem::take(&mut *self.sums.lock().unwrap_or_else(PoisonError::into_inner));
        if uncounted > 0 {
            tracing::error!(uncounted, "there was no room to count some requests of API keys");
        }
        let count =
            |((key_id, day, class), (requests, last_at))| RequestCount { key_id, day, class, requests, last_at };
        let counts: Vec<_> = counts.into_iter().map(count).collect();
        let parts = counts.chunks(UsageFlush::COUNTS_MAX);
        let flush = |counts: &[_]| UsageFlush { flush_id: Uuid::new_v4(), counts: counts.to_vec() };
        parts.map(|counts| (flush(counts), Instant::now())).collect()
    }

    async fn tell(&self, flush: &UsageFlush) -> Result<(), String> {
        let body = serde_json::to_vec(flush).map_err(|error| error.to_string())?.into();
        let (target, context) = ("/internal/usage".to_owned(), RequestContext::own());
        let answer = self.management.command(target, body, DEADLINE, &context).await;
        let answer = answer.map_err(|problem| problem.detail().to_owned())?;
        if answer.status.is_success() { Ok(()) } else { Err(format!("management-api answers {}", answer.status)) }
    }
}
