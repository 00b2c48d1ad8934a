//! librdkafka's in-process broker: for the embedded mode and for tests, never a store of record.

use std::time::Duration;

use super::KafkaError;
use super::sys::MockCluster;

/// The API key of produce requests.
const PRODUCE: i16 = 0;
/// The API key of requests to join a group.
const JOIN_GROUP: i16 = 11;
/// The API key of requests for a producer's id.
const INIT_PRODUCER_ID: i16 = 22;

/// A Kafka cluster inside this process, on free ports of the loopback interface. Keeps at most 5 MiB or
/// 100,000 batches a partition and drops the oldest without a word.
pub struct InProcessBroker(MockCluster);

/// A fault of the broker, for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProduceFault {
    /// The producer has lost its place for good: a fatal error for it.
    OutOfOrderSequence,
    /// The leader has moved: the producer asks again.
    NotLeader,
    /// The record breaks a rule of the broker: refused.
    MessageTooLarge,
    /// The record breaks another rule of the broker: refused.
    InvalidRecord,
    /// The producer may not write to the topic: refused.
    NotAuthorized,
    /// The producer may not write at all: refused.
    ClusterNotAuthorized,
}

impl InProcessBroker {
    /// Starts `brokers` brokers.
    ///
    /// # Errors
    /// When librdkafka cannot make them.
    pub fn start(brokers: i32) -> Result<Self, KafkaError> {
        let cluster = MockCluster::new(brokers).map_err(KafkaError::InProcess)?;
        // There are no further members to wait for.
        cluster.set_group_start_delay(Duration::ZERO);
        Ok(Self(cluster))
    }

    /// Where clients of any kind find it.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        self.0.bootstrap_servers()
    }

    /// Creates a topic; the in-process broker does not take this over the wire.
    ///
    /// # Errors
    /// When there is one of that name.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), KafkaError> {
        self.0.create_topic(topic, partitions, 1).map_err(KafkaError::InProcess)
    }

    /// Takes a broker (1 and up) off the network, or brings it back.
    ///
    /// # Errors
    /// When there is no such broker.
    pub fn set_broker_up(&self, broker: i32, up: bool) -> Result<(), KafkaError> {
        self.0.set_broker_up(broker, up).map_err(KafkaError::InProcess)
    }

    /// Has a partition's leader (of broker 1) chosen anew: a new leader epoch begins.
    ///
    /// # Errors
    /// When there is no such partition.
    pub fn choose_leader_anew(&self, topic: &str, partition: i32) -> Result<(), KafkaError> {
        self.0.set_leader(topic, partition, 1).map_err(KafkaError::InProcess)
    }

    /// Refuses the next `times` requests to join a consumer group, because its other members agree in another way.
    pub fn refuse_to_join(&self, times: usize) {
        use rdkafka_sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL as REFUSED;
        self.0.push_errors(JOIN_GROUP, &vec![REFUSED; times]);
    }

    /// Makes the next produce request fail, once for each fault.
    pub fn fail_produce(&self, faults: &[ProduceFault]) {
        let codes: Vec<_> = faults.iter().map(|fault| fault.code()).collect();
        self.0.push_errors(PRODUCE, &codes);
    }

    /// Refuses the next so many producers that ask for an id, for want of rights: a fatal error for each.
    pub fn refuse_producers(&self, count: usize) {
        self.0.push_errors(INIT_PRODUCER_ID, &vec![ProduceFault::ClusterNotAuthorized.code(); count]);
    }

    /// Takes back the refusals of [`InProcessBroker::refuse_producers`] that nobody has met yet.
    pub fn accept_producers(&self) {
        self.0.clear_errors(INIT_PRODUCER_ID);
    }
}

impl ProduceFault {
    fn code(self) -> rdkafka_sys::rd_kafka_resp_err_t {
        use rdkafka_sys::rd_kafka_resp_err_t as Code;
        match self {
            Self::OutOfOrderSequence => Code::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
            Self::NotLeader => Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            Self::MessageTooLarge => Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
            Self::InvalidRecord => Code::RD_KAFKA_RESP_ERR_INVALID_RECORD,
            Self::ClusterNotAuthorized => Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
            Self::NotAuthorized => Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        }
    }
}
