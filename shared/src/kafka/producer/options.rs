//! How a producer works.

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::config::{KafkaConfig, PartitionBy};
use crate::kafka::{STATISTICS_INTERVAL_MS, client_config};

/// How a producer batches and how much it holds.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// How a record without a partition finds one.
    pub partition_by: PartitionBy,
    /// How long a record waits for others when nothing is on its way. Nothing is normally best: see the module.
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

impl ProducerOptions {
    /// The client's settings: idempotent, and acknowledged by every in-sync replica.
    pub(super) fn client_config(&self, config: &KafkaConfig, client_id: &str) -> ClientConfig {
        let mut client = client_config(config, client_id);
        client
            .set("statistics.interval.ms", STATISTICS_INTERVAL_MS)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("compression.type", self.codec.name())
            // Not to be waited for: whoever sends says when a batch is complete.
            .set("linger.ms", "5")
            .set("batch.num.messages", "10000")
            .set("message.max.bytes", self.record_bytes.to_string())
            .set("message.timeout.ms", self.message_timeout.as_millis().to_string())
            .set("queue.buffering.max.messages", self.queue_records.to_string())
            .set("queue.buffering.max.kbytes", self.queue_kib.to_string())
            .set("partitioner", "murmur2_random");
        client
    }
}
