//! Where partitions begin and end, and how far they are read.

use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::RecordConsumer;
use crate::kafka::KafkaError;
use crate::kafka::sys::{IsolationLevel, end_offsets};

/// Where a partition is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPosition {
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the record before it. Given, the brokers are asked whether the log still has that history.
    pub leader_epoch: Option<i32>,
}

/// A partition as the brokers have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionBounds {
    /// The partition.
    pub partition: i32,
    /// The first offset that is still there.
    pub low: i64,
    /// Where the first open transaction begins; the end when there is none.
    pub stable_end: i64,
    /// The next offset to be written.
    pub end: i64,
}

impl RecordConsumer {
    /// The bounds of each partition, by three requests for all of them; one that does not tell is left out. Blocks.
    ///
    /// # Errors
    /// When the brokers do not answer in time.
    pub fn bounds(&self, partitions: &[i32], timeout: Duration) -> Result<Vec<PartitionBounds>, KafkaError> {
        let lows = self.offsets_at(partitions, Offset::Beginning, IsolationLevel::ReadUncommitted, timeout)?;
        let stable_ends = self.offsets_at(partitions, Offset::End, IsolationLevel::ReadCommitted, timeout)?;
        let ends = self.offsets_at(partitions, Offset::End, IsolationLevel::ReadUncommitted, timeout)?;
        let bounds = partitions.iter().filter_map(|partition| {
            Some(PartitionBounds {
                partition: *partition,
                low: find(&lows, *partition)?,
                stable_end: find(&stable_ends, *partition)?,
                end: find(&ends, *partition)?,
            })
        });
        Ok(bounds.collect())
    }

    /// How far each partition can be read now, with the epoch of the leader that tells it: no record before is of a newer
    /// one. Blocks.
    ///
    /// # Errors
    /// When the brokers do not answer in time.
    pub fn stable_ends(&self, partitions: &[i32], timeout: Duration) -> Result<Vec<ReadPosition>, KafkaError> {
        self.offsets_at(partitions, Offset::End, IsolationLevel::ReadCommitted, timeout)
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

    fn offsets_at(
        &self,
        partitions: &[i32],
        at: Offset,
        isolation: IsolationLevel,
        timeout: Duration,
    ) -> Result<Vec<ReadPosition>, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition_offset(&self.topic, *partition, at)?;
        }
        end_offsets(self.client.client(), &list, isolation, timeout).map_err(KafkaError::Admin)
    }
}

impl ReadPosition {
    /// An offset that is taken as it is.
    #[must_use]
    pub fn at(partition: i32, offset: i64) -> Self {
        Self { partition, offset, leader_epoch: None }
    }
}

fn find(positions: &[ReadPosition], partition: i32) -> Option<i64> {
    positions.iter().find(|position| position.partition == partition).map(|position| position.offset)
}
