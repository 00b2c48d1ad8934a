//! Purchases in a topic before anybody reads them, and the same purchases for a client that does without Kafka.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use shared::{
    config::{KafkaConfig, PartitionBy, Settings},
    event::{Purchase, Timestamp, encode_record, new_purchase_id, record_headers},
    kafka::{
        Codec, Delivery, HeaderRef, KafkaError, OutgoingRecord, ProducerOptions, RecordProducer, Report, TopicAdmin,
        text_headers,
    },
    price::Price,
    supervise::Supervisor,
};
use tokio::time::{Instant, sleep};

use crate::world::{PARTITIONS, World};
use stack::error::{Result, StackError};

/// Records that follow each other in one partition, as web-server's partitioner lays them: some milliseconds' worth.
const RUN: u64 = 200;
/// Records on their way at most.
const ON_THE_WAY_MAX: usize = 50_000;
/// Whole minutes would do; topics are there within a second.
const TOPIC_DEADLINE: Duration = Duration::from_secs(30);

/// Who buys.
#[derive(Debug, Clone, Copy)]
pub enum Buyers {
    /// So many users, in turns.
    Many(u64),
    /// One user.
    One(&'static str),
}

/// The purchase with this number, and its partition.
pub fn purchase(number: u64, buyers: Buyers) -> Result<(Purchase, i32)> {
    let userid = match buyers {
        // Mixed, so that neighbours are not in one place of the index.
        Buyers::Many(users) => format!("user-{}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % users),
        Buyers::One(userid) => userid.to_owned(),
    };
    let price = Price::parse_json(&format!("{}.{:02}", number % 500 + 1, number % 100));
    let price = price.map_err(|error| StackError::Refused(error.to_string()))?;
    let purchase = Purchase {
        purchase_id: new_purchase_id(),
        username: format!("Buyer {}", number % 10_000),
        userid,
        price,
        timestamp: Timestamp::now(),
        recorded_at: None,
        callback_url: None,
    };
    Ok((purchase, partition_of(number)))
}

fn partition_of(number: u64) -> i32 {
    let runs = u64::try_from(PARTITIONS).unwrap_or(1);
    i32::try_from(number / RUN % runs).unwrap_or(0)
}

/// Makes the topic if there is none and publishes purchases to all its partitions; every one is confirmed at the end.
pub async fn produce(world: &World, topic: &str, numbers: std::ops::Range<u64>, buyers: Buyers) -> Result<()> {
    let mut backlog = Backlog::begin(world, topic).await?;
    for number in numbers {
        let (purchase, partition) = purchase(number, buyers)?;
        let value = encode_record(&purchase);
        let headers =
            record_headers(&purchase, "web-server", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let record = OutgoingRecord {
            topic,
            partition: Some(partition),
            key: Some(purchase.userid.as_bytes()),
            value: Some(&value),
            headers: &text_headers(&headers),
            timestamp_ms: Some(purchase.timestamp.millis()),
        };
        backlog.publish(&record).await?;
    }
    confirm(&mut backlog.reports, usize::MAX).await
}

/// The same with one value and headers, `count` times, whatever they are.
pub async fn produce_alike(
    world: &World,
    topic: &str,
    count: u64,
    value: &[u8],
    headers: &[HeaderRef<'_>],
) -> Result<()> {
    let mut backlog = Backlog::begin(world, topic).await?;
    for number in 0..count {
        let partition = Some(partition_of(number));
        let record = OutgoingRecord { topic, partition, key: None, value: Some(value), headers, timestamp_ms: None };
        backlog.publish(&record).await?;
    }
    confirm(&mut backlog.reports, usize::MAX).await
}

/// Records on their way into a topic.
struct Backlog {
    producer: Arc<RecordProducer>,
    reports: VecDeque<Report>,
}

impl Backlog {
    async fn begin(world: &World, topic: &str) -> Result<Self> {
        let config = kafka_config(world, topic);
        ensure_topic(&config).await?;
        let options = ProducerOptions {
            partition_by: PartitionBy::Userid,
            linger: Duration::ZERO,
            message_timeout: Duration::from_mins(1),
            queue_records: ON_THE_WAY_MAX,
            queue_kib: 65_536,
            record_bytes: 1_000_000,
            codec: Codec::default(),
        };
        let producer = RecordProducer::new(&config, "stack-bench", options, &Supervisor::alone()).map_err(refused)?;
        Ok(Self { producer, reports: VecDeque::new() })
    }

    async fn publish(&mut self, record: &OutgoingRecord<'_>) -> Result<()> {
        if self.reports.len() >= ON_THE_WAY_MAX {
            confirm(&mut self.reports, ON_THE_WAY_MAX / 5).await?;
        }
        self.reports.push_back(self.producer.publish(record));
        Ok(())
    }
}

async fn confirm(reports: &mut VecDeque<Report>, count: usize) -> Result<()> {
    for _ in 0..count.min(reports.len()) {
        let Some(report) = reports.pop_front() else { break };
        match report.await {
            Ok(Delivery::Delivered { .. }) => {}
            other => return Err(StackError::Refused(format!("a record of the backlog was not delivered: {other:?}"))),
        }
    }
    Ok(())
}

fn kafka_config(world: &World, topic: &str) -> KafkaConfig {
    let mut settings = Settings::from_pairs([
        ("KAFKA_BOOTSTRAP_SERVERS", world.kafka.bootstrap_servers()),
        ("KAFKA_TOPIC", topic.to_owned()),
        ("KAFKA_DEAD_LETTER_TOPIC", format!("{topic}.dead-letter")),
        ("KAFKA_TOPIC_PARTITIONS", PARTITIONS.to_string()),
    ]);
    KafkaConfig::read(&mut settings)
}

async fn ensure_topic(config: &KafkaConfig) -> Result<()> {
    let admin = TopicAdmin::new(config, "stack-bench").map_err(refused)?;
    let end = Instant::now() + TOPIC_DEADLINE;
    loop {
        match admin.ensure().await {
            Ok(()) => return Ok(()),
            Err(KafkaError::Created(_) | KafkaError::NoLeader { .. } | KafkaError::MissingTopic(_))
                if Instant::now() < end =>
            {
                sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(refused(error)),
        }
    }
}

fn refused(error: impl std::fmt::Display) -> StackError {
    StackError::Refused(error.to_string())
}
