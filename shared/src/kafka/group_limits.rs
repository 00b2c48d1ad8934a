//! What the brokers allow a group.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminOptions, ResourceSpecifier};

use super::KafkaError;
use super::admin::{TIMEOUT, TopicAdmin};

impl TopicAdmin {
    /// The shortest time-out that the brokers allow a member of a group: `group.min.session.timeout.ms`.
    ///
    /// # Errors
    /// When the brokers do not tell: not everybody may ask.
    pub async fn shortest_session(self: &Arc<Self>) -> Result<Duration, KafkaError> {
        let admin = Arc::clone(self);
        let broker = tokio::task::spawn_blocking(move || admin.any_broker()).await;
        let broker = broker.map_err(|error| KafkaError::Admin(error.to_string()))??;
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let resources = self.client().describe_configs([&ResourceSpecifier::Broker(broker)], &options).await?;
        let resource = resources.into_iter().next().and_then(Result::ok);
        let shortest =
            resource.and_then(|broker| broker.get("group.min.session.timeout.ms")?.value.clone()?.parse().ok());
        shortest
            .map(Duration::from_millis)
            .ok_or_else(|| KafkaError::Admin("the brokers' settings are not told".to_owned()))
    }
}
