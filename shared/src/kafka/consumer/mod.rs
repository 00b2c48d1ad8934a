//! The consumer: one thread polls it, and the caller answers every rebalance itself.
//!
//! librdkafka lets an application answer a rebalance after its callback has returned. That is used here: a
//! partition is assigned only once its first offset is known from the database, so that no record is ever
//! fetched from a wrong place, and given back only once its running transaction has ended.

mod context;
mod options;
mod record;

use std::sync::Arc;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, RebalanceProtocol};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;

use self::context::Context;
pub use self::options::{ConsumerOptions, GroupProtocol};
pub use self::record::ConsumedRecord;
use super::{ClientMetrics, KafkaError};
use crate::config::KafkaConfig;

/// Partition numbers of the one topic.
pub type Partitions = Vec<i32>;

/// What one poll brought.
pub enum Polled<'a> {
    /// Nothing in time.
    Nothing,
    /// A record.
    Record(ConsumedRecord<'a>),
    /// The group gives these partitions: answer with [`RecordConsumer::assign`].
    Assigned(Partitions),
    /// The group takes these partitions: answer with [`RecordConsumer::unassign`].
    Revoked(Partitions),
    /// A position lies outside of what the broker has: look at the offsets of all partitions again.
    OffsetOutOfRange,
    /// The client goes on by itself.
    Trouble(String),
    /// The client is dead: build another.
    Fatal(String),
}

/// A member of the consumer group.
pub struct RecordConsumer {
    topic: String,
    client: BaseConsumer<Context>,
}

impl RecordConsumer {
    /// Joins the group, in the background.
    ///
    /// # Errors
    /// When the settings are not taken.
    pub fn join(
        config: &KafkaConfig,
        client_id: &str,
        options: &ConsumerOptions,
        metrics: Arc<ClientMetrics>,
    ) -> Result<Self, KafkaError> {
        let client = options.client_config(config, client_id);
        let context = Context::new(metrics);
        let client = BaseConsumer::from_config_and_context(&client, context)?;
        client.subscribe(&[&config.topic])?;
        Ok(Self { topic: config.topic.clone(), client })
    }

