//! How far a batch reaches that cannot be read.

use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::consumer::is_passing;
use super::sys::{Event, EventQueue};
use super::{KafkaError, client_config};
use crate::config::KafkaConfig;

/// How long the brokers may take for one look.
const PATIENCE: Duration = Duration::from_secs(15);

/// A batch that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableBatch {
    /// The first offset behind it.
    pub end: i64,
    /// Why it cannot be read.
    pub reason: String,
}

/// The batch of which `offset` is a part, if it cannot be read. Blocks.
///
/// # Errors
/// When the brokers do not answer in time.
pub fn find_unreadable_batch(
    config: &KafkaConfig,
    partition: i32,
    offset: i64,
) -> Result<Option<UnreadableBatch>, KafkaError> {
    let probe = Probe::new(config, partition)?;
    let Look::Unreadable { base, reason } = probe.look(offset)? else { return Ok(None) };
    // A broker gives the whole batch, whichever of its offsets is asked for, and the client tells where it begins.
    let is_part = |offset: i64| {
        Ok::<_, KafkaError>(matches!(probe.look(offset)?, Look::Unreadable { base: other, .. } if other == base))
    };
    let (mut last, mut step) = (offset, 1);
    while is_part(last + step)? {
        last += step;
        step *= 2;
    }
    let mut end = last + step;
    while last + 1 < end {
        let middle = last + (end - last) / 2;
        if is_part(middle)? { last = middle } else { end = middle }
    }
    Ok(Some(UnreadableBatch { end, reason }))
}

/// What is found at an offset.
enum Look {
    /// A record, there or later, or the end of the partition.
    Readable,
    /// A batch that cannot be read; where it begins.
    Unreadable { base: i64, reason: String },
}

struct Probe {
    topic: String,
    partition: i32,
    client: BaseConsumer,
}

impl Probe {
    fn new(config: &KafkaConfig, partition: i32) -> Result<Self, KafkaError> {
        let mut client = client_config(config, "batch-probe");
        client
            .set("enable.auto.commit", "false")
            .set("group.id", "purchase-batch-probe")
            .set("enable.partition.eof", "true")
            .set("check.crcs", "true")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_uncommitted")
            .set("fetch.wait.max.ms", "100");
        Ok(Self { topic: config.topic.clone(), partition, client: client.create()? })
    }

    fn look(&self, offset: i64) -> Result<Look, KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, self.partition, Offset::Offset(offset))?;
        self.client.assign(&list)?;
        let events = EventQueue::of_consumer(self.client.client());
        let events = events.ok_or_else(|| KafkaError::Admin("the consumer has no queue".to_owned()))?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match events.poll(Duration::from_millis(100)) {
                // Past the end there is nothing that could not be read.
                Some(
                    Event::Record(_)
                    | Event::PartitionError {
                        code: RDKafkaErrorCode::PartitionEOF | RDKafkaErrorCode::AutoOffsetReset,
                        ..
                    },
                ) => return Ok(Look::Readable),
                Some(Event::PartitionError { code, offset: base, text, .. }) if is_damage(code) => {
                    return Ok(Look::Unreadable { base: base.unwrap_or(offset), reason: text });
                }
                // Not allowed to read is not the same as not readable.
                Some(Event::PartitionError { code, text, .. }) if !is_passing(code) => {
                    return Err(KafkaError::Admin(text));
                }
                Some(Event::ClientError { text, is_fatal: true, .. }) => return Err(KafkaError::Admin(text)),
                _ => {}
            }
        }
        Err(KafkaError::Admin(format!("partition {} told nothing of offset {offset} in time", self.partition)))
    }
}

/// Whether an error is about a batch itself, and not about who reads it.
fn is_damage(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BadMessage
            | RDKafkaErrorCode::BadCompression
            | RDKafkaErrorCode::NotImplemented
            | RDKafkaErrorCode::InvalidMessage
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::UnsupportedCompressionType
    )
}
