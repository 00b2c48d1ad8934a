//! The record path: Kafka to one transaction, exactly once.
//!
//! One thread (`reader`) polls and decodes; a few `lane`s commit, each with its own partitions; the `loader`
//! finds out where a partition goes on; `progress` is what all of them tell metrics and health. What they ask of Kafka is
//! a seam (`kafka`), and all of them live in tokio's time: the simulation runs this very code on a clock of its own.

mod batch;
mod kafka;
mod lane;
mod loader;
mod progress;
mod reader;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shared::config::Settings;
use shared::kafka::{ConsumerOptions, GroupProtocol};
use shared::shutdown::Shutdown;
use shared::supervise::Supervisor;
use tokio::sync::Notify;
use tokio::task::JoinSet;

pub use self::batch::PendingBatch;
pub(crate) use self::kafka::blocking;
pub use self::kafka::{Cluster, Consumer, Kafka};
pub use self::progress::{Progress, watch as watch_progress};
pub use self::reader::run as run_membership;
use crate::callbacks::Callbacks;
use crate::dead_letters::DeadLetters;
use crate::letter::DeadLetter;
use crate::metrics::IngestMetrics;
use crate::store::Recording;
use crate::waiters::Waiters;

/// The pause before topics or tables are looked at again.
const PREPARE_INTERVAL: Duration = Duration::from_millis(300);

/// Where dead letters are sent.
#[async_trait]
pub trait DeadLetterSink: Send + Sync + 'static {
    /// Sends each until it is confirmed or refused for good; gives the indexes of those that were refused.
    async fn publish_all(&self, letters: &[DeadLetter]) -> Vec<usize>;
}

#[async_trait]
impl DeadLetterSink for DeadLetters {
    async fn publish_all(&self, letters: &[DeadLetter]) -> Vec<usize> {
        self.publish_all(letters).await
    }
}

/// The pause before another membership of the group begins when one has failed.
const REJOIN_INTERVAL: Duration = Duration::from_millis(500);

/// How records are read and batched.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// Group membership and fetching.
    pub consumer: ConsumerOptions,
    /// Transactions at once, each on a connection of its own.
    pub lanes: usize,
    /// Records in one transaction at most.
    pub batch_records: usize,
    /// Bytes of keys, values and headers in one transaction at most.
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
                session_timeout: read_session_timeout(settings),
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
                4_194_304,
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

fn read_session_timeout(settings: &mut Settings) -> Option<Duration> {
    const NAME: &str = "KAFKA_SESSION_TIMEOUT_MS";
    let help = "a consumer silent for so long loses its partitions, ms; 0: 3000, or as long as the brokers ask for";
    let session = settings.millis(NAME, 0, 0..=300_000, help);
    if (1..1_000).contains(&session.as_millis()) {
        settings.mistake(NAME, "must be 0, or 1000 to 300000");
    }
    (!session.is_zero()).then_some(session)
}

/// Everything that the record path works with.
pub struct Ingest {
    /// Its settings.
    pub config: IngestConfig,
    /// Topics and the consumer group.
    pub kafka: Arc<dyn Kafka>,
    /// Where purchases go.
    pub store: Arc<dyn Recording>,
    /// Where poison goes.
    pub dead_letters: Arc<dyn DeadLetterSink>,
    /// Who waits for a purchase.
    pub waiters: Arc<Waiters>,
    /// Told of every commit.
    pub committed: Arc<Notify>,
    /// Who calls buyers back, if it is done here.
    pub callbacks: Option<Arc<Callbacks>>,
    /// How far it is.
    pub progress: Arc<Progress>,
    /// Its metrics.
    pub metrics: Arc<IngestMetrics>,
    /// Who notices when a part of it dies.
    pub supervisor: Supervisor,
}

impl Ingest {
    /// Records until `shutdown` says stop, whatever fails meanwhile; then lets running transactions end and
    /// leaves the group.
    pub async fn run(self, shutdown: Shutdown) {
        let ingest = Arc::new(self);
        let _background = start_background(&ingest, &shutdown);
        while !shutdown.is_stopped() {
            ingest.wait_for_topics(&shutdown).await;
            match reader::spawn(&ingest, &shutdown).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "consumer ended, joining again"),
                Err(_) => ingest.supervisor.failed("reader", "its thread has panicked, joining again"),
            }
            ingest.progress.clear();
            if !shutdown.is_stopped() {
                tokio::time::sleep(REJOIN_INTERVAL).await;
            }
        }
    }

    /// Waits until both topics are there with a leader for each partition.
    async fn wait_for_topics(&self, shutdown: &Shutdown) {
        let mut said = String::new();
        while !shutdown.is_stopped() {
            let error = match self.kafka.prepare().await {
                Ok(partitions) => {
                    self.metrics.zero_partitions(partitions);
                    self.progress.set_partition_count(partitions);
                    return self.progress.set_waiting_for(None);
                }
                Err(error) => error.to_string(),
            };
            self.progress.set_waiting_for(Some("the topics are not ready"));
            if said != error {
                tracing::warn!(error, "the topics are not ready, not recording yet");
                said = error;
            }
            tokio::select! {
                biased;
                () = shutdown.stopped() => {}
                () = tokio::time::sleep(PREPARE_INTERVAL) => {}
            }
        }
    }

    /// Whether the topic still lives the life that `incarnation` names. No, when nobody can tell.
    async fn is_alive(&self, incarnation: &str) -> bool {
        self.kafka.incarnation().await.is_ok_and(|now| now == incarnation)
    }
}

/// Starts what may start anew whenever it dies: it knows nothing that is not kept elsewhere. It ends when the set is dropped.
fn start_background(ingest: &Arc<Ingest>, shutdown: &Shutdown) -> JoinSet<()> {
    let (watching, migrating, ending) = (Arc::clone(ingest), Arc::clone(ingest), shutdown.clone());
    let watch = move || progress::watch(Arc::clone(&watching), ending.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(ingest.supervisor.restart("lag_watch", watch));
    tasks.spawn(ingest.supervisor.complete("migration", move || migrate(Arc::clone(&migrating))));
    tasks
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
