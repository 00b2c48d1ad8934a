//! How far the record path is, for metrics and health.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use shared::event::Timestamp;
use shared::kafka::{Partitions, RecordConsumer};
use shared::shutdown::Shutdown;

use super::Ingest;
use crate::metrics::IngestMetrics;

/// How often the ends of the partitions are asked for.
const LAG_INTERVAL: Duration = Duration::from_secs(1);
/// How often the topic's incarnation is looked at.
const INCARNATION_INTERVAL: Duration = Duration::from_secs(5);
/// A thread that has not polled for so long is stuck.
const BEAT_MAX: Duration = Duration::from_secs(15);

/// What the record path says of itself.
pub struct Progress {
    metrics: Arc<IngestMetrics>,
    state: Mutex<State>,
    incarnation_changed: AtomicBool,
}

#[derive(Default)]
struct State {
    waiting_for: Option<&'static str>,
    /// Whether the last transaction failed; it is being tried again.
    cannot_write: bool,
    /// Whether the tables are not known to be up to date.
    no_tables: bool,
    /// Whether the last look at the database failed, or there was none yet.
    cannot_reach: bool,
    last_beat: Option<Instant>,
    consumer: Weak<RecordConsumer>,
    incarnation: Option<Arc<str>>,
    partitions: BTreeMap<i32, Partition>,
}

#[derive(Default)]
struct Partition {
    recorded: i64,
    end: i64,
    /// Time of the oldest record that was read and not yet recorded, or of the last one that was.
    oldest_ms: Option<i64>,
    /// When the partition was first seen to be behind, for records not yet read.
    behind_since_ms: Option<i64>,
}

impl Progress {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(metrics: Arc<IngestMetrics>) -> Arc<Self> {
        let state = State { waiting_for: Some("starting"), no_tables: true, cannot_reach: true, ..State::default() };
        Arc::new(Self { metrics, state: Mutex::new(state), incarnation_changed: AtomicBool::new(false) })
    }

    /// The readiness of the consumer.
    ///
    /// # Errors
    /// What it is waiting for.
    pub fn check_consumer(&self) -> Result<(), String> {
        let state = self.lock();
        match (state.waiting_for, state.last_beat) {
            (Some(reason), _) => Err(reason.to_owned()),
            (None, Some(beat)) if beat.elapsed() < BEAT_MAX => Ok(()),
            (None, _) => Err("the consumer thread does not poll".to_owned()),
        }
    }

    /// The readiness of the database, as the last use of it went.
    ///
    /// # Errors
    /// What went wrong. The error itself may name hosts and SQL: it stays in the log.
    pub fn check_database(&self) -> Result<(), String> {
        let state = self.lock();
        let failing = [
            (state.cannot_reach, "the database does not answer"),
            (state.no_tables, "the database's tables are not ready"),
            (state.cannot_write, "the database does not take writes"),
        ];
        failing.into_iter().find(|(fails, _)| *fails).map_or(Ok(()), |(_, reason)| Err(reason.to_owned()))
    }

    /// Records of all our partitions that are read by nobody yet, or not committed.
    #[must_use]
    pub fn total_lag(&self) -> i64 {
        self.lock().partitions.values().map(|partition| partition.end - partition.recorded).sum()
    }

    /// Sets whether the database answers at all.
    pub fn set_reachable(&self, reachable: bool) {
        self.lock().cannot_reach = !reachable;
    }

    pub(super) fn set_tables_ready(&self) {
        self.lock().no_tables = false;
    }

    pub(super) fn set_writable(&self, writable: bool) {
        self.lock().cannot_write = !writable;
    }

    pub(super) fn set_waiting_for(&self, reason: Option<&'static str>) {
        let mut state = self.lock();
        state.last_beat = Some(Instant::now());
        state.waiting_for = reason;
    }

    pub(super) fn beat(&self) {
        self.lock().last_beat = Some(Instant::now());
    }

    pub(super) fn set_consumer(&self, consumer: Option<&Arc<RecordConsumer>>) {
        self.lock().consumer = consumer.map_or_else(Weak::new, Arc::downgrade);
    }

    pub(super) fn set_incarnation(&self, incarnation: &Arc<str>) {
        self.lock().incarnation = Some(Arc::clone(incarnation));
    }

    /// Whether the topic was seen to have been made anew since the last call.
    pub(super) fn take_incarnation_change(&self) -> bool {
        self.incarnation_changed.load(Ordering::Relaxed) && self.incarnation_changed.swap(false, Ordering::Relaxed)
    }

