//! What a topic takes, and for how long it keeps it.

use rdkafka::admin::{AdminOptions, ConfigResource, ResourceSpecifier};

use super::KafkaError;
use super::admin::{TIMEOUT, TopicAdmin};

/// A topic's limits, as far as the brokers tell them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicLimits {
    /// The largest batch, in bytes: `max.message.bytes`.
    pub batch_bytes: Option<i64>,
    /// How long records stay, in milliseconds: `retention.ms`; -1 is for ever.
    pub retention_ms: Option<i64>,
    /// Whether only the last record of each key stays: `cleanup.policy`.
    pub is_compacted: bool,
}

impl TopicAdmin {
    /// The limits of these topics, in their order.
    ///
    /// # Errors
    /// When the brokers do not tell.
    pub async fn limits(&self, topics: &[&str]) -> Result<Vec<TopicLimits>, KafkaError> {
        let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let mut limits = Vec::new();
        for resource in self.client().describe_configs(&resources, &options).await? {
            let resource = resource.map_err(|code| KafkaError::Admin(format!("the topics' settings: {code}")))?;
            limits.push(TopicLimits::of(&resource));
        }
        Ok(limits)
    }
}

impl TopicLimits {
    fn of(resource: &ConfigResource) -> Self {
        let value = |name: &str| resource.get(name).and_then(|entry| entry.value.as_deref());
        let number = |name: &str| value(name).and_then(|value| value.parse().ok());
        Self {
            batch_bytes: number("max.message.bytes"),
            retention_ms: number("retention.ms"),
            is_compacted: value("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
        }
    }
}
