//! Every metric of this service, but for those that both services share.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use shared::event::Timestamp;

use crate::ingest::PendingBatch;
use crate::store::{Connections, Recorded};

/// The long-lived tasks and threads of management-api.
pub const TASKS: [&str; 12] = [
    "database_watch",
    "dead_letter_limits",
    "http",
    "ingest",
    "kafka_producer",
    "lag_watch",
    "lane",
    "loader",
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

/// Metrics of the record path.
pub struct IngestMetrics {
    success: IntCounter,
    duplicate: IntCounter,
    dead_letter: IntCounter,
    refused: RefusedMetrics,
    error: IntCounter,
    batch_seconds: Histogram,
    delay_seconds: Histogram,
    batch_records: Histogram,
    transaction_seconds: Histogram,
    partitions: PartitionMetrics,
    truncations: IntCounter,
    member: IntGauge,
    assigned: IntGauge,
    rebalances: IntCounter,
    capacity: Gauge,
    lanes: f64,
    estimate: Mutex<Option<f64>>,
    connections: IntGaugeVec,
}

/// How one partition is.
#[derive(Clone, Copy, Debug, Default)]
pub struct PartitionState {
    /// Records that are not recorded yet.
    pub lag: i64,
    /// The age of the oldest of them.
    pub lag_age: Duration,
    /// Whether a batch of it cannot be read.
    pub is_unreadable: bool,
    /// Whether somebody's open transaction holds it back.
    pub is_blocked: bool,
}

struct PartitionMetrics {
    lag: IntGaugeVec,
    lag_seconds: GaugeVec,
    unreadable: IntGaugeVec,
    blocked: IntGaugeVec,
}

impl PartitionMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauges =
            |name: &str, help: &str| register(registry, IntGaugeVec::new(Opts::new(name, help), &["partition"])?);
        let age = Opts::new("kafka_consumer_lag_seconds", "Age of the oldest record that is not recorded yet.");
        Ok(Self {
            lag: gauges("kafka_consumer_lag", "Records of the partition that are not recorded yet.")?,
            lag_seconds: register(registry, GaugeVec::new(age, &["partition"])?)?,
            unreadable: gauges("kafka_consumer_unreadable", "1 while a batch of the partition cannot be read.")?,
            blocked: gauges(
                "kafka_consumer_blocked_by_transaction",
                "1 while a transaction that somebody left open holds back the partition.",
            )?,
        })
    }

    fn of(&self, partition: &str) -> (IntGauge, Gauge, IntGauge, IntGauge) {
        let label = &[partition];
        (
            self.lag.with_label_values(label),
            self.lag_seconds.with_label_values(label),
            self.unreadable.with_label_values(label),
            self.blocked.with_label_values(label),
        )
    }
}

/// Dead letters that their topic does not keep.
struct RefusedMetrics {
    total: IntCounter,
    kept: IntGauge,
}

impl RefusedMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let total = "Dead letters that the dead-letter topic refused: kept in the database.";
        let kept = "Dead letters in the database that are not sent back.";
        Ok(Self {
            total: register(registry, IntCounter::new("dead_letters_refused_total", total)?)?,
            kept: register(registry, IntGauge::new("dead_letters_kept", kept)?)?,
        })
    }
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
    let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

fn register<M: prometheus::core::Collector + Clone + 'static>(registry: &Registry, metric: M) -> prometheus::Result<M> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

