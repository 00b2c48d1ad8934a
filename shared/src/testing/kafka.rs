//! Kafka as a test uses it: raw records, and what other applications do.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, TopicPartitionList};

use super::{DEADLINE, eventually};
use crate::config::{KafkaConfig, PartitionBy, Settings};
use crate::kafka::{
    Codec, Delivery, KafkaError, OutgoingRecord, ProducerOptions, RecordHeader, RecordProducer, read_topic,
};
use crate::supervise::Supervisor;

/// Kafka's settings for a broker, all others at their defaults.
#[must_use]
pub fn kafka_config(bootstrap_servers: &str) -> KafkaConfig {
    KafkaConfig::read(&mut Settings::from_pairs([("KAFKA_BOOTSTRAP_SERVERS", bootstrap_servers)]))
}

/// A producer of raw records, as another system would send them.
pub struct RawProducer(std::sync::Arc<RecordProducer>);

impl RawProducer {
    /// Connects to the brokers of `config`.
    ///
    /// # Panics
    /// When the settings are not taken.
    #[must_use]
    pub fn new(config: &KafkaConfig) -> Self {
        Self::with_codec(config, Codec::default())
    }

    /// Connects to the brokers of `config`; its batches are compressed so.
    ///
    /// # Panics
    /// When the settings are not taken.
    #[must_use]
    pub fn with_codec(config: &KafkaConfig, codec: Codec) -> Self {
        let options = ProducerOptions {
            partition_by: PartitionBy::Balanced,
            linger: Duration::ZERO,
            message_timeout: DEADLINE,
            queue_records: 1_000_000,
            queue_kib: 1_048_576,
            record_bytes: 100_000_000,
            codec,
        };
        Self(RecordProducer::new(config, "test", options, &Supervisor::alone()).expect("a producer"))
    }

    /// Sends one record and gives its partition and offset.
    ///
    /// # Panics
    /// When it is not delivered.
    pub async fn send(&self, topic: &str, partition: i32, key: Option<&[u8]>, value: Option<&[u8]>) -> (i32, i64) {
        self.send_record(&OutgoingRecord {
            topic,
            partition: Some(partition),
            key,
            value,
            headers: &[],
            timestamp_ms: None,
        })
        .await
    }

    /// Sends one record with everything that a record can have, and gives its partition and offset.
    ///
    /// # Panics
    /// When it is not delivered.
    pub async fn send_record(&self, record: &OutgoingRecord<'_>) -> (i32, i64) {
        match self.0.publish(record).await {
            Ok(Delivery::Delivered { partition, offset }) => (partition, offset),
            other => panic!("not delivered: {other:?}"),
        }
    }
}

/// The offset that a group has committed to Kafka of a partition.
///
/// # Panics
/// When the group's coordinator does not answer.
pub async fn committed_offset(config: &KafkaConfig, group: &str, partition: i32) -> Option<i64> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &config.bootstrap_servers).set("group.id", group);
    let topic = config.topic.clone();
    let ask = move || {
        let consumer: BaseConsumer = client.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition(&topic, partition);
        let found = consumer.committed_offsets(list, DEADLINE).expect("the coordinator answers");
        found.elements().first().and_then(|element| element.offset().to_raw()).filter(|offset| *offset >= 0)
    };
    tokio::task::spawn_blocking(ask).await.expect("no panic")
}

/// A producer of another application that sends in transactions.
pub struct TransactionalProducer(BaseProducer);

