//! Who has which partitions of the topic, as the group's coordinator tells.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::context::Context;
use crate::kafka::KafkaError;

/// How many partitions of `topic` the members of `group` have, all together.
pub(super) fn assigned_partitions(
    client: &BaseConsumer<Context>,
    group: &str,
    topic: &str,
    timeout: Duration,
) -> Result<usize, KafkaError> {
    let groups = client.fetch_group_list(Some(group), timeout)?;
    let found = groups.groups().iter().find(|found| found.name() == group);
    let found = found.ok_or_else(|| KafkaError::Admin("the group is not known".to_owned()))?;
    if found.state() != "Stable" || found.members().is_empty() {
        return Err(KafkaError::Admin(format!("the group is in state {:?}", found.state())));
    }
    let assigned = found.members().iter().filter_map(|member| member.assignment());
    let partitions: BTreeSet<i32> = assigned.filter_map(|bytes| partitions(bytes, topic)).flatten().collect();
    Ok(partitions.len())
}

/// The partitions of `topic` in a member's assignment: a version, then topics with their partitions, numbers big-endian
/// (Kafka's `ConsumerProtocolAssignment`).
fn partitions(mut assignment: &[u8], topic: &str) -> Option<Vec<i32>> {
    let bytes = &mut assignment;
    let _version = bytes.split_off(..2)?;
    let mut found = Vec::new();
    for _ in 0..number(bytes)? {
        let length = bytes.split_off(..2)?.first_chunk().copied().map(u16::from_be_bytes)?;
        let name = bytes.split_off(..usize::from(length))?;
        for _ in 0..number(bytes)? {
            let partition = number(bytes)?;
            if name == topic.as_bytes() {
                found.push(partition);
            }
        }
    }
    Some(found)
}

fn number(bytes: &mut &[u8]) -> Option<i32> {
    bytes.split_off(..4)?.first_chunk().copied().map(i32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_topics_own_partitions_count() {
        let mut bytes = vec![0, 1, 0, 0, 0, 2];
        bytes.extend([0, 1, b'a', 0, 0, 0, 1, 0, 0, 0, 7]);
        bytes.extend([0, 1, b'b', 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(partitions(&bytes, "b"), Some(vec![3, 4]));
        assert_eq!(partitions(&bytes, "c"), Some(vec![]));
        assert_eq!(partitions(&bytes[..9], "b"), None, "cut short");
    }
}
