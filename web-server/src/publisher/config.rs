//! The settings of the way to Kafka.

use std::time::Duration;

use shared::config::{KafkaConfig, Settings};
use shared::kafka::{Codec, ProducerOptions};

/// The largest record: a body of 16 KiB and its headers are far smaller, and every broker's default takes this.
const RECORD_BYTES_MAX: usize = 1_000_000;
/// The least time between librdkafka giving a record up and the answer's deadline.
const PUBLISH_MARGIN_MIN: Duration = Duration::from_millis(200);

/// How purchases come to Kafka.
#[derive(Clone)]
pub struct PublisherConfig {
    /// Kafka and its topics.
    pub kafka: KafkaConfig,
    /// How purchases are batched.
    pub producer: ProducerOptions,
    /// How long a caller waits for the delivery report at most.
    pub deadline: Duration,
    /// How long the producer may take to empty its queue at the end.
    pub flush_timeout: Duration,
}

impl PublisherConfig {
    /// Reads the settings; mistakes are kept in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let kafka = KafkaConfig::read(settings);
        let deadline = settings.millis(
            "PUBLISH_DEADLINE_MS",
            10_000,
            1_000..=300_000,
            "ms until a purchase without a delivery report is answered with 504",
        );
        let flush = "ms for the producer to empty its queue at the end";
        Self {
            kafka,
            producer: read_producer(settings, deadline),
            deadline,
            flush_timeout: settings.millis("FLUSH_TIMEOUT_MS", 3_000, 0..=600_000, flush),
        }
    }
}

fn read_producer(settings: &mut Settings, publish_deadline: Duration) -> ProducerOptions {
    let linger_us = settings.number(
        "KAFKA_PRODUCER_LINGER_US",
        0,
        0..=1_000_000,
        "µs that a purchase waits for others when none is on its way to Kafka; batches clock themselves",
    );
    let linger = Duration::from_micros(linger_us);
    if linger > publish_deadline / 4 {
        settings.mistake("KAFKA_PRODUCER_LINGER_US", "must be at most a quarter of PUBLISH_DEADLINE_MS");
    }
    ProducerOptions {
        partition_by: settings.parsed(
            "KAFKA_PARTITION_BY",
            "balanced",
            "balanced (biggest batches) or userid (one user in one partition)",
        ),
        linger,
        // A report normally comes before the caller's deadline, so that 504 stays for what is truly unknown.
        message_timeout: publish_deadline.saturating_sub((publish_deadline / 10).max(PUBLISH_MARGIN_MIN) + linger),
        queue_records: settings.size(
            "KAFKA_PRODUCER_QUEUE_RECORDS",
            50_000,
            1..=10_000_000,
            "records held for Kafka at most; more are refused",
        ),
        queue_kib: settings.size(
            "KAFKA_PRODUCER_QUEUE_KIB",
            65_536,
            1..=2_097_151,
            "KiB of records held for Kafka at most; more are refused",
        ),
        record_bytes: RECORD_BYTES_MAX,
        codec: Codec::default(),
    }
}