impl TransactionalProducer {
    /// Connects, under a transactional id of its own.
    ///
    /// # Panics
    /// When the brokers do not take it.
    #[must_use]
    pub fn new(config: &KafkaConfig, transactional_id: &str) -> Self {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &config.bootstrap_servers).set("transactional.id", transactional_id);
        let producer: BaseProducer = client.create().expect("a producer");
        producer.init_transactions(DEADLINE).expect("a coordinator");
        Self(producer)
    }

    /// Begins a transaction and sends values to a partition in it. They are on the broker when this returns.
    ///
    /// # Panics
    /// When they are not.
    pub fn begin(&self, topic: &str, partition: i32, values: &[&str]) {
        self.0.begin_transaction().expect("no other is open");
        for value in values {
            let record = BaseRecord::<(), str>::to(topic).partition(partition).payload(value);
            self.0.send(record).map_err(|(error, _)| error).expect("room in the queue");
        }
        self.0.flush(DEADLINE).expect("delivered");
    }

    /// Ends the transaction: what was sent in it counts.
    ///
    /// # Panics
    /// When it cannot be ended.
    pub fn commit(&self) {
        self.0.commit_transaction(DEADLINE).expect("committed");
    }

    /// Ends the transaction: what was sent in it never was.
    ///
    /// # Panics
    /// When it cannot be ended.
    pub fn abort(&self) {
        self.0.abort_transaction(DEADLINE).expect("aborted");
    }
}

/// A consumer of another application in a consumer group, with all of a topic's partitions.
pub struct ForeignMember(BaseConsumer);

impl ForeignMember {
    /// Joins under a `partition.assignment.strategy` of its own.
    ///
    /// # Panics
    /// When the group does not take it, or has other members.
    pub async fn join(config: &KafkaConfig, group: &str, strategy: &str) -> Self {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &config.bootstrap_servers).set("group.id", group);
        client.set("partition.assignment.strategy", strategy).set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = client.create().expect("a consumer");
        consumer.subscribe(&[&config.topic]).expect("a topic");
        let metadata = consumer.fetch_metadata(Some(&config.topic), DEADLINE).expect("the brokers answer");
        let partitions = metadata.topics()[0].partitions().len();
        eventually("it has every partition", async || {
            consumer.poll(Duration::ZERO);
            (consumer.assignment().is_ok_and(|list| list.count() == partitions)).then_some(())
        })
        .await;
        Self(consumer)
    }

    /// Takes so many records, and tells Kafka so.
    ///
    /// # Panics
    /// When there are not so many.
    pub async fn take(&self, count: usize) {
        let mut taken = 0;
        eventually("the records are taken", async || {
            taken += usize::from(self.0.poll(Duration::ZERO).is_some_and(|record| record.is_ok()));
            (taken >= count).then_some(())
        })
        .await;
        self.0.commit_consumer_state(CommitMode::Sync).expect("committed");
    }

    /// Leaves the group.
    pub async fn leave(self) {
        // It waits for the brokers.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

/// A record read back whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRecord {
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its time, in milliseconds since 1970, if it has one.
    pub timestamp_ms: Option<i64>,
    /// Which leader wrote it.
    pub leader_epoch: Option<i32>,
    /// The key, if any.
    pub key: Option<Vec<u8>>,
    /// The value, if any.
    pub value: Option<Vec<u8>>,
    /// Names and bytes of the headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl RawRecord {
    /// A header's text; empty when it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    }
}

fn text_header((name, value): RecordHeader) -> (String, Vec<u8>) {
    (String::from_utf8_lossy(&name).into_owned(), value.unwrap_or_default())
}

/// Every record that a topic has now.
///
/// # Panics
/// When it cannot be read.
pub async fn read_all(config: &KafkaConfig, topic: &str) -> Vec<RawRecord> {
    let (config, topic) = (config.clone(), topic.to_owned());
    let read = move || {
        let mut records = Vec::new();
        read_topic::<KafkaError>(&config, &topic, |record| {
            records.push(RawRecord {
                partition: record.partition(),
                offset: record.offset(),
                timestamp_ms: record.timestamp_ms(),
                leader_epoch: record.leader_epoch(),
                key: record.key().map(<[u8]>::to_vec),
                value: record.value().map(<[u8]>::to_vec),
                headers: record.headers().into_iter().map(text_header).collect(),
            });
            Ok(())
        })
        .expect("a readable topic");
        records
    };
    tokio::task::spawn_blocking(read).await.expect("no panic")
}
