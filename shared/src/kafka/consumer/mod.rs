//! The consumer: one thread polls it, and the caller answers every rebalance itself.
//!
//! librdkafka lets an application answer a rebalance long after it was told. That is used here: a partition is assigned
//! only once its first offset is known from the database, so that no record is ever fetched from a wrong place, and given
//! back only once its running transaction has ended.

mod context;
mod group;
mod offsets;
mod options;
mod polled;
mod record;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, RebalanceProtocol};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;

pub use self::context::Membership;
use self::context::{Context, Rebalance};
pub use self::offsets::{PartitionBounds, ReadPosition};
pub use self::options::{ConsumerOptions, GroupProtocol};
pub use self::polled::Polled;
pub(in crate::kafka) use self::polled::is_passing;
pub use self::record::{ConsumedRecord, OwnedRecord, RecordHeader};
use super::sys::{EventQueue, with_leader_epochs};
use super::{ClientMetrics, KafkaError};
use crate::config::KafkaConfig;

/// How long a partition that was assigned a moment ago may take until it can be told where to go on.
const SEEK_PATIENCE: Duration = Duration::from_secs(2);
/// The pause between two tries.
const SEEK_INTERVAL: Duration = Duration::from_millis(5);

/// Partition numbers of the one topic.
pub type Partitions = Vec<i32>;

/// A member of the consumer group.
pub struct RecordConsumer {
    topic: String,
    group: String,
    /// Before the client, so that it is dropped before.
    events: EventQueue,
    client: BaseConsumer<Context>,
}

