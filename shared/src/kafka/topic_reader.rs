//! Reading a topic once, from its beginning to its present end, outside of any group.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::consumer::ConsumedRecord;
use super::{KafkaError, client_config};
use crate::config::KafkaConfig;

/// How long the brokers may be silent before the reading fails.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Calls `each` with every record that the topic has now. Blocks.
///
/// # Errors
/// When the topic is missing, the brokers do not answer, or `each` fails.
pub fn read_topic<E: From<KafkaError>>(
    config: &KafkaConfig,
    topic: &str,
    mut each: impl FnMut(&ConsumedRecord<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let (consumer, mut left) = open(config, topic)?;
    let mut deadline = Instant::now() + PATIENCE;
    while !left.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                deadline = Instant::now() + PATIENCE;
                let (partition, offset) = (message.partition(), message.offset());
                let Some(end) = left.get(&partition).copied() else { continue };
                if offset < end {
                    each(&ConsumedRecord::new(message))?;
                }
                if offset + 1 >= end {
                    left.remove(&partition);
                }
            }
            // The end can also lie behind a gap that holds no record, such as a transaction's marker.
            None => left.retain(|partition, end| position(&consumer, topic, *partition).is_none_or(|at| at < *end)),
            Some(Err(error)) => tracing::debug!(%error, "while reading a topic"),
        }
        if Instant::now() > deadline {
            return Err(KafkaError::Admin(format!("the topic {topic} could not be read to its end in time")).into());
        }
    }
    Ok(())
}

/// A consumer at the beginning of every partition, and the end of each that is not empty.
fn open(config: &KafkaConfig, topic: &str) -> Result<(BaseConsumer, HashMap<i32, i64>), KafkaError> {
    let mut client = client_config(config, "topic-reader");
    client.set("enable.auto.commit", "false").set("group.id", "purchase-topic-reader").set("fetch.wait.max.ms", "100");
    client.set("queued.max.messages.kbytes", "4096");
    let consumer: BaseConsumer = client.create()?;
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
    let partitions = metadata.topics().first().map(rdkafka::metadata::MetadataTopic::partitions).unwrap_or_default();
    if partitions.is_empty() {
        return Err(KafkaError::MissingTopic(topic.to_owned()));
    }
    let mut list = TopicPartitionList::new();
    let mut ends = HashMap::new();
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), TIMEOUT)?;
        if high > low {
            list.add_partition_offset(topic, partition.id(), Offset::Offset(low))?;
            ends.insert(partition.id(), high);
        }
    }
    consumer.assign(&list)?;
    Ok((consumer, ends))
}

fn position(consumer: &BaseConsumer, topic: &str, partition: i32) -> Option<i64> {
    consumer.position().ok()?.find_partition(topic, partition)?.offset().to_raw()
}
