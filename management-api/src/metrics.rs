//! Every metric of this service, but for those that both services share.

mod callbacks;
mod partitions;
mod passwords;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shared::event::Timestamp;
use shared::metrics::{Buckets, Counter, CounterBy, Gauge, Histogram, Label, Registry, value};

pub use self::callbacks::{AttemptLabel, CallbackFate, CallbackMetrics};
use self::partitions::PartitionMetrics;
pub use self::partitions::PartitionState;
pub use self::passwords::PasswordMetrics;

/// The long-lived tasks and threads of management-api.
pub const TASKS: [&str; 18] = [
    "callback_upkeep",
    "callbacks",
    "commits",
    "database_watch",
    "dead_letter_limits",
    "first_admin",
    "http",
    "ingest",
    "kafka_producer",
    "kafka_sender",
    "lag_watch",
    "lane",
    "loader",
    "metrics",
    "migration",
    "operations",
    "reader",
    "waiters",
];

/// Bounds of times that a batch or a transaction takes, in seconds.
const BATCH_BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0, 60.0];
/// Bounds of the time from record to commit, in seconds; the service level is 5 s.
const DELAY_BUCKETS: [f64; 14] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 120.0, 600.0];
/// Bounds of records in a batch.
const RECORDS_BUCKETS: [f64; 10] = [1.0, 5.0, 20.0, 100.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 100_000.0];
/// How much the newest measurement counts in the estimate of the capacity.
const CAPACITY_WEIGHT: f64 = 0.2;

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Success,
    Duplicate,
    DeadLetter,
    Error,
}

impl Label for Outcome {
    const NAME: &'static str = "status";
    const ALL: &'static [Self] = &[Self::Success, Self::Duplicate, Self::DeadLetter, Self::Error];

    fn text(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Duplicate => "duplicate",
            Self::DeadLetter => "dead_letter",
            Self::Error => "error",
        }
    }
}

/// Metrics of the record path.
pub struct IngestMetrics {
    processed: CounterBy<Outcome>,
    refused: RefusedMetrics,
    batch_seconds: Histogram,
    delay_seconds: Histogram,
    batch_records: Histogram,
    transaction_seconds: Histogram,
    partitions: PartitionMetrics,
    truncations: Counter,
    lost: Counter,
    member: Gauge,
    assigned: Gauge,
    rebalances: Counter,
    capacity: Gauge,
    lanes: f64,
    estimate: Mutex<Option<f64>>,
    idle_connections: Gauge,
    used_connections: Gauge,
}

/// What a transaction has done.
#[derive(Clone, Copy, Debug)]
pub struct CommittedBatch {
    /// Rows that it has written.
    pub inserted: usize,
    /// Rows that were there before, or stood in the batch before.
    pub duplicates: usize,
    /// Rows that it was given.
    pub rows: usize,
    /// From the first record's poll to the commit.
    pub since_poll: Option<Duration>,
    /// From its beginning to the commit.
    pub transaction: Duration,
}

/// Dead letters that their topic does not keep.
struct RefusedMetrics {
    total: Counter,
    kept: Gauge,
}

impl RefusedMetrics {
    fn register(registry: &Registry) -> Self {
        let total = "Dead letters that the dead-letter topic refused: kept in the database.";
        let kept = "Dead letters in the database that are not sent back.";
        Self {
            total: registry.counter("dead_letters_refused_total", total, &[]),
            kept: registry.gauge("dead_letters_kept", kept, &[]),
        }
    }
}

fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}

impl IngestMetrics {
    /// Its histograms, for [`Registry::new`].
    pub const BUCKETS: [Buckets<'static>; 4] = [
        ("kafka_message_processing_seconds", &BATCH_BUCKETS),
        ("purchase_record_delay_seconds", &DELAY_BUCKETS),
        ("purchase_batch_records", &RECORDS_BUCKETS),
        ("database_transaction_seconds", &BATCH_BUCKETS),
    ];

