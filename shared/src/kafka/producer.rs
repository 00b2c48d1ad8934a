//! The producer: idempotent, acks=all, and rebuilt when librdkafka declares it dead.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use tokio::sync::oneshot;

use super::partitioner::BalancedPartitioner;
use super::refusal::Refused;
use super::{ClientMetrics, KafkaError, client_config};
use crate::config::{KafkaConfig, PartitionBy};

/// How a producer batches and how much it holds.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// How a record without a partition finds one.
    pub partition_by: PartitionBy,
    /// How long a batch waits for more records.
    pub linger: Duration,
    /// After this a record that was not acknowledged is given up.
    pub message_timeout: Duration,
    /// Records held at most.
    pub queue_records: usize,
    /// Bytes held at most, in KiB.
    pub queue_kib: usize,
    /// The largest record, in bytes.
    pub record_bytes: usize,
    /// How batches are compressed.
    pub codec: Codec,
}

/// How a batch of records is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4: the least CPU for what it saves.
    #[default]
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// Every codec of Kafka.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec's name in Kafka's settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// A record's header: its name, and its value if it has one. Neither need be text.
pub type HeaderRef<'a> = (&'a [u8], Option<&'a [u8]>);

/// Headers that are text, as bytes.
pub fn text_headers<'a, const N: usize>(headers: &'a [(&str, Cow<'_, str>); N]) -> [HeaderRef<'a>; N] {
    headers.each_ref().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())))
}

/// A record to publish.
pub struct OutgoingRecord<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition, or nothing to let the producer choose.
    pub partition: Option<i32>,
    /// The key, if any.
    pub key: Option<&'a [u8]>,
    /// The value, if any.
    pub value: Option<&'a [u8]>,
    /// Headers in order.
    pub headers: &'a [HeaderRef<'a>],
    /// Milliseconds since 1970; nothing means now.
    pub timestamp_ms: Option<i64>,
}

/// What became of a record that the producer took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Every in-sync replica has it.
    Delivered {
        /// The partition.
        partition: i32,
        /// The offset there.
        offset: i64,
    },
    /// It never reached a broker.
    NotDelivered(String),
    /// It was refused for good: what is refused, and why.
    Refused(Refused, String),
    /// It was sent, and nobody knows.
    Unknown(String),
}

/// Why the producer did not take a record; nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The queue is full.
    #[error("the producer's queue is full")]
    QueueFull,
    /// The producer has had a fatal error, and no new one could be built.
    #[error("the producer has failed")]
    Dead,
    /// Anything else, such as a record that is too large.
    #[error("{0}")]
    Refused(String),
}

/// Publishes records. Clone the `Arc` around it.
pub struct RecordProducer {
    config: KafkaConfig,
    client_id: String,
    options: ProducerOptions,
    metrics: Arc<ClientMetrics>,
    current: ArcSwap<Instance>,
    /// Held while a client is built: one thread does so, the others wait for the result.
    rebuilding: Mutex<()>,
    rebuilds: prometheus::IntCounter,
}

/// One librdkafka client; it ends with its first fatal error.
struct Instance {
    client: ThreadedProducer<Context, BalancedPartitioner>,
    dead: Arc<AtomicBool>,
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
        registry: &prometheus::Registry,
    ) -> Result<Arc<Self>, KafkaError> {
        let metrics = Arc::new(ClientMetrics::register(registry, "producer")?);
        let rebuilds = prometheus::IntCounter::new(
            "kafka_producer_rebuilds_total",
            "Producers built anew after a fatal error of the one before.",
        )?;
        registry.register(Box::new(rebuilds.clone()))?;
        let instance = Instance::new(config, client_id, &options, &metrics)?;
        Ok(Arc::new(Self {
            config: config.clone(),
            client_id: client_id.to_owned(),
            options,
            metrics,
            current: ArcSwap::from_pointee(instance),
            rebuilding: Mutex::new(()),
            rebuilds,
        }))
    }

    /// Hands a record to the producer; what becomes of it arrives on the receiver. Never blocks.
    ///
    /// # Errors
    /// When nothing was, or will be, sent.
    pub fn publish(&self, record: &OutgoingRecord<'_>) -> Result<oneshot::Receiver<Delivery>, PublishError> {
        let instance = self.current.load();
        match instance.send(record) {
            // The first to meet the fatal error builds the next producer; nothing was sent by the dead one.
            Err(PublishError::Dead) => self.rebuild(&instance).send(record),
            result => result,
        }
    }

    /// Whether a broker is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.metrics.is_connected()
    }

    /// Waits until every record was delivered or given up, at most `deadline`. Blocks. Gives how many are left.
    #[must_use]
    pub fn flush(&self, deadline: Duration) -> usize {
        let instance = self.current.load_full();
        let _ = instance.client.flush(deadline);
        usize::try_from(instance.client.in_flight_count()).unwrap_or(0)
    }

    /// Replaces a dead instance, unless another thread has done so.
    fn rebuild(&self, dead: &Arc<Instance>) -> Arc<Instance> {
        let _only = self.rebuilding.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load_full();
        if !Arc::ptr_eq(&current, dead) {
            return current;
        }
        match Instance::new(&self.config, &self.client_id, &self.options, &self.metrics) {
            Ok(fresh) => {
                let fresh = Arc::new(fresh);
                self.current.store(Arc::clone(&fresh));
                self.rebuilds.inc();
                tracing::warn!("kafka producer rebuilt after a fatal error");
                let dead = Arc::clone(dead);
                // Dropping waits for the old client's thread, which must not hold up a request.
                std::thread::spawn(move || {
                    let _ = dead.client.flush(Duration::from_secs(30));
                });
                fresh
            }
            Err(error) => {
                tracing::error!(%error, "kafka producer cannot be rebuilt");
                Arc::clone(dead)
            }
        }
    }
}

