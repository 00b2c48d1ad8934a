//! What is in the topic.

use shared::config::{KafkaConfig, Settings};
use shared::kafka::{InProcessBroker, KafkaError, read_topic};

/// A record as it lies in Kafka.
#[derive(Clone, Debug)]
pub struct TestRecord {
    pub partition: i32,
    pub offset: i64,
    pub key: String,
    pub value: String,
    pub headers: Vec<(String, String)>,
    pub timestamp_ms: i64,
}

impl TestRecord {
    /// A header's value.
    pub fn header(&self, name: &str) -> &str {
        &self.headers.iter().find(|(header, _)| header == name).expect(name).1
    }
}

/// Every record that the topic of purchases has now.
pub async fn read_records(broker: &InProcessBroker) -> Vec<TestRecord> {
    let bootstrap = broker.bootstrap_servers();
    tokio::task::spawn_blocking(move || read_blocking(&bootstrap).unwrap()).await.unwrap()
}

fn read_blocking(bootstrap: &str) -> Result<Vec<TestRecord>, KafkaError> {
    let config = KafkaConfig::read(&mut Settings::from_pairs([("KAFKA_BOOTSTRAP_SERVERS", bootstrap)]));
    let mut records = Vec::new();
    read_topic(&config, "purchases", |record| {
        records.push(TestRecord {
            partition: record.partition(),
            offset: record.offset(),
            key: text(record.key().unwrap_or_default()),
            value: text(record.value().unwrap_or_default()),
            headers: record
                .headers()
                .iter()
                .map(|(name, value)| (text(name), text(value.as_deref().unwrap_or_default())))
                .collect(),
            timestamp_ms: record.timestamp_ms().unwrap_or_default(),
        });
        Ok::<_, KafkaError>(())
    })?;
    Ok(records)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
