//! How a consumer joins its group and how much it holds.

use std::str::FromStr;
use std::time::Duration;

use rdkafka::ClientConfig;

use crate::config::KafkaConfig;
use crate::kafka::{STATISTICS_INTERVAL_MS, client_config};

/// The longest pause between two polls; the polling thread stays far below it.
const POLL_INTERVAL_MAX: Duration = Duration::from_secs(15);

/// A killed member's partitions go on soon, and a busy machine does not yet look dead.
pub const SHORT_SESSION: Duration = Duration::from_secs(3);
/// What Kafka asks for unless it is told otherwise.
pub const SESSION_OF_KAFKA: Duration = Duration::from_secs(6);

/// How a consumer joins its group and how much it holds.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// The consumer group.
    pub group: String,
    /// `classic` or `consumer` (KIP-848).
    pub group_protocol: GroupProtocol,
    /// A member silent for so long is thrown out: nothing means 3 s, or as long as the brokers ask for. With
    /// `consumer` they decide.
    pub session_timeout: Option<Duration>,
    /// Bytes fetched ahead of the application at most, in KiB, over all partitions.
    pub fetch_ahead_kib: usize,
    /// How long a broker may hold a fetch that finds nothing.
    pub fetch_wait: Duration,
}

/// How members of a group agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupProtocol {
    /// Members agree among themselves, cooperatively.
    #[default]
    Classic,
    /// The broker decides (KIP-848, Kafka 4).
    Consumer,
}

impl FromStr for GroupProtocol {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "classic" => Ok(Self::Classic),
            "consumer" => Ok(Self::Consumer),
            _ => Err("must be classic or consumer"),
        }
    }
}

impl ConsumerOptions {
    /// The session for brokers that allow no shorter one than `shortest`; nothing when they do not tell.
    #[must_use]
    pub fn session(&self, shortest: Option<Duration>) -> Duration {
        self.session_timeout.unwrap_or_else(|| SHORT_SESSION.max(shortest.unwrap_or(SESSION_OF_KAFKA)))
    }

    pub(super) fn client_config(&self, config: &KafkaConfig, client_id: &str) -> ClientConfig {
        let session = self.session(None);
        let mut client = client_config(config, client_id);
        client
            .set("statistics.interval.ms", STATISTICS_INTERVAL_MS)
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // A position that the broker does not have is an error to look at, never a silent jump.
            .set("auto.offset.reset", "error")
            // Tells where a partition ends: behind what will never be polled, such as the markers of transactions.
            .set("enable.partition.eof", "true")
            // A batch that was damaged on its way or on a disk is seen, and never taken for purchases.
            .set("check.crcs", "true")
            .set("fetch.wait.max.ms", self.fetch_wait.as_millis().to_string())
            .set("fetch.error.backoff.ms", "100")
            .set("queued.min.messages", "5000")
            .set("queued.max.messages.kbytes", self.fetch_ahead_kib.to_string())
            // A full queue is looked at again soon: at the default of a second it would run empty in between.
            .set("fetch.queue.backoff.ms", "10")
            // Counted as compressed: what is fetched at once may be ten times as large in memory.
            .set("fetch.message.max.bytes", "65536")
            .set("fetch.max.bytes", "1048576");
        match self.group_protocol {
            GroupProtocol::Classic => client
                .set("partition.assignment.strategy", "cooperative-sticky")
                // Also how long a rebalance waits for a member: one frozen in its middle must not hold up the others.
                .set("max.poll.interval.ms", session.max(POLL_INTERVAL_MAX).as_millis().to_string())
                .set("session.timeout.ms", session.as_millis().to_string())
                .set("heartbeat.interval.ms", (session.as_millis() / 5).clamp(100, 2000).to_string()),
            GroupProtocol::Consumer => client.set("group.protocol", "consumer"),
        };
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_short_if_the_brokers_allow_it_and_as_long_as_somebody_asks_for() {
        let options = |session_timeout| ConsumerOptions {
            group: String::new(),
            group_protocol: GroupProtocol::Classic,
            session_timeout,
            fetch_ahead_kib: 1,
            fetch_wait: Duration::ZERO,
        };
        let session = |seconds: Option<u64>, shortest: Option<u64>| {
            options(seconds.map(Duration::from_secs)).session(shortest.map(Duration::from_secs)).as_secs()
        };
        assert_eq!(session(None, Some(1)), 3);
        assert_eq!(session(None, Some(10)), 10);
        assert_eq!(session(None, None), 6, "who may not ask is told by Kafka's own default");
        assert_eq!(session(Some(2), Some(10)), 2, "who sets it is obeyed; the brokers' refusal then shows");
    }
}
