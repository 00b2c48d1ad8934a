//! The producer: idempotent, acks=all, and built anew when librdkafka declares it dead.
//!
//! Its batches clock themselves. One thread sends: all that has gathered, then it waits for the answers, while the next
//! records gather. So a lonely record leaves at once, and the more callers there are, the bigger the batches, with no
//! setting to tune. (librdkafka's own linger makes small batches that wait for each other: it sends nothing more to a
//! partition with more than five records on their way, and spins meanwhile.) Another thread hears the answers.

mod instance;
mod options;
mod outbox;
mod record;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::instance::Instance;
pub use self::options::{Codec, ProducerOptions};
use self::outbox::Outbox;
use self::record::WaitingRecord;
pub use self::record::{Delivery, HeaderRef, OutgoingRecord, PublishError, Report, text_headers};
use self::trouble::{Rebirth, Trouble};
use super::{ClientMetrics, KafkaError};
use crate::config::KafkaConfig;
use crate::metrics::Counter;
use crate::supervise::Supervisor;

/// The name of the thread that hears the answers.
const LISTENER: &str = "kafka_producer";
/// The name of the thread that sends.
const SENDER: &str = "kafka_sender";
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
    /// What waits to be sent.
    outbox: Outbox<WaitingRecord>,
    /// Held while records are taken from the outbox to the client: whoever has it finds each in one of them.
    sending: Mutex<()>,
    current: ArcSwap<Instance>,
    trouble: Arc<Trouble>,
    restarts: Counter,
    supervisor: Supervisor,
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
            outbox: Outbox::new(options.queue_records),
            sending: Mutex::new(()),
            options,
            metrics,
            current: ArcSwap::from_pointee(instance),
            trouble,
            restarts,
            supervisor: supervisor.clone(),
            ended: AtomicBool::new(false),
        });
        let (listening, sending, mut rebirth) = (Arc::clone(&core), Arc::clone(&core), Rebirth::default());
        let no_thread = |error| KafkaError::Admin(format!("no thread for the producer: {error}"));
        // What a panic of a report or of the statistics leaves undone, the next poll does.
        supervisor.thread(LISTENER, move || listening.listen(&mut rebirth)).map_err(no_thread)?;
        // What it held when it panicked has no report: its outcome is unknown.
        let producer = Arc::new(Self(core));
        supervisor.thread(SENDER, move || sending.send()).map_err(no_thread)?;
        Ok(producer)
    }

    /// Hands a record to the producer; the report tells what becomes of it. Never blocks.
    pub fn publish(&self, record: &OutgoingRecord<'_>) -> Report {
        let (sender, report) = oneshot::channel();
        if let Err(record) = self.0.outbox.add(WaitingRecord::new(record, sender)) {
            record.refuse(PublishError::QueueFull);
        }
        report
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
        self.0.hand_over(&mut Vec::new()).flush(deadline)
    }
}

impl Drop for RecordProducer {
    fn drop(&mut self) {
        // The thread lets go of the client, whose end takes a while and blocks.
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl Core {
    /// Sends what has gathered, and waits for the answers while the next records gather, until the producer is dropped.
    fn send(&self) {
        let mut records = Vec::new();
        while !self.ended.load(Ordering::Relaxed) {
            self.supervisor.shutdown().faults().check(SENDER);
            if self.outbox.wait(POLL) {
                thread::sleep(self.options.linger);
                self.hand_over(&mut records).wait_for_answers();
            }
        }
    }

    /// Hands what has gathered to the client, and gives that. `records` is empty before and after: its room is used again.
    fn hand_over(&self, records: &mut Vec<WaitingRecord>) -> Arc<Instance> {
        let _sending = self.sending.lock();
        let instance = self.current.load_full();
        self.outbox.take(records);
        instance.send(records);
        instance
    }

    /// Polls until the producer is dropped, and replaces the client that has died.
    fn listen(&self, rebirth: &mut Rebirth) {
        while !self.ended.load(Ordering::Relaxed) {
            self.supervisor.shutdown().faults().check(LISTENER);
            let instance = self.current.load_full();
            instance.poll(POLL);
            if instance.is_dead() && rebirth.is_due(instance.was_well()) {
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
                if let Err(error) = self.supervisor.thread(LISTENER, move || bury(&dead)) {
                    tracing::error!(%error, "no thread for the end of a kafka producer");
                }
            }
            Err(error) => tracing::error!(%error, "kafka producer cannot be built anew"),
        }
    }
}

/// Waits until a dead client has told what became of its records, and nobody else holds it.
fn bury(dead: &Arc<Instance>) {
    let left = dead.flush(LAST_REPORTS);
    if left > 0 {
        tracing::error!(left, "records of a dead kafka producer have no report");
    }
    // The last to let go of a client waits for its threads; the one that sends must not.
    while Arc::strong_count(dead) > 1 {
        thread::sleep(POLL);
    }
}
