//! How far the record path is, for metrics and health.

mod group;
mod partition;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use shared::kafka::{Membership, PartitionBounds, Partitions};
use shared::recording::RecordingState;
use tokio::time::Instant;

use self::group::Group;
use self::partition::Partition;
pub(super) use self::partition::Stuck;
pub use self::watch::watch;
use super::Consumer;
use crate::metrics::IngestMetrics;

/// A reader that has not polled for so long is stuck.
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
    /// The lanes for which the database did not do what it was asked last; they try again.
    stuck_lanes: BTreeSet<usize>,
    /// Whether the tables are not known to be up to date.
    no_tables: bool,
    /// Why the last look at the database failed; at first, because there was none yet.
    cannot_reach: Option<String>,
    last_beat: Option<Instant>,
    consumer: Option<Weak<dyn Consumer>>,
    group: Group,
    incarnation: Option<Arc<str>>,
    partitions: BTreeMap<i32, Partition>,
}

impl Progress {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(metrics: Arc<IngestMetrics>) -> Arc<Self> {
        let state = State {
            waiting_for: Some("starting"),
            no_tables: true,
            cannot_reach: Some("the database was not reached yet".to_owned()),
            ..State::default()
        };
        Arc::new(Self { metrics, state: Mutex::new(state), incarnation_changed: AtomicBool::new(false) })
    }

    /// The readiness of the consumer.
    ///
    /// # Errors
    /// What it is waiting for, or what keeps it from its work.
    pub fn check_consumer(&self) -> Result<(), String> {
        let state = self.lock();
        match (state.waiting_for, state.last_beat) {
            (Some(reason), _) => return Err(reason.to_owned()),
            (None, Some(beat)) if beat.elapsed() < BEAT_MAX => {}
            (None, _) => return Err("the consumer does not poll".to_owned()),
        }
        state.group.check(state.partitions.len())?;
        state.partitions.iter().try_for_each(|(number, partition)| partition.check_readable(*number))
    }

    /// Whether nobody's open transaction holds back what others have sent. For `/health`: waiting is all that can be done
    /// here, and reads go on.
    ///
    /// # Errors
    /// Which partitions are held back, and from where on.
    pub fn check_transactions(&self) -> Result<(), String> {
        let state = self.lock();
        state.partitions.iter().try_for_each(|(number, partition)| partition.check_transactions(*number))
    }

    /// The readiness of the database, as the last use of it went.
    ///
    /// # Errors
    /// What went wrong; never with hosts or SQL in it: those stay in the log.
    pub fn check_database(&self) -> Result<(), String> {
        let state = self.lock();
        if let Some(reason) = &state.cannot_reach {
            return Err(reason.clone());
        }
        let failing = [
            (state.no_tables, "the database's tables are not ready"),
            (!state.stuck_lanes.is_empty(), "the database does not take writes"),
        ];
        failing.into_iter().find(|(fails, _)| *fails).map_or(Ok(()), |(_, reason)| Err(reason.to_owned()))
    }

    /// Records of all our partitions that are read by nobody yet, or not committed.
    #[must_use]
    pub fn total_lag(&self) -> i64 {
        self.lock().partitions.values().map(Partition::lag).sum()
    }

    /// What the replica has of the topic, and how much of that is not recorded yet; whether it is ready, who asks knows.
    #[must_use]
    pub fn recording_state(&self, is_ready: bool) -> RecordingState {
        let state = self.lock();
        let ages = state.partitions.values().map(Partition::lag_age);
        RecordingState {
            is_ready,
            partitions: state.partitions.len(),
            partitions_total: state.group.partition_count(),
            lag_records: state.partitions.values().map(|partition| u64::try_from(partition.lag()).unwrap_or(0)).sum(),
            lag_seconds: ages.max().unwrap_or_default().as_secs_f64(),
        }
    }

    /// Sets whether the database answers and can do its work, or why not.
    pub fn set_reachable(&self, reachable: Result<(), String>) {
        self.lock().cannot_reach = reachable.err();
    }

    pub(super) fn set_tables_ready(&self) {
        self.lock().no_tables = false;
    }

    /// The database fails a lane, or no longer does.
    pub(super) fn set_stuck(&self, lane: usize, is_stuck: bool) {
        let lanes = &mut self.lock().stuck_lanes;
        if is_stuck {
            lanes.insert(lane)
        } else {
            lanes.remove(&lane)
        };
    }

    pub(super) fn set_waiting_for(&self, reason: Option<&'static str>) {
        let mut state = self.lock();
        state.last_beat = Some(Instant::now());
        state.waiting_for = reason;
    }

    pub(super) fn set_partition_count(&self, count: usize) {
        self.lock().group.set_partition_count(count);
    }

    pub(super) fn beat(&self, membership: Membership) {
        self.metrics.set_member(membership.is_member);
        let mut state = self.lock();
        state.last_beat = Some(Instant::now());
        state.group.set_membership(membership);
    }

    /// A membership begins or ends, and its lanes with it: what lanes before it had to say counts no more.
    pub(super) fn set_consumer(&self, consumer: Option<&Arc<dyn Consumer>>) {
        let mut state = self.lock();
        state.consumer = consumer.map(Arc::downgrade);
        state.stuck_lanes.clear();
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
        entry.take_over(recorded, end);
        entry.export(partition, &self.metrics);
        let assigned = state.partitions.len();
        state.group.set_assigned(assigned);
        self.metrics.set_assigned(assigned);
    }

    pub(super) fn release(&self, partition: i32) {
        let mut state = self.lock();
        state.partitions.remove(&partition);
        Partition::default().export(partition, &self.metrics);
        let assigned = state.partitions.len();
        state.group.set_assigned(assigned);
        self.metrics.set_assigned(assigned);
    }

    pub(super) fn clear(&self) {
        let partitions: Partitions = self.lock().partitions.keys().copied().collect();
        for partition in partitions {
            self.release(partition);
        }
        self.set_consumer(None);
        self.beat(Membership::default());
    }

    /// The partition is stuck, or can be read on again.
    pub(super) fn set_unreadable(&self, partition: i32, unreadable: Option<Stuck>) {
        self.change(partition, |entry| entry.unreadable = unreadable);
    }

    /// A record was read, and it is the oldest of its partition that is not recorded.
    pub(super) fn pending(&self, partition: i32, offset: i64, sent_at_ms: Option<i64>) {
        self.change(partition, |entry| entry.pending(offset, sent_at_ms));
    }

    /// Records up to `next` are committed, those up to `read` are read; what is left is no older than `oldest_ms`.
    pub(super) fn recorded(&self, partition: i32, next: i64, read: i64, oldest_ms: Option<i64>) {
        self.change(partition, |entry| entry.recorded(next, read, oldest_ms));
    }

    fn set_bounds(&self, bounds: &PartitionBounds) {
        self.change(bounds.partition, |entry| entry.set_bounds(bounds));
    }

    fn change(&self, partition: i32, change: impl FnOnce(&mut Partition)) {
        let mut state = self.lock();
        let Some(entry) = state.partitions.get_mut(&partition) else { return };
        change(entry);
        entry.export(partition, &self.metrics);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn assigned(&self) -> (Option<Arc<dyn Consumer>>, Partitions) {
        let state = self.lock();
        (state.consumer.as_ref().and_then(Weak::upgrade), state.partitions.keys().copied().collect())
    }
}
