//! Whether the dead-letter topic takes what the topic of purchases holds, and keeps it as long.

use std::time::Duration;

use shared::backoff::Backoff;
use shared::config::KafkaConfig;
use shared::kafka::{KafkaError, TopicAdmin, TopicLimits};

/// The pauses before the brokers are asked again: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(10));
/// So many questions without an answer are nothing unusual while a cluster starts.
const QUIET_ATTEMPTS: usize = 3;

/// Compares the two topics' limits once the brokers tell them, however late that is, and says in the log what does not fit.
pub async fn compare_limits(config: KafkaConfig) {
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    for attempt in 1.. {
        match limits(&config).await {
            Ok((purchases, letters)) => {
                for difference in differences(&purchases, &letters) {
                    tracing::warn!(topic = config.dead_letter_topic, "{difference}");
                }
                return;
            }
            // A broker may not know the question, or not answer this user.
            Err(error) if attempt == QUIET_ATTEMPTS => {
                tracing::info!(%error, "the topics' limits are not told, and so not compared; asking on");
            }
            Err(error) => tracing::debug!(%error, "the topics' limits are not told"),
        }
        backoff.sleep().await;
    }
}

/// By a client of its own, which is needed once.
async fn limits(config: &KafkaConfig) -> Result<(TopicLimits, TopicLimits), KafkaError> {
    let admin = TopicAdmin::new(config, "topic-limits")?;
    let found = admin.limits(&[&config.topic, &config.dead_letter_topic]).await;
    // Its end waits for its thread.
    let _ = tokio::task::spawn_blocking(move || drop(admin)).await;
    let [purchases, letters] = <[TopicLimits; 2]>::try_from(found?)
        .map_err(|found| KafkaError::Admin(format!("limits of {} topics instead of 2", found.len())))?;
    Ok((purchases, letters))
}

fn differences(purchases: &TopicLimits, letters: &TopicLimits) -> Vec<String> {
    let mut differences = Vec::new();
    if let (Some(taken), Some(room)) = (purchases.batch_bytes, letters.batch_bytes)
        && room <= taken
    {
        differences.push(format!(
            "the dead-letter topic's max.message.bytes is {room}, that of purchases {taken}: the largest records do not fit \
             with their headers, and the database keeps them"
        ));
    }
    if let (Some(kept), Some(retention)) = (purchases.retention_ms, letters.retention_ms)
        && retention >= 0
        && (kept < 0 || retention < kept)
    {
        differences.push(format!(
            "the dead-letter topic's retention.ms is {retention}, that of purchases {kept}: dead letters are gone sooner \
             than purchases"
        ));
    }
    if letters.is_compacted {
        differences.push(
            "the dead-letter topic's cleanup.policy is compact: of dead letters with the same key only the last stays"
                .to_owned(),
        );
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(batch_bytes: i64, retention_ms: i64, is_compacted: bool) -> TopicLimits {
        TopicLimits { batch_bytes: Some(batch_bytes), retention_ms: Some(retention_ms), is_compacted }
    }

    #[test]
    fn what_does_not_fit_is_told_and_what_fits_is_not() {
        let purchases = topic(1_048_588, 604_800_000, false);
        let told = |letters: &TopicLimits| differences(&purchases, letters);
        assert!(told(&topic(33_554_432, 604_800_000, false)).is_empty());
        assert!(told(&topic(33_554_432, -1, false)).is_empty(), "for ever is long enough");
        assert!(told(&TopicLimits::default()).is_empty(), "what is not known is not told");
        assert!(told(&topic(1_048_588, -1, false))[0].contains("max.message.bytes"));
        assert!(told(&topic(33_554_432, 3_600_000, false))[0].contains("retention.ms"));
        assert_eq!(told(&topic(1, 1, true)).len(), 3);
        let for_ever = topic(1_048_588, -1, false);
        assert_eq!(differences(&for_ever, &topic(33_554_432, 604_800_000, false)).len(), 1);
    }
}
