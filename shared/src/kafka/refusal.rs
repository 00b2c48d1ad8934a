//! Which errors of a delivery no repeat can mend.

use rdkafka::error::RDKafkaErrorCode;

/// What a broker, or the client for it, refuses for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// This record, or the batch that it was sent in.
    Record,
    /// Everything that is sent to the topic, until somebody changes something.
    Topic,
}

/// The codes that are final; all others pass. The names are those of Kafka's protocol.
const FINAL: &[(RDKafkaErrorCode, Refused)] = &[
    // Larger than the producer, the topic or its segments allow.
    (RDKafkaErrorCode::MessageSizeTooLarge, Refused::Record),
    (RDKafkaErrorCode::MessageBatchTooLarge, Refused::Record),
    (RDKafkaErrorCode::InvalidMessageSize, Refused::Record),
    // Against a rule of the topic, the broker or the client.
    (RDKafkaErrorCode::InvalidTimestamp, Refused::Record),
    (RDKafkaErrorCode::InvalidRecord, Refused::Record),
    (RDKafkaErrorCode::PolicyViolation, Refused::Record),
    (RDKafkaErrorCode::InvalidArgument, Refused::Record),
    (RDKafkaErrorCode::BadMessage, Refused::Record),
    (RDKafkaErrorCode::InvalidDifferentRecord, Refused::Record),
    (RDKafkaErrorCode::UnsupportedForMessageFormat, Refused::Topic),
    (RDKafkaErrorCode::UnsupportedCompressionType, Refused::Topic),
    // Nobody may write there, or there is nothing to write to.
    (RDKafkaErrorCode::TopicAuthorizationFailed, Refused::Topic),
    (RDKafkaErrorCode::ClusterAuthorizationFailed, Refused::Topic),
    (RDKafkaErrorCode::InvalidTopic, Refused::Topic),
    (RDKafkaErrorCode::UnknownTopic, Refused::Topic),
    (RDKafkaErrorCode::UnknownTopicOrPartition, Refused::Topic),
    (RDKafkaErrorCode::UnknownPartition, Refused::Topic),
];

impl Refused {
    /// What a code refuses, if it is final.
    pub(super) fn by(code: Option<RDKafkaErrorCode>) -> Option<Self> {
        FINAL.iter().find(|(other, _)| code == Some(*other)).map(|(_, refused)| *refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_not_final() {
        use RDKafkaErrorCode as Code;
        let passing = [
            Code::MessageTimedOut,
            Code::AllBrokersDown,
            Code::BrokerTransportFailure,
            Code::NotLeaderForPartition,
            Code::NotEnoughReplicas,
            Code::RequestTimedOut,
            Code::PurgeQueue,
            Code::Fatal,
        ];
        assert!(passing.iter().all(|code| Refused::by(Some(*code)).is_none()));
        assert_eq!(Refused::by(None), None);
        assert_eq!(Refused::by(Some(Code::MessageSizeTooLarge)), Some(Refused::Record));
        assert_eq!(Refused::by(Some(Code::TopicAuthorizationFailed)), Some(Refused::Topic));
    }
}
