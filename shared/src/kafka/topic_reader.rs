//! Reading a topic once, from its beginning to its present end, outside of any group.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::consumer::{ConsumedRecord, is_passing};
use super::sys::{Event, EventQueue};
use super::{KafkaError, client_config};
use crate::config::KafkaConfig;

/// How long the brokers may be silent before the reading of a topic fails.
pub const READING_PATIENCE: Duration = Duration::from_secs(15);
/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Calls `each` with every record that the topic has now. Blocks.
///
/// # Errors
/// When the topic is missing, the brokers do not answer, or `each` fails; and at the end when some partition could not be
/// read to its end: the records of all others were given by then.
pub fn read_topic<E: From<KafkaError>>(
    config: &KafkaConfig,
    topic: &str,
    mut each: impl FnMut(&ConsumedRecord<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let (mut reading, events) = Reading::open(config, topic)?;
    let mut deadline = Instant::now() + READING_PATIENCE;
    while !reading.left.is_empty() {
        let event = events.poll(Duration::from_millis(100));
        if let Some(record) = event.map(|event| reading.record(event)).transpose()?.flatten() {
            each(&record)?;
            // However long the caller took: it is the brokers who must not be silent.
            deadline = Instant::now() + READING_PATIENCE;
        }
        if Instant::now() > deadline {
            return Err(KafkaError::Admin(format!("the topic {topic} could not be read to its end in time")).into());
        }
    }
    if reading.unreadable.is_empty() { Ok(()) } else { Err(KafkaError::Admin(reading.unreadable.join("; ")).into()) }
}

struct Reading {
    topic: String,
    client: BaseConsumer<DefaultConsumerContext>,
    /// Partitions that are not read to their end, and where that is.
    left: BTreeMap<i32, i64>,
    unreadable: Vec<String>,
}

impl Reading {
    /// A consumer at the beginning of every partition that is not empty, and its queue, which must be dropped before.
    fn open(config: &KafkaConfig, topic: &str) -> Result<(Self, EventQueue), KafkaError> {
        let mut client = client_config(config, "topic-reader");
        client
            .set("enable.auto.commit", "false")
            .set("group.id", "purchase-topic-reader")
            .set("enable.partition.eof", "true")
            .set("check.crcs", "true")
            // What expires between the look at the beginning and the reading leaves the rest to be read, not the end.
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "100")
            // Counted as compressed: records that are all alike may be hundreds of times as large in memory.
            .set("fetch.message.max.bytes", "4096")
            .set("fetch.max.bytes", "1048576")
            // A full queue is looked at again soon: at the default of a second no more than 4 MB a second would be read.
            .set("fetch.queue.backoff.ms", "10")
            .set("queued.max.messages.kbytes", "4096");
        let client: BaseConsumer = client.create()?;
        let events = EventQueue::of_consumer(client.client());
        let events = events.ok_or_else(|| KafkaError::Admin("the consumer has no queue".to_owned()))?;
        let metadata = client.fetch_metadata(Some(topic), TIMEOUT)?;
        let partitions =
            metadata.topics().first().map(rdkafka::metadata::MetadataTopic::partitions).unwrap_or_default();
        if partitions.is_empty() {
            return Err(KafkaError::MissingTopic(topic.to_owned()));
        }
        let mut list = TopicPartitionList::new();
        let mut left = BTreeMap::new();
        for partition in partitions {
            let (low, high) = client.fetch_watermarks(topic, partition.id(), TIMEOUT)?;
            if high > low {
                list.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
                left.insert(partition.id(), high);
            }
        }
        client.assign(&list)?;
        Ok((Self { topic: topic.to_owned(), client, left, unreadable: Vec::new() }, events))
    }

    /// The record that an event brings, if it was there at the beginning.
    fn record<'a>(&mut self, event: Event<'a>) -> Result<Option<ConsumedRecord<'a>>, KafkaError> {
        match event {
            Event::Record(record) => {
                let (partition, offset) = (record.partition(), record.offset());
                let end = self.left.get(&partition).copied();
                if end.is_some_and(|end| offset + 1 >= end) {
                    self.left.remove(&partition);
                }
                return Ok(end.filter(|end| offset < *end).map(|_| ConsumedRecord::new(record)));
            }
            // The end can also lie behind a gap that holds no record, such as a transaction's marker.
            Event::PartitionError { partition, code: RDKafkaErrorCode::PartitionEOF, .. } => {
                self.left.remove(&partition);
            }
            Event::PartitionError { code, text, .. } if is_passing(code) => {
                tracing::debug!(error = text, "while reading a topic");
            }
            Event::PartitionError { partition, offset, text, .. } => self.give_up(partition, offset, &text)?,
            Event::ClientError { text, is_fatal: true, .. } => return Err(KafkaError::Admin(text)),
            Event::ClientError { text, .. } => tracing::debug!(error = text, "while reading a topic"),
            _ => {}
        }
        Ok(None)
    }

    /// The other partitions are read on; that this one was not is told at the end.
    fn give_up(&mut self, partition: i32, offset: Option<i64>, reason: &str) -> Result<(), KafkaError> {
        if self.left.remove(&partition).is_some() {
            let offset = offset.map_or(String::new(), |offset| format!(" from offset {offset}"));
            self.unreadable.push(format!("partition {partition} of {} cannot be read{offset}: {reason}", self.topic));
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&self.topic, partition, Offset::Invalid)?;
            self.client.pause(&list)?;
        }
        Ok(())
    }
}
