//! Where a topic's partitions begin and end, and what a group has committed of them: what lag is made of.

use std::{collections::BTreeMap, io};

use super::{
    KafkaCluster,
    wire::{Reader, Request},
};
use crate::error::{Doing, Result, StackError};

/// What `ListOffsets` takes for the end of a partition, and for its beginning.
const END: i64 = -1;
const BEGINNING: i64 = -2;

/// One partition as a lag tool sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOffsets {
    /// Its number.
    pub partition: i32,
    /// The first offset that the broker still has.
    pub beginning: i64,
    /// The offset that the next record will get.
    pub end: i64,
    /// Where the group goes on, if it has committed anything.
    pub committed: Option<i64>,
}

impl KafkaCluster {
    /// All partitions of a topic, in order, with what `group` has committed to Kafka.
    ///
    /// # Errors
    /// When there is no such topic, or a broker does not answer, or cannot know now: a group that was never heard of
    /// has no coordinator in the first moments.
    pub async fn offsets(&self, group: &str, topic: &str) -> Result<Vec<PartitionOffsets>> {
        let mut leaders = BTreeMap::<i32, Vec<i32>>::new();
        for partition in self.view().await?.partitions.iter().filter(|partition| partition.topic == topic) {
            leaders.entry(partition.leader).or_default().push(partition.partition);
        }
        let all: Vec<i32> = leaders.values().flatten().copied().collect();
        if all.is_empty() {
            return Err(StackError::Refused(format!("there is no topic {topic}")));
        }
        let committed = self.committed(group, topic, &all).await?;
        let mut found = Vec::new();
        for (leader, partitions) in leaders {
            let beginnings = self.list(leader, topic, &partitions, BEGINNING).await?;
            let ends = self.list(leader, topic, &partitions, END).await?;
            for (partition, end) in ends {
                let beginning = beginnings.get(&partition).copied().unwrap_or(0);
                let committed = committed.get(&partition).copied().filter(|offset| *offset >= 0);
                found.push(PartitionOffsets { partition, beginning, end, committed });
            }
        }
        found.sort_unstable_by_key(|offsets| offsets.partition);
        Ok(found)
    }

    /// `FindCoordinator` version 0, then `OffsetFetch` version 2; -1 where nothing is committed.
    async fn committed(&self, group: &str, topic: &str, partitions: &[i32]) -> Result<BTreeMap<i32, i64>> {
        let doing = format!("asking for the coordinator of {group}");
        let mut last = StackError::Refused(doing.clone());
        for node in (1..).take(self.broker_count()) {
            let read = |answer: &mut Reader<'_>| {
                refuse(answer.int16()?, &doing).map_or_else(|error| Some(Err(error)), |()| Some(Ok(answer.int32()?)))
            };
            match self.ask(node, Request::new(10, 0).string(group), &doing, read).await.and_then(|node| node) {
                Ok(coordinator) => return self.fetch(coordinator, group, topic, partitions).await,
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn fetch(&self, node: i32, group: &str, topic: &str, partitions: &[i32]) -> Result<BTreeMap<i32, i64>> {
        let doing = format!("asking for the offsets of {group}");
        let request = Request::new(9, 2).string(group).array(&[topic], |request, topic| {
            request.string(topic).array(partitions, |request, partition| request.int32(*partition))
        });
        let (mut blocks, error) = self
            .ask(node, request, &doing, |answer| {
                let blocks = answer.list(|answer| {
                    let _topic = answer.string()?;
                    answer.list(|answer| {
                        let (partition, offset) = (answer.int32()?, answer.int64()?);
                        let _metadata = answer.string()?;
                        Some((partition, offset, answer.int16()?))
                    })
                })?;
                Some((blocks, answer.int16()?))
            })
            .await?;
        refuse(error, &doing)?;
        offsets_of(blocks.pop().unwrap_or_default(), &doing)
    }

    /// `ListOffsets` version 1.
    async fn list(&self, node: i32, topic: &str, partitions: &[i32], time: i64) -> Result<BTreeMap<i32, i64>> {
        let doing = format!("asking for the ends of {topic}");
        let request = Request::new(2, 1).int32(-1).array(&[topic], |request, topic| {
            request.string(topic).array(partitions, |request, partition| request.int32(*partition).int64(time))
        });
        let mut blocks = self
            .ask(node, request, &doing, |answer| {
                answer.list(|answer| {
                    let _topic = answer.string()?;
                    answer.list(|answer| {
                        let (partition, error, _time) = (answer.int32()?, answer.int16()?, answer.int64()?);
                        Some((partition, answer.int64()?, error))
                    })
                })
            })
            .await?;
        offsets_of(blocks.pop().unwrap_or_default(), &doing)
    }

    async fn ask<T>(
        &self,
        node: i32,
        request: Request,
        doing: &str,
        read: impl FnOnce(&mut Reader<'_>) -> Option<T>,
    ) -> Result<T> {
        let port = usize::try_from(node - 1).ok().and_then(|index| self.plan.ports.get(index));
        let port = port.ok_or_else(|| StackError::Refused(format!("{doing}: there is no broker {node}")))?;
        let bytes = request.send(port.client).await.doing(doing)?;
        let mut answer = Reader(&bytes);
        let read = answer.int32().and_then(|_correlation| read(&mut answer));
        read.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData)).doing(doing)
    }
}

/// Partitions and their offsets, unless one of them has an error.
fn offsets_of(blocks: Vec<(i32, i64, i16)>, doing: &str) -> Result<BTreeMap<i32, i64>> {
    blocks.into_iter().map(|(partition, offset, error)| refuse(error, doing).map(|()| (partition, offset))).collect()
}

fn refuse(error: i16, doing: &str) -> Result<()> {
    if error == 0 { Ok(()) } else { Err(StackError::Refused(format!("{doing}: Kafka's error {error}"))) }
}
