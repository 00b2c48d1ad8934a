//! What one poll brings.

use rdkafka::error::RDKafkaErrorCode;

use super::context::{Context, Rebalance};
use super::{ConsumedRecord, Partitions};
use crate::kafka::Damage;
use crate::kafka::sys::Event;

/// What one poll brought.
pub enum Polled<'a> {
    /// Nothing in time.
    Nothing,
    /// A record.
    Record(ConsumedRecord<'a>),
    /// Everything of a partition before this offset was polled, or will never be: control records and what was aborted.
    End {
        /// The partition.
        partition: i32,
        /// The next offset that is to be written.
        offset: i64,
    },
    /// The group gives these partitions: answer by assigning them.
    Assigned(Partitions),
    /// The group takes these partitions: answer by giving them back.
    Revoked(Partitions),
    /// The partition's log does not have the position any more, and is not read until it is told another one.
    Reset {
        /// The partition.
        partition: i32,
        /// Where the log's history parts from the one that was read, if it was cut and that is known.
        cut_at: Option<i64>,
        /// The same in words.
        reason: String,
    },
    /// What comes next in a partition cannot be read.
    Unreadable {
        /// The partition.
        partition: i32,
        /// What is wrong with it.
        damage: Damage,
        /// The same in words.
        reason: String,
    },
    /// The client goes on by itself.
    Trouble(String),
    /// The client is dead: build another.
    Fatal(String),
}

impl<'a> Polled<'a> {
    /// What an event means for who polls; nothing for one that is dealt with here.
    pub(super) fn from_event(event: Event<'a>, context: &Context) -> Option<Self> {
        match event {
            Event::Record(record) => Some(Self::Record(ConsumedRecord::new(record))),
            Event::Assigned(partitions) => {
                context.set_unanswered(Rebalance::Assigned(partitions.clone()));
                Some(Self::Assigned(partitions))
            }
            Event::Revoked(partitions) => {
                context.set_unanswered(Rebalance::Revoked(partitions.clone()));
                Some(Self::Revoked(partitions))
            }
            Event::PartitionError { partition, offset, code, text } => partition_error(partition, offset, code, text),
            Event::ClientError { code, text, is_fatal } => {
                context.complaint(code, &text);
                Some(if is_fatal { Self::Fatal(text) } else { Self::Trouble(text) })
            }
            Event::Committed(result) => {
                context.commit_ended(result.is_ok());
                if let Err(code) = result {
                    tracing::debug!(%code, "offsets not committed to kafka");
                }
                None
            }
            Event::Statistics(json) => {
                context.statistics(&json);
                None
            }
            Event::Log { level, facility, message } => {
                crate::kafka::admin::log(level, &facility, &message);
                None
            }
            Event::Other => None,
        }
    }
}

fn partition_error<'a>(
    partition: i32,
    offset: Option<i64>,
    code: RDKafkaErrorCode,
    text: String,
) -> Option<Polled<'a>> {
    match code {
        RDKafkaErrorCode::PartitionEOF => Some(Polled::End { partition, offset: offset? }),
        RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
            Some(Polled::Reset { partition, cut_at: cut_at(&text), reason: text })
        }
        code if is_passing(code) => Some(Polled::Trouble(text)),
        _ => Some(Polled::Unreadable { partition, damage: Damage::of(code, &text), reason: text }),
    }
}

/// Whether a partition's error ends by itself: the topic, its leader or a broker is on its way, and librdkafka asks again.
pub(in crate::kafka) fn is_passing(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::BrokerTransportFailure
    )
}

/// librdkafka tells only in words where the histories part ("broker end offset is 900"); without, all is read again.
fn cut_at(text: &str) -> Option<i64> {
    let (_, rest) = text.split_once("truncation detected")?.1.split_once("broker end offset is ")?;
    let digits = rest.split(|character: char| !character.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_where_histories_part_is_read_from_the_words() {
        let text = "Partition log truncation detected at offset 1000 (leader epoch 3): broker end offset is 900 (offset \
                    leader epoch 3). Reset to INVALID.: Local: Log truncated (broker 1)";
        assert_eq!(cut_at(text), Some(900));
        assert_eq!(cut_at("fetch failed due to requested offset not available on the broker"), None);
        assert_eq!(cut_at("truncation detected: broker end offset is none"), None);
    }
}
