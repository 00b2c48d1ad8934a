//! Kafka: the only place that knows rdkafka.

mod admin;
mod consumer;
mod damage;
mod group_limits;
mod in_process;
mod partitioner;
mod producer;
mod refusal;
mod stats;
mod sys;
mod topic_limits;
mod topic_reader;
mod unreadable;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

pub use self::admin::{DEAD_LETTER_BYTES_MAX, KafkaError, TopicAdmin};
pub use self::consumer::{
    ConsumedRecord, ConsumerOptions, GroupProtocol, Membership, OwnedRecord, PartitionBounds, Partitions, Polled,
    ReadPosition, RecordConsumer, RecordHeader,
};
pub use self::damage::Damage;
pub use self::in_process::{InProcessBroker, ProduceFault};
pub use self::producer::{
    Codec, Delivery, HeaderRef, OutgoingRecord, ProducerOptions, PublishError, RecordProducer, Report, text_headers,
};
pub use self::refusal::Refused;
pub use self::stats::ClientMetrics;
pub use self::topic_limits::TopicLimits;
pub use self::topic_reader::{READING_PATIENCE, read_topic};
pub use self::unreadable::{UnreadableBatch, find_unreadable_batch};
use crate::config::KafkaConfig;

/// How often librdkafka reports its statistics, to a client that hears them: readiness and the choice of partitions know
/// of a broker that is gone, or there, as soon as this.
const STATISTICS_INTERVAL_MS: &str = "250";

/// What every client needs: where the brokers are, how to be secure, and how soon to try again.
fn client_config(config: &KafkaConfig, client_id: &str) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &config.bootstrap_servers)
        .set("client.id", client_id)
        // A broker that comes back is found again within a second, not ten.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.keepalive.enable", "true")
        .set("socket.nagle.disable", "true")
        // A topic made or moved a moment ago is found soon, at the cost of one small request.
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("topic.metadata.refresh.fast.interval.ms", "100")
        // A mere question about a topic must not create it, with the broker's number of partitions instead of ours.
        .set("allow.auto.create.topics", "false")
        .set("log.connection.close", "false")
        .set_log_level(RDKafkaLogLevel::Info);
    set_security(&mut client, config);
    client
}

fn set_security(client: &mut ClientConfig, config: &KafkaConfig) {
    let security = &config.security;
    client.set("security.protocol", &security.protocol);
    let mut set = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            client.set(name, value);
        }
    };
    set("sasl.mechanism", security.sasl_mechanism.as_deref());
    set("sasl.username", security.sasl_username.as_deref());
    set("sasl.password", security.sasl_password.as_ref().map(|secret| secret.expose().as_str()));
    set("ssl.ca.location", security.ssl_ca.as_ref().and_then(|path| path.to_str()));
    set("ssl.certificate.location", security.ssl_certificate.as_ref().and_then(|path| path.to_str()));
    set("ssl.key.location", security.ssl_key.as_ref().and_then(|path| path.to_str()));
    set("ssl.key.password", security.ssl_key_password.as_ref().map(|secret| secret.expose().as_str()));
    if security.protocol.ends_with("ssl") {
        client.set("enable.ssl.certificate.verification", "true");
        client.set("ssl.endpoint.identification.algorithm", "https");
    }
}
