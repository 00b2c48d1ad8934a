//! The producer: idempotent, acks=all, polled by a thread of its own, and built anew when librdkafka declares it dead.

mod instance;
mod options;
mod record;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use self::instance::Instance;
pub use self::options::{Codec, ProducerOptions};
pub use self::record::{Delivery, HeaderRef, OutgoingRecord, PublishError, text_headers};
use self::trouble::{Backoff, Trouble};
use super::{ClientMetrics, KafkaError};
use crate::config::KafkaConfig;
use crate::metrics::Counter;
use crate::shutdown::Shutdown;
use crate::supervise::Supervisor;

/// The name of the thread that polls.
const TASK: &str = "kafka_producer";
/// How long one poll goes on: how soon a death is mended, and an end seen.
const POLL: Duration = Duration::from_millis(50);
/// How long the records of a dead producer may take to be given up.
const LAST_REPORTS: Duration = Duration::from_secs(30);

/// Publishes records. Clone the `Arc` around it.
pub struct RecordProducer(Arc<Core>);

struct Core {
    config: KafkaConfig,
    client_id: String,
    options: ProducerOptions,
    metrics: Arc<ClientMetrics>,
    current: ArcSwap<Instance>,
    trouble: Arc<Trouble>,
    restarts: Counter,
    shutdown: Shutdown,
    ended: AtomicBool,
}

impl RecordProducer {
    /// Builds a producer. It connects in the background: a broker that is away is no error.
    ///
    /// # Errors
    /// When the settings are not taken.
    pub fn new(
        config: &KafkaConfig,
        client_id: &str,
        options: ProducerOptions,
        supervisor: &Supervisor,
    ) -> Result<Arc<Self>, KafkaError> {
        let metrics = Arc::new(ClientMetrics::register(supervisor.registry(), "producer"));
        let restarts = "Producers built anew after a fatal error of the one before.";
        let restarts = supervisor.registry().counter("kafka_producer_restarts_total", restarts, &[]);
        let trouble = Arc::new(Trouble::default());
        let instance = Instance::new(config, client_id, &options, &metrics, &trouble)?;
        let core = Arc::new(Core {
            config: config.clone(),
            client_id: client_id.to_owned(),
            options,
            metrics,
            current: ArcSwap::from_pointee(instance),
            trouble,
            restarts,
            shutdown: supervisor.shutdown().clone(),
            ended: AtomicBool::new(false),
        });
        let (serving, mut backoff) = (Arc::clone(&core), Backoff::default());
        // What a panic of a report or of the statistics leaves undone, the next poll does.
        let thread = supervisor.thread(TASK, move || serving.serve(&mut backoff));
        thread.map_err(|error| KafkaError::Admin(format!("no thread for the producer: {error}")))?;
        Ok(Arc::new(Self(core)))
    }

    /// Hands a record to the producer; what becomes of it arrives on the receiver. Never blocks.
    ///
    /// # Errors
    /// When nothing was, or will be, sent.
    pub fn publish(&self, record: &OutgoingRecord<'_>) -> Result<oneshot::Receiver<Delivery>, PublishError> {
        self.0.current.load().send(record)
    }

    /// Whether a broker is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.metrics.is_connected()
    }

    /// Whether records are taken and delivered, as far as is known without trying.
    ///
    /// # Errors
    /// Why not, for the operator.
    pub fn check(&self) -> Result<(), String> {
        self.0.trouble.check()
    }

    /// Waits until every record was delivered or given up, at most `deadline`. Blocks. Gives how many are left.
    #[must_use]
    pub fn flush(&self, deadline: Duration) -> usize {
        self.0.current.load_full().flush(deadline)
    }
}

impl Drop for RecordProducer {
    fn drop(&mut self) {
        // The thread lets go of the client, whose end takes a while and blocks.
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl Core {
    /// Polls until the producer is dropped, and replaces the client that has died.
    fn serve(&self, backoff: &mut Backoff) {
        while !self.ended.load(Ordering::Relaxed) {
            self.shutdown.faults().check(TASK);
            let instance = self.current.load_full();
            instance.poll(POLL);
            if instance.is_dead() && backoff.is_due(instance.was_well()) {
                self.replace(instance);
            }
        }
    }

    fn replace(&self, dead: Arc<Instance>) {
        match Instance::new(&self.config, &self.client_id, &self.options, &self.metrics, &self.trouble) {
            Ok(fresh) => {
                self.current.store(Arc::new(fresh));
                self.restarts.increment(1);
                tracing::warn!("kafka producer built anew after a fatal error");
                // Its last reports may take a while, which must not keep the next one from being polled.
                std::thread::spawn(move || dead.flush(LAST_REPORTS));
            }
            Err(error) => tracing::error!(%error, "kafka producer cannot be built anew"),
        }
    }
}