    pub(super) fn take_over(&self, partition: i32, recorded: i64, end: i64) {
        let mut state = self.lock();
        let entry = state.partitions.entry(partition).or_default();
        *entry = Partition { recorded, end, ..Partition::default() };
        self.export(partition, entry);
        self.metrics.set_assigned(state.partitions.len());
    }

    pub(super) fn release(&self, partition: i32) {
        let mut state = self.lock();
        state.partitions.remove(&partition);
        self.metrics.set_lag(partition, 0, 0.0);
        self.metrics.set_assigned(state.partitions.len());
    }

    pub(super) fn clear(&self) {
        let partitions: Partitions = self.lock().partitions.keys().copied().collect();
        for partition in partitions {
            self.release(partition);
        }
        // Whoever records next finds out again.
        self.set_writable(true);
        self.set_consumer(None);
    }

    /// A record was read, and it is the oldest of its partition that is not recorded.
    pub(super) fn pending(&self, partition: i32, offset: i64, sent_at_ms: Option<i64>) {
        let mut state = self.lock();
        let Some(entry) = state.partitions.get_mut(&partition) else { return };
        entry.oldest_ms = sent_at_ms.or(entry.oldest_ms);
        entry.end = entry.end.max(offset + 1);
        self.export(partition, entry);
    }

    /// Records up to `next` are committed, those up to `read` are read; what is left is no older than `oldest_ms`.
    pub(super) fn recorded(&self, partition: i32, next: i64, read: i64, oldest_ms: Option<i64>) {
        let mut state = self.lock();
        let Some(entry) = state.partitions.get_mut(&partition) else { return };
        entry.recorded = next;
        entry.end = entry.end.max(next).max(read);
        entry.oldest_ms = oldest_ms;
        self.export(partition, entry);
    }

    fn set_end(&self, partition: i32, end: i64) {
        let mut state = self.lock();
        let Some(entry) = state.partitions.get_mut(&partition) else { return };
        entry.end = entry.end.max(end);
        self.export(partition, entry);
    }

    fn export(&self, number: i32, partition: &mut Partition) {
        let lag = partition.end - partition.recorded;
        let now = Timestamp::now().millis();
        if lag == 0 {
            partition.oldest_ms = None;
            partition.behind_since_ms = None;
        } else {
            partition.behind_since_ms = partition.behind_since_ms.or(Some(now));
        }
        let since = partition.oldest_ms.or(partition.behind_since_ms).unwrap_or(now);
        let age = Duration::from_millis(u64::try_from(now - since).unwrap_or(0));
        self.metrics.set_lag(number, lag, age.as_secs_f64());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn assigned(&self) -> (Option<Arc<RecordConsumer>>, Partitions) {
        let state = self.lock();
        (state.consumer.upgrade(), state.partitions.keys().copied().collect())
    }
}

/// Keeps lag true while nothing is fetched, and notices a topic that was deleted and made again.
pub(super) async fn watch_lag(ingest: Arc<Ingest>, shutdown: Shutdown) {
    let mut incarnation_due = Instant::now() + INCARNATION_INTERVAL;
    while !shutdown.is_stopped() {
        tokio::select! {
            () = tokio::time::sleep(LAG_INTERVAL) => {}
            () = shutdown.stopped() => return,
        }
        let look = Instant::now() >= incarnation_due;
        if look {
            incarnation_due = Instant::now() + INCARNATION_INTERVAL;
        }
        let ingest = Arc::clone(&ingest);
        let _ = tokio::task::spawn_blocking(move || refresh(&ingest, look)).await;
    }
}

fn refresh(ingest: &Ingest, look_at_incarnation: bool) {
    let progress = &ingest.progress;
    let (consumer, partitions) = progress.assigned();
    if let (Some(consumer), false) = (consumer, partitions.is_empty()) {
        match consumer.end_offsets(&partitions, Duration::from_secs(3)) {
            Ok(ends) => ends.iter().for_each(|(partition, end)| progress.set_end(*partition, *end)),
            Err(error) => tracing::debug!(%error, "ends of partitions not known"),
        }
    }
    if look_at_incarnation {
        let known = progress.lock().incarnation.clone();
        if let (Some(known), Ok(now)) = (known, ingest.admin.incarnation())
            && *known != *now
        {
            progress.incarnation_changed.store(true, Ordering::Relaxed);
        }
    }
}