impl IngestMetrics {
    /// Registers the metrics, all at 0. `lanes` is how many transactions run at once.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn register(registry: &Registry, lanes: usize) -> prometheus::Result<Self> {
        let processed = Opts::new("kafka_messages_processed_total", "Records dealt with, by what became of them.");
        let processed = register(registry, IntCounterVec::new(processed, &["status"])?)?;
        let connections = Opts::new("database_pool_connections", "Connections to the database, by state.");
        let connections = register(registry, IntGaugeVec::new(connections, &["state"])?)?;
        for state in ["idle", "used"] {
            connections.with_label_values(&[state]).set(0);
        }
        Ok(Self {
            success: processed.with_label_values(&["success"]),
            duplicate: processed.with_label_values(&["duplicate"]),
            dead_letter: processed.with_label_values(&["dead_letter"]),
            refused: RefusedMetrics::register(registry)?,
            error: processed.with_label_values(&["error"]),
            batch_seconds: histogram(
                registry,
                "kafka_message_processing_seconds",
                "Time of a batch from its first poll to its commit.",
                &BATCH_BUCKETS,
            )?,
            delay_seconds: histogram(
                registry,
                "purchase_record_delay_seconds",
                "Time from a record's own timestamp to its commit.",
                &DELAY_BUCKETS,
            )?,
            batch_records: histogram(
                registry,
                "purchase_batch_records",
                "Records in a transaction.",
                &RECORDS_BUCKETS,
            )?,
            transaction_seconds: histogram(
                registry,
                "database_transaction_seconds",
                "Time of a recording transaction.",
                &BATCH_BUCKETS,
            )?,
            partitions: PartitionMetrics::register(registry)?,
            truncations: register(
                registry,
                IntCounter::new(
                    "kafka_log_truncations_total",
                    "Times a partition's log was found cut: kafka has lost records that it had confirmed.",
                )?,
            )?,
            member: register(
                registry,
                IntGauge::new("kafka_group_member", "1 while the consumer group has this replica as a member.")?,
            )?,
            assigned: register(
                registry,
                IntGauge::new("kafka_consumer_assigned_partitions", "Partitions that this replica records.")?,
            )?,
            rebalances: register(
                registry,
                IntCounter::new("kafka_rebalances_total", "Times the group gave or took partitions.")?,
            )?,
            capacity: register(
                registry,
                Gauge::new(
                    "kafka_consumer_capacity_records_per_second",
                    "What this replica could record, from the time its transactions take.",
                )?,
            )?,
            lanes: f64::from(u32::try_from(lanes).unwrap_or(u32::MAX)),
            estimate: Mutex::new(None),
            connections,
        })
    }

    /// Shows every partition at 0 until it is known better.
    pub fn zero_partitions(&self, count: usize) {
        for partition in 0..count {
            self.partitions.of(&partition.to_string());
        }
    }

    /// How a partition is.
    pub fn set_partition(&self, partition: i32, state: &PartitionState) {
        let (lag, lag_seconds, unreadable, blocked) = self.partitions.of(&partition.to_string());
        lag.set(state.lag);
        lag_seconds.set(state.lag_age.as_secs_f64());
        unreadable.set(state.is_unreadable.into());
        blocked.set(state.is_blocked.into());
    }

    /// A partition's log was found cut.
    pub fn truncation(&self) {
        self.truncations.inc();
    }

    /// Whether the group has this replica as a member.
    pub fn set_member(&self, member: bool) {
        self.member.set(member.into());
    }

    /// How many partitions this replica has.
    pub fn set_assigned(&self, count: usize) {
        self.assigned.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The group has given or taken partitions.
    pub fn rebalance(&self) {
        self.rebalances.inc();
    }

    /// An attempt to record so many records failed and is repeated.
    pub fn error(&self, records: usize) {
        self.error.inc_by(u64::try_from(records).unwrap_or(0));
    }

    /// A dead letter was refused by its topic.
    pub fn dead_letter_refused(&self) {
        self.refused.total.inc();
    }

    /// How many dead letters the database keeps that are not sent back.
    pub fn set_dead_letters_kept(&self, count: u64) {
        self.refused.kept.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A record was set aside.
    pub fn dead_letter(&self) {
        self.dead_letter.inc();
    }

    /// A batch was committed.
    pub fn recorded(&self, batch: &PendingBatch, recorded: &Recorded, transaction: Duration) {
        let count = |count: usize| u64::try_from(count).unwrap_or(0);
        self.success.inc_by(count(recorded.inserted));
        self.duplicate.inc_by(count(recorded.duplicates + batch.repeats));
        if let Some(began) = batch.began {
            self.batch_seconds.observe(began.elapsed().as_secs_f64());
        }
        self.transaction_seconds.observe(transaction.as_secs_f64());
        let records = f64::from(u32::try_from(batch.batch.rows.len()).unwrap_or(u32::MAX));
        self.batch_records.observe(records);
        let now = Timestamp::now().millis();
        let delays = self.delay_seconds.local();
        for sent_at in batch.sent_at() {
            let millis = i32::try_from(now - sent_at.millis()).unwrap_or(i32::MAX).max(0);
            delays.observe(f64::from(millis) / 1e3);
        }
        delays.flush();
        self.estimate_capacity(records, transaction);
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

    /// Connections of the pool.
    pub fn set_connections(&self, connections: Connections) {
        self.connections.with_label_values(&["idle"]).set(connections.idle.into());
        self.connections.with_label_values(&["used"]).set(connections.used.into());
    }
}
