//! The record path: Kafka to one transaction, exactly once.
//!
//! One thread (`reader`) polls and decodes; a few `lane`s commit, each with its own partitions; the `loader`
//! finds out where a partition goes on; `progress` is what all of them tell metrics and health.

mod batch;
mod lane;
mod loader;
mod progress;
mod reader;

use std::sync::Arc;
use std::time::Duration;

use shared::config::{KafkaConfig, Settings};
use shared::kafka::{ClientMetrics, ConsumerOptions, GroupProtocol, KafkaError, TopicAdmin};
use shared::shutdown::Shutdown;

pub use self::batch::PendingBatch;
pub use self::progress::Progress;
use crate::dead_letters::DeadLetters;
use crate::metrics::IngestMetrics;
use crate::store::Store;
use crate::waiters::Waiters;

/// The pause before topics or tables are looked at again.
const PREPARE_INTERVAL: Duration = Duration::from_millis(300);

/// How records are read and batched.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// Group membership and fetching.
    pub consumer: ConsumerOptions,
    /// Transactions at once, each on a connection of its own.
    pub lanes: usize,
    /// Records in one transaction at most.
    pub batch_records: usize,
    /// Bytes of keys and values in one transaction at most.
    pub batch_bytes: usize,
    /// How long a batch waits for more records while its lane is free.
    pub linger: Duration,
    /// An artificial pause before each transaction, standing for a remote database in scaling trials.
    pub batch_delay: Duration,
}

impl IngestConfig {
    /// Reads the settings.
    pub fn read(settings: &mut Settings) -> Self {
        Self {
            consumer: ConsumerOptions {
                group: settings.text("KAFKA_CONSUMER_GROUP", "purchase-consumer-group", "consumer group"),
                group_protocol: settings.parsed::<GroupProtocol>(
                    "KAFKA_GROUP_PROTOCOL",
                    "classic",
                    "classic (cooperative rebalances among members) or consumer (KIP-848, by the broker)",
                ),
                session_timeout: settings.millis(
                    "KAFKA_SESSION_TIMEOUT_MS",
                    10_000,
                    1_000..=300_000,
                    "a consumer silent for so long loses its partitions, ms",
                ),
                fetch_ahead_kib: settings.size(
                    "KAFKA_FETCH_AHEAD_KIB",
                    1_024,
                    64..=1_048_576,
                    "bytes fetched ahead over all partitions, KiB",
                ),
                fetch_wait: settings.millis(
                    "KAFKA_FETCH_WAIT_MS",
                    100,
                    1..=10_000,
                    "how long a broker holds a fetch that finds nothing, ms",
                ),
            },
            lanes: settings.size("RECORD_LANES", 2, 1..=16, "transactions at once, each on its own connection"),
            batch_records: settings.size("RECORD_BATCH_MAX_RECORDS", 5_000, 1..=100_000, "records in a transaction"),
            batch_bytes: settings.size(
                "RECORD_BATCH_MAX_BYTES",
                2_097_152,
                1_024..=67_108_864,
                "bytes of records in a transaction",
            ),
            linger: settings.millis("RECORD_LINGER_MS", 5, 0..=1_000, "how long a batch waits for more records, ms"),
            batch_delay: settings.millis(
                "RECORD_BATCH_DELAY_MS",
                0,
                0..=60_000,
                "pause before each transaction, ms; stands for a remote database in scaling trials",
            ),
        }
    }
}

/// Everything that the record path works with.
pub struct Ingest {
    /// Its settings.
    pub config: IngestConfig,
    /// Kafka's settings.
    pub kafka: KafkaConfig,
    /// Where purchases go.
    pub store: Arc<dyn Store>,
    /// Where poison goes.
    pub dead_letters: Arc<DeadLetters>,
    /// Who waits for a purchase.
    pub waiters: Arc<Waiters>,
    /// Topics and their incarnations.
    pub admin: Arc<TopicAdmin>,
    /// How far it is.
    pub progress: Arc<Progress>,
    /// Its metrics.
    pub metrics: Arc<IngestMetrics>,
    /// The consumer's own metrics.
    pub client_metrics: Arc<ClientMetrics>,
}

impl Ingest {
    /// Records until `shutdown` says stop, whatever fails meanwhile; then lets running transactions end and
    /// leaves the group.
    pub async fn run(self, shutdown: Shutdown) {
        let ingest = Arc::new(self);
        let lag = tokio::spawn(progress::watch_lag(Arc::clone(&ingest), shutdown.clone()));
        let tables = tokio::spawn(migrate(Arc::clone(&ingest)));
        while !shutdown.is_stopped() {
            ingest.wait_for_topics(&shutdown).await;
            match reader::spawn(&ingest, &shutdown).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "consumer ended, joining again"),
                Err(_) => tracing::error!("consumer thread panicked, joining again"),
            }
            ingest.progress.clear();
            if !shutdown.is_stopped() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        lag.abort();
        tables.abort();
    }

    /// Waits until both topics are there with a leader for each partition.
    async fn wait_for_topics(&self, shutdown: &Shutdown) {
        let mut said = String::new();
        while !shutdown.is_stopped() {
            let Err(error) = self.check_topics().await else { return self.progress.set_waiting_for(None) };
            self.progress.set_waiting_for(Some("the topics are not ready"));
            let error = error.to_string();
            if said != error {
                tracing::warn!(error, "the topics are not ready, not recording yet");
                said = error;
            }
            tokio::select! {
                () = tokio::time::sleep(PREPARE_INTERVAL) => {}
                () = shutdown.stopped() => {}
            }
        }
    }

    async fn check_topics(&self) -> Result<(), KafkaError> {
        self.admin.ensure().await?;
        let admin = Arc::clone(&self.admin);
        let count = tokio::task::spawn_blocking(move || admin.partition_count()).await;
        let count = count.unwrap_or_else(|error| Err(KafkaError::Admin(error.to_string())))?;
        self.metrics.zero_partitions(count);
        Ok(())
    }

    /// Whether the topic still lives the life that `incarnation` names. No, when nobody can tell.
    async fn is_alive(&self, incarnation: &str) -> bool {
        let admin = Arc::clone(&self.admin);
        let now = tokio::task::spawn_blocking(move || admin.incarnation()).await;
        now.is_ok_and(|now| now.is_ok_and(|now| now == incarnation))
    }
}

/// Brings the tables up to date, trying until it succeeds. The consumer joins its group meanwhile: the lag shows, and
/// nothing is recorded before the offsets can be read.
async fn migrate(ingest: Arc<Ingest>) {
    let mut said = String::new();
    while let Err(error) = ingest.store.migrate().await {
        let error = error.to_string();
        if said != error {
            tracing::warn!(error, "the database's tables are not ready, not recording yet");
            said = error;
        }
        tokio::time::sleep(PREPARE_INTERVAL).await;
    }
    ingest.progress.set_tables_ready();
}