impl Instance {
    fn new(
        config: &KafkaConfig,
        client_id: &str,
        options: &ProducerOptions,
        metrics: &Arc<ClientMetrics>,
    ) -> Result<Self, KafkaError> {
        let mut client = client_config(config, client_id);
        client
            .set("statistics.interval.ms", super::STATISTICS_INTERVAL_MS)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("compression.type", options.codec.name())
            .set("linger.ms", (options.linger.as_secs_f64() * 1000.0).to_string())
            .set("batch.num.messages", "10000")
            .set("message.max.bytes", options.record_bytes.to_string())
            .set("message.timeout.ms", options.message_timeout.as_millis().to_string())
            .set("queue.buffering.max.messages", options.queue_records.to_string())
            .set("queue.buffering.max.kbytes", options.queue_kib.to_string())
            .set("partitioner", "murmur2_random");
        let dead = Arc::new(AtomicBool::new(false));
        let context = Context {
            partitioner: (options.partition_by == PartitionBy::Balanced)
                .then(|| BalancedPartitioner::new(options.linger)),
            metrics: Arc::clone(metrics),
            dead: Arc::clone(&dead),
        };
        Ok(Self { client: ThreadedProducer::from_config_and_context(&client, context)?, dead })
    }

    fn send(&self, record: &OutgoingRecord<'_>) -> Result<oneshot::Receiver<Delivery>, PublishError> {
        let (sender, receiver) = oneshot::channel();
        if self.dead.load(Ordering::Relaxed) {
            return Err(PublishError::Dead);
        }
        let base = BaseRecord {
            topic: record.topic,
            partition: record.partition,
            payload: record.value,
            key: record.key,
            timestamp: record.timestamp_ms,
            headers: Some(super::sys::owned_headers(record.headers)),
            delivery_opaque: Box::new(sender),
        };
        self.client.send(base).map_err(|(error, _)| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => PublishError::QueueFull,
            Some(RDKafkaErrorCode::Fatal) => {
                self.dead.store(true, Ordering::Relaxed);
                PublishError::Dead
            }
            _ => PublishError::Refused(error.to_string()),
        })?;
        Ok(receiver)
    }
}

struct Context {
    partitioner: Option<BalancedPartitioner>,
    metrics: Arc<ClientMetrics>,
    dead: Arc<AtomicBool>,
}

impl Context {
    fn die(&self, reason: &str) {
        tracing::error!(reason, "kafka producer failed for good");
        self.dead.store(true, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        super::admin::log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.metrics.update(&statistics);
        if let Some(partitioner) = &self.partitioner {
            partitioner.update(&statistics);
        }
    }

    fn error(&self, error: ClientError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => self.die(reason),
            Some(RDKafkaErrorCode::AllBrokersDown) => self.metrics.set_connected(false),
            // librdkafka's own log line tells the same, and repeats it less often.
            _ => tracing::debug!(%error, reason, "kafka producer error"),
        }
    }
}

impl ProducerContext<BalancedPartitioner> for Context {
    type DeliveryOpaque = Box<oneshot::Sender<Delivery>>;

    fn delivery(&self, result: &DeliveryResult<'_>, sender: Self::DeliveryOpaque) {
        // A receiver that is gone has passed its deadline and was answered "outcome unknown".
        let _ = sender.send(Delivery::from_report(result));
    }

    fn get_custom_partitioner(&self) -> Option<&BalancedPartitioner> {
        self.partitioner.as_ref()
    }
}

impl Delivery {
    fn from_report(result: &DeliveryResult<'_>) -> Self {
        match result {
            Ok(message) if message.offset() >= 0 => {
                Self::Delivered { partition: message.partition(), offset: message.offset() }
            }
            // A duplicate sequence number is reported as success without an offset: it proves nothing.
            Ok(_) => Self::Unknown("reported as delivered, without an offset".to_owned()),
            Err((error, message)) => {
                let reason = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
                match Refused::by(error.rdkafka_error_code()) {
                    _ if !super::sys::never_persisted(message) => Self::Unknown(reason),
                    Some(refused) => Self::Refused(refused, reason),
                    None => Self::NotDelivered(reason),
                }
            }
        }
    }
}
