//! Producers for dead letters, which are few.

use std::sync::Arc;
use std::time::Duration;

use shared::config::{KafkaConfig, PartitionBy};
use shared::kafka::{Codec, DEAD_LETTER_BYTES_MAX, KafkaError, ProducerOptions, RecordProducer};
use shared::supervise::Supervisor;

/// The largest record that librdkafka sends, in bytes before they are compressed.
const RECORD_BYTES_MAX: usize = 1_000_000_000;

/// A producer for what is set aside. It gives up soon: the database keeps what the topic does not.
///
/// # Errors
/// When Kafka's settings are not taken.
pub fn dead_letter_producer(config: &KafkaConfig, supervisor: &Supervisor) -> Result<Arc<RecordProducer>, KafkaError> {
    let options = ProducerOptions {
        partition_by: PartitionBy::Userid,
        linger: Duration::ZERO,
        message_timeout: Duration::from_secs(3),
        queue_records: 10_000,
        queue_kib: 65_536,
        record_bytes: DEAD_LETTER_BYTES_MAX,
        codec: Codec::default(),
    };
    RecordProducer::new(config, "management-api", options, supervisor)
}

/// A producer for what is sent back. Whatever could be read can be sent, if it compresses as well as it did before.
///
/// # Errors
/// When Kafka's settings are not taken.
pub fn redrive_producer(config: &KafkaConfig) -> Result<Arc<RecordProducer>, KafkaError> {
    let options = ProducerOptions {
        partition_by: PartitionBy::Userid,
        linger: Duration::ZERO,
        message_timeout: Duration::from_secs(10),
        queue_records: 10_000,
        queue_kib: 2_097_151,
        record_bytes: RECORD_BYTES_MAX,
        codec: Codec::default(),
    };
    RecordProducer::new(config, "dead-letters", options, &Supervisor::alone())
}