impl RecordConsumer {
    /// Joins the group, in the background. It is left when the consumer is dropped.
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
        let client = BaseConsumer::from_config_and_context(&client, Context::new(metrics))?;
        let events = EventQueue::of_consumer(client.client());
        let events = events.ok_or_else(|| KafkaError::Admin("the consumer has no queue".to_owned()))?;
        client.subscribe(&[&config.topic])?;
        Ok(Self { topic: config.topic.clone(), group: options.group.clone(), events, client })
    }

    /// Waits for the next thing to happen. Must be called at least every few seconds, by one thread, which it blocks.
    pub fn poll(&self, timeout: Duration) -> Polled<'_> {
        let deadline = Instant::now() + timeout;
        loop {
            let Some(event) = self.events.poll(deadline.saturating_duration_since(Instant::now())) else {
                return Polled::Nothing;
            };
            if let Some(polled) = Polled::from_event(event, self.client.context()) {
                return polled;
            }
        }
    }

    /// Takes partitions over, each from the given position. `Ok` before they are read.
    ///
    /// # Errors
    /// When the client refuses.
    pub fn assign(&self, positions: &[ReadPosition]) -> Result<(), KafkaError> {
        self.begin(positions)?;
        self.client.context().take_unanswered();
        // Only a seek makes librdkafka ask the brokers about the history; an assignment takes the offset as it is.
        let known: Vec<_> = positions.iter().copied().filter(|position| position.leader_epoch.is_some()).collect();
        self.seek(&known)
    }

    /// Gives partitions back.
    ///
    /// # Errors
    /// When the client refuses.
    pub fn unassign(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        self.end(partitions)?;
        self.client.context().take_unanswered();
        Ok(())
    }

    fn begin(&self, positions: &[ReadPosition]) -> Result<(), KafkaError> {
        let list = self.list(positions)?;
        match self.client.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.client.incremental_assign(&list)?,
            _ => self.client.assign(&list)?,
        }
        Ok(())
    }

    fn end(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        match self.client.rebalance_protocol() {
            RebalanceProtocol::Cooperative => {
                self.client.incremental_unassign(&self.list_any(partitions)?)?;
            }
            _ => self.client.unassign()?,
        }
        Ok(())
    }

    /// Goes on reading assigned partitions from other positions; nothing polled afterwards is from before.
    ///
    /// # Errors
    /// When a partition is not assigned, or the client refuses.
    pub fn seek(&self, positions: &[ReadPosition]) -> Result<(), KafkaError> {
        let deadline = Instant::now() + SEEK_PATIENCE;
        let mut left = positions.to_vec();
        while !left.is_empty() {
            let list = self.client.seek_partitions(self.list(&left)?, SEEK_PATIENCE)?;
            let refused = list.elements().into_iter().filter(|element| element.error().is_err());
            let refused: Partitions = refused.map(|element| element.partition()).collect();
            left.retain(|position| refused.contains(&position.partition));
            if Instant::now() < deadline {
                // One that was assigned a moment ago is not being fetched yet.
                std::thread::sleep(if left.is_empty() { Duration::ZERO } else { SEEK_INTERVAL });
            } else {
                return self.begin_again(&left);
            }
        }
        Ok(())
    }

    /// A partition that is not fetched any more takes no seek.
    fn begin_again(&self, positions: &[ReadPosition]) -> Result<(), KafkaError> {
        let partitions: Partitions = positions.iter().map(|position| position.partition).collect();
        tracing::debug!(?partitions, "no seek, assigning the partitions again");
        self.end(&partitions)?;
        self.begin(positions)
    }

    /// Stops fetching partitions, without giving them back.
    ///
    /// # Errors
    /// When one is not assigned.
    pub fn pause(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        if partitions.is_empty() { Ok(()) } else { Ok(self.client.pause(&self.list_any(partitions)?)?) }
    }

    /// Fetches paused partitions again.
    ///
    /// # Errors
    /// When one is not assigned.
    pub fn resume(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        if partitions.is_empty() { Ok(()) } else { Ok(self.client.resume(&self.list_any(partitions)?)?) }
    }

    /// Commits offsets to Kafka in the background, for lag tools; the truth is in the database.
    ///
    /// # Errors
    /// When the client refuses; a partition that was just taken away is no error.
    pub fn commit(&self, offsets: &[(i32, i64)]) -> Result<(), KafkaError> {
        let positions = offsets.iter().map(|(partition, offset)| ReadPosition::at(*partition, *offset));
        let list = self.list(&positions.collect::<Vec<_>>())?;
        let context = self.client.context();
        context.commit_began();
        self.events.commit(self.client.client(), &list).or_else(|code| {
            context.commit_ended(false);
            match code {
                RDKafkaErrorCode::State | RDKafkaErrorCode::NoOffset => Ok(()),
                code => Err(ClientError::ConsumerCommit(code).into()),
            }
        })
    }

    /// Whether a commit is under way. librdkafka gives no partition back meanwhile.
    pub fn is_committing(&self) -> bool {
        self.client.context().is_committing()
    }

    /// Whether a commit has failed since the last call; in a rebalance that is nothing unusual.
    pub fn take_commit_failure(&self) -> bool {
        self.client.context().take_commit_failure()
    }

    /// Whether the group has us as a member, as of the last statistics.
    pub fn membership(&self) -> Membership {
        self.client.context().membership()
    }

    /// How many partitions of the topic the members of the group have, all together. Blocks.
    ///
    /// # Errors
    /// When the group cannot be asked.
    pub fn partitions_of_group(&self, timeout: Duration) -> Result<usize, KafkaError> {
        group::assigned_partitions(&self.client, &self.group, &self.topic, timeout)
    }

    fn list(&self, positions: &[ReadPosition]) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for position in positions {
            list.add_partition_offset(&self.topic, position.partition, Offset::Offset(position.offset))?;
        }
        let epochs: Vec<_> = positions.iter().map(|position| position.leader_epoch).collect();
        with_leader_epochs(&mut list, &epochs);
        Ok(list)
    }

    fn list_any(&self, partitions: &[i32]) -> Result<TopicPartitionList, KafkaError> {
        let positions: Vec<_> = partitions.iter().map(|partition| ReadPosition::at(*partition, 0)).collect();
        self.list(&positions)
    }
}

impl Drop for RecordConsumer {
    fn drop(&mut self) {
        // librdkafka cannot leave the group while it waits for an answer, also when the one to give it has panicked.
        let _ = match self.client.context().take_unanswered() {
            None => Ok(()),
            Some(Rebalance::Revoked(partitions)) => self.end(&partitions),
            Some(Rebalance::Assigned(partitions)) => {
                let nothing_read = partitions.iter().map(|partition| ReadPosition::at(*partition, 0));
                self.begin(&nothing_read.collect::<Vec<_>>())
            }
        };
    }
}
