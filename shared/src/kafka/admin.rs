//! Topics: created or checked at start, and told apart by their incarnation.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::metadata::{MetadataBroker, MetadataTopic};
use rdkafka::{Offset, TopicPartitionList};

use super::sys::{IsolationLevel, end_offsets};
use super::{client_config, sys};
use crate::config::KafkaConfig;

/// How long one question to the brokers may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);

/// The largest dead letter, in bytes: what is sent, and what a topic made by us takes.
pub const DEAD_LETTER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why something cannot be done with Kafka.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// The client says so.
    #[error("kafka: {0}")]
    Client(#[from] ClientError),
    /// A topic is missing and must not be created.
    #[error("kafka: the topic {0} does not exist, and KAFKA_CREATE_TOPICS is off")]
    MissingTopic(String),
    /// A topic was made a moment ago.
    #[error("kafka: the topic {0} was created, and has no leaders yet")]
    Created(String),
    /// A topic has partitions without a leader.
    #[error("kafka: {leaderless} of {partitions} partitions of the topic {topic} have no leader")]
    NoLeader {
        /// The topic.
        topic: String,
        /// Partitions without a leader.
        leaderless: usize,
        /// All partitions.
        partitions: usize,
    },
    /// A question to the brokers failed.
    #[error("kafka: {0}")]
    Admin(String),
    /// The in-process broker failed.
    #[error("in-process broker: {0}")]
    InProcess(String),
}

/// Creates and inspects topics. Its calls block: use them off the async runtime, except [`TopicAdmin::ensure`].
pub struct TopicAdmin {
    config: KafkaConfig,
    client: AdminClient<QuietContext>,
}

impl TopicAdmin {
    /// Builds the client; it connects when it is used.
    ///
    /// # Errors
    /// When the settings are not taken.
    pub fn new(config: &KafkaConfig, client_id: &str) -> Result<Arc<Self>, KafkaError> {
        let client = AdminClient::from_config_and_context(&client_config(config, client_id), QuietContext)?;
        Ok(Arc::new(Self { config: config.clone(), client }))
    }

    pub(super) fn client(&self) -> &AdminClient<QuietContext> {
        &self.client
    }

    /// Sees to it that both topics exist and every partition has a leader.
    ///
    /// # Errors
    /// When a topic is missing and cannot or must not be created, or the brokers cannot be asked.
    pub async fn ensure(self: &Arc<Self>) -> Result<(), KafkaError> {
        for topic in [&self.config.topic, &self.config.dead_letter_topic] {
            let admin = Arc::clone(self);
            let name = topic.clone();
            let found = tokio::task::spawn_blocking(move || admin.check(&name)).await;
            match found.map_err(|error| KafkaError::Admin(error.to_string()))? {
                Err(KafkaError::MissingTopic(_)) if self.config.create_topics => self.create(topic).await?,
                result => result?,
            }
        }
        Ok(())
    }

    /// Whether a topic exists with a leader for each partition.
    fn check(&self, topic: &str) -> Result<(), KafkaError> {
        let metadata = self.client.inner().fetch_metadata(Some(topic), TIMEOUT)?;
        let found = metadata.topics().first();
        let error = found.and_then(MetadataTopic::error).map(RDKafkaErrorCode::from);
        if let Some(error) = error.filter(|error| *error != RDKafkaErrorCode::UnknownTopicOrPartition) {
            return Err(KafkaError::Admin(format!("the topic {topic}: {error}")));
        }
        let found = found.filter(|found| error.is_none() && !found.partitions().is_empty());
        let found = found.ok_or_else(|| KafkaError::MissingTopic(topic.to_owned()))?;
        let leaderless = found.partitions().iter().filter(|partition| partition.leader() < 0).count();
        if leaderless == 0 {
            return Ok(());
        }
        Err(KafkaError::NoLeader { topic: topic.to_owned(), leaderless, partitions: found.partitions().len() })
    }

    async fn create(&self, topic: &str) -> Result<(), KafkaError> {
        // -1 leaves the number of replicas to the broker's default.
        let replication = TopicReplication::Fixed(self.config.replication.unwrap_or(-1));
        let dead_letter_bytes = DEAD_LETTER_BYTES_MAX.to_string();
        let mut new_topic = NewTopic::new(topic, self.config.partitions, replication);
        if *topic == self.config.dead_letter_topic {
            // Whatever the topic of purchases may hold must find room here, with more headers.
            new_topic = new_topic.set("max.message.bytes", &dead_letter_bytes);
        }
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
        for result in self.client.create_topics([&new_topic], &options).await? {
            match result {
                // Another replica may have been faster.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => return Err(KafkaError::Admin(format!("cannot create the topic {name}: {code}"))),
            }
        }
        tracing::info!(topic, partitions = self.config.partitions, "topic created");
        // Its partitions get their leaders in the next moments: the caller asks again.
        Err(KafkaError::Created(topic.to_owned()))
    }

    /// Some broker's id. Blocks.
    pub(super) fn any_broker(&self) -> Result<i32, KafkaError> {
        let metadata = self.client.inner().fetch_metadata(Some(&self.config.topic), TIMEOUT)?;
        let broker = metadata.brokers().first().map(MetadataBroker::id);
        broker.ok_or_else(|| KafkaError::Admin("no broker is known".to_owned()))
    }

    /// Names this life of the topic of purchases: cluster id and topic id. Blocks.
    ///
    /// # Errors
    /// When the brokers cannot be asked or there is no such topic.
    pub fn incarnation(&self) -> Result<String, KafkaError> {
        let client = self.client.inner();
        let topic = &self.config.topic;
        let topic_id = sys::topic_id(client, topic, self.any_broker()?, TIMEOUT).map_err(KafkaError::Admin)?;
        let topic_id = topic_id.ok_or_else(|| KafkaError::MissingTopic(topic.clone()))?;
        let cluster_id =
            client.fetch_cluster_id(TIMEOUT).ok_or_else(|| KafkaError::Admin("no cluster id".to_owned()))?;
        Ok(format!("{cluster_id}/{topic}/{topic_id}"))
    }

    /// The epoch of the leader that a partition of the topic of purchases has now, if the brokers tell: no record of it is of
    /// a newer one. Blocks.
    ///
    /// # Errors
    /// When the brokers cannot be asked.
    pub fn leader_epoch(&self, partition: i32) -> Result<Option<i32>, KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.config.topic, partition, Offset::End)?;
        let ends = end_offsets(self.client.inner(), &list, IsolationLevel::ReadUncommitted, TIMEOUT);
        Ok(ends.map_err(KafkaError::Admin)?.first().and_then(|end| end.leader_epoch))
    }

    /// How many partitions the topic of purchases has. Blocks.
    ///
    /// # Errors
    /// When the brokers cannot be asked.
    pub fn partition_count(&self) -> Result<usize, KafkaError> {
        let metadata = self.client.inner().fetch_metadata(Some(&self.config.topic), TIMEOUT)?;
        Ok(metadata.topics().first().map_or(0, |topic| topic.partitions().len()))
    }
}

/// A client whose troubles show in the results of its calls.
pub(super) struct QuietContext;

impl ClientContext for QuietContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        tracing::debug!(%error, reason, "kafka admin error");
    }
}

/// Passes librdkafka's own log lines on.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}