    /// Waits for the next thing to happen. Must be called at least every few seconds, by one thread.
    pub fn poll(&self, timeout: Duration) -> Polled<'_> {
        let message = self.client.poll(timeout);
        match message {
            Some(Ok(message)) => Polled::Record(ConsumedRecord::new(message)),
            Some(Err(error)) => Self::classify(&error),
            None => self.client.context().next_rebalance().unwrap_or(Polled::Nothing),
        }
    }

    fn classify(error: &ClientError) -> Polled<'static> {
        match error {
            ClientError::MessageConsumptionFatal(code) => Polled::Fatal(code.to_string()),
            ClientError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                Polled::OffsetOutOfRange
            }
            error => Polled::Trouble(error.to_string()),
        }
    }

    /// Takes partitions over, each from the given offset.
    ///
    /// # Errors
    /// When the client refuses.
    pub fn assign(&self, offsets: &[(i32, i64)]) -> Result<(), KafkaError> {
        let list = self.list(offsets)?;
        match self.client.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.client.incremental_assign(&list)?,
            _ => self.client.assign(&list)?,
        }
        Ok(())
    }

    /// Gives partitions back.
    ///
    /// # Errors
    /// When the client refuses.
    pub fn unassign(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        match self.client.rebalance_protocol() {
            RebalanceProtocol::Cooperative => {
                self.client.incremental_unassign(&self.list_any(partitions)?)?;
            }
            _ => self.client.unassign()?,
        }
        Ok(())
    }

    /// Goes on reading assigned partitions from other offsets; nothing polled afterwards is from before.
    ///
    /// # Errors
    /// When a partition is not assigned, or the client refuses.
    pub fn seek(&self, offsets: &[(i32, i64)]) -> Result<(), KafkaError> {
        for (partition, offset) in offsets {
            let sought = self.client.seek(&self.topic, *partition, Offset::Offset(*offset), Duration::from_secs(3));
            if let Err(error) = sought {
                // One that was out of range is not fetched any more, and takes no seek.
                tracing::debug!(%error, partition, "no seek, assigning the partition again");
                self.unassign(&[*partition])?;
                self.assign(&[(*partition, *offset)])?;
            }
        }
        Ok(())
    }

    /// Stops fetching partitions, without giving them back.
    ///
    /// # Errors
    /// When one is not assigned.
    pub fn pause(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        Ok(self.client.pause(&self.list_any(partitions)?)?)
    }

    /// Fetches paused partitions again.
    ///
    /// # Errors
    /// When one is not assigned.
    pub fn resume(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        Ok(self.client.resume(&self.list_any(partitions)?)?)
    }

    /// Commits offsets to Kafka in the background, for lag tools; the truth is in the database.
    ///
    /// # Errors
    /// When the client refuses; a partition that was just taken away is no error.
    pub fn commit(&self, offsets: &[(i32, i64)]) -> Result<(), KafkaError> {
        match self.client.commit(&self.list(offsets)?, CommitMode::Async) {
            Err(ClientError::ConsumerCommit(RDKafkaErrorCode::State | RDKafkaErrorCode::NoOffset)) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Prepares to leave the group: from now on rebalances answer themselves. `unanswered` are partitions that the
    /// group gave and that were not taken over. The group is left when the last owner drops the consumer.
    pub fn leave(&self, unanswered: &[i32]) {
        self.client.context().leave();
        if !unanswered.is_empty() {
            // librdkafka cannot leave while it waits for an answer; nothing of it will be read.
            let offsets: Vec<_> = unanswered.iter().map(|partition| (*partition, 0)).collect();
            let _ = self.assign(&offsets);
        }
    }

    /// The first and the next offset of each partition on the broker, by two requests for all of them. Blocks.
    ///
    /// # Errors
    /// When the brokers do not answer in time.
    pub fn watermarks(&self, partitions: &[i32], timeout: Duration) -> Result<Vec<(i32, i64, i64)>, KafkaError> {
        let lows = self.offsets_at(partitions, Offset::Beginning, timeout)?;
        let highs = self.offsets_at(partitions, Offset::End, timeout)?;
        let found = |offsets: &[(i32, i64)], partition: i32| {
            offsets.iter().find(|(other, _)| *other == partition).map(|(_, offset)| *offset)
        };
        let complete = partitions
            .iter()
            .map(|partition| Some((*partition, found(&lows, *partition)?, found(&highs, *partition)?)));
        complete
            .collect::<Option<_>>()
            .ok_or_else(|| KafkaError::Admin("not every partition told its offsets".to_owned()))
    }

    /// The offsets that the group has committed to Kafka; none of a partition without. Blocks.
    ///
    /// # Errors
    /// When the group's coordinator does not answer in time.
    pub fn committed(&self, partitions: &[i32], timeout: Duration) -> Result<Vec<(i32, i64)>, KafkaError> {
        let found = self.client.committed_offsets(self.list_any(partitions)?, timeout)?;
        let offsets = found.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        });
        Ok(offsets.collect())
    }

    /// The next offset of each partition on the broker, by one request. Blocks.
    ///
    /// # Errors
    /// When the brokers do not answer in time.
    pub fn end_offsets(&self, partitions: &[i32], timeout: Duration) -> Result<Vec<(i32, i64)>, KafkaError> {
        self.offsets_at(partitions, Offset::End, timeout)
    }

    fn offsets_at(&self, partitions: &[i32], at: Offset, timeout: Duration) -> Result<Vec<(i32, i64)>, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            // A logical offset in the place of a time asks for that end of the log.
            list.add_partition_offset(&self.topic, *partition, at)?;
        }
        let found = self.client.offsets_for_times(list, timeout)?;
        let offsets = found.elements().into_iter().filter(|element| element.error().is_ok());
        Ok(offsets.filter_map(|element| Some((element.partition(), element.offset().to_raw()?))).collect())
    }

    fn list(&self, offsets: &[(i32, i64)]) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))?;
        }
        Ok(list)
    }

    fn list_any(&self, partitions: &[i32]) -> Result<TopicPartitionList, KafkaError> {
        let offsets: Vec<_> = partitions.iter().map(|partition| (*partition, 0)).collect();
        self.list(&offsets)
    }
}