    /// Registers the metrics, all at 0. `lanes` is how many transactions run at once.
    #[must_use]
    pub fn register(registry: &Registry, lanes: usize) -> Self {
        let gauge = |name, help| registry.gauge(name, help, &[]);
        let counter = |name, help| registry.counter(name, help, &[]);
        let histogram = |name, help| registry.histogram(name, help, &[]);
        let connections = |state| {
            registry.gauge("database_pool_connections", "Connections to the database, by state.", &[("state", state)])
        };
        let [batch_seconds, delay_seconds, batch_records, transaction_seconds] = Self::BUCKETS.map(|(name, _)| name);
        let processed = "Records dealt with, by what became of them.";
        let cut = "Times a partition's log was found cut: kafka has lost records that it had confirmed.";
        let lost = "Records that kafka deleted before they were recorded.";
        let capacity = "What this replica could record, from the time its transactions take.";
        Self {
            processed: CounterBy::register(registry, "kafka_messages_processed_total", processed),
            refused: RefusedMetrics::register(registry),
            batch_seconds: histogram(batch_seconds, "Time of a batch from its first poll to its commit."),
            delay_seconds: histogram(delay_seconds, "Time from a record's own timestamp to its commit."),
            batch_records: histogram(batch_records, "Records in a transaction."),
            transaction_seconds: histogram(transaction_seconds, "Time of a recording transaction."),
            partitions: PartitionMetrics::new(registry),
            truncations: counter("kafka_log_truncations_total", cut),
            lost: counter("kafka_records_lost_total", lost),
            member: gauge("kafka_group_member", "1 while the consumer group has this replica as a member."),
            assigned: gauge("kafka_consumer_assigned_partitions", "Partitions that this replica records."),
            rebalances: counter("kafka_rebalances_total", "Times the group gave or took partitions."),
            capacity: gauge("kafka_consumer_capacity_records_per_second", capacity),
            lanes: value(lanes),
            estimate: Mutex::new(None),
            idle_connections: connections("idle"),
            used_connections: connections("used"),
        }
    }

    /// Shows every partition at 0 until it is known better.
    pub fn zero_partitions(&self, count: usize) {
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        (0..count).for_each(|partition| self.set_partition(partition, &PartitionState::default()));
    }

    /// How a partition is.
    pub fn set_partition(&self, partition: i32, state: &PartitionState) {
        self.partitions.set(partition, state);
    }

    /// A partition's log was found cut.
    pub fn truncation(&self) {
        self.truncations.increment(1);
    }

    /// So many records were deleted before they were recorded.
    pub fn lost(&self, records: i64) {
        self.lost.increment(u64::try_from(records).unwrap_or(0));
    }

    /// Whether the group has this replica as a member.
    pub fn set_member(&self, member: bool) {
        self.member.set(flag(member));
    }

    /// How many partitions this replica has.
    pub fn set_assigned(&self, partitions: usize) {
        self.assigned.set(value(partitions));
    }

    /// The group has given or taken partitions.
    pub fn rebalance(&self) {
        self.rebalances.increment(1);
    }

    /// An attempt to record so many records failed and is repeated.
    pub fn error(&self, records: usize) {
        self.count(Outcome::Error, records);
    }

    /// A dead letter was refused by its topic.
    pub fn dead_letter_refused(&self) {
        self.refused.total.increment(1);
    }

    /// How many dead letters the database keeps that are not sent back.
    pub fn set_dead_letters_kept(&self, letters: u64) {
        self.refused.kept.set(value(usize::try_from(letters).unwrap_or(usize::MAX)));
    }

    /// A record was set aside.
    pub fn dead_letter(&self) {
        self.count(Outcome::DeadLetter, 1);
    }

    /// A batch was committed.
    pub fn committed(&self, batch: &CommittedBatch, sent_at: impl Iterator<Item = Timestamp>) {
        self.count(Outcome::Success, batch.inserted);
        self.count(Outcome::Duplicate, batch.duplicates);
        if let Some(since_poll) = batch.since_poll {
            self.batch_seconds.record(since_poll.as_secs_f64());
        }
        self.transaction_seconds.record(batch.transaction.as_secs_f64());
        let records = value(batch.rows);
        self.batch_records.record(records);
        let now = Timestamp::now().millis();
        for sent_at in sent_at {
            let millis = i32::try_from(now - sent_at.millis()).unwrap_or(i32::MAX).max(0);
            self.delay_seconds.record(f64::from(millis) / 1e3);
        }
        self.estimate_capacity(records, batch.transaction);
    }

    fn count(&self, outcome: Outcome, records: usize) {
        self.processed.of(outcome).increment(u64::try_from(records).unwrap_or(0));
    }

    fn estimate_capacity(&self, records: f64, transaction: Duration) {
        // Small transactions say little: most of their time is the commit itself.
        if records < 100.0 {
            return;
        }
        let now = self.lanes * records / transaction.as_secs_f64().max(1e-6);
        let mut estimate = self.estimate.lock().unwrap_or_else(PoisonError::into_inner);
        let smooth = estimate.map_or(now, |before| before + CAPACITY_WEIGHT * (now - before));
        *estimate = Some(smooth);
        self.capacity.set(smooth);
    }

    /// Connections to the database.
    pub fn set_connections(&self, idle: u32, used: u32) {
        self.idle_connections.set(f64::from(idle));
        self.used_connections.set(f64::from(used));
    }
}
