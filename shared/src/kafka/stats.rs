//! librdkafka's statistics as metrics and as the answer to "is a broker there".

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::statistics::Statistics;

use crate::metrics::{Counter, Gauge, Registry, value};

/// What one Kafka client says of itself, refreshed with its statistics.
pub struct ClientMetrics {
    connected: AtomicBool,
    /// The totals of the client that was heard last.
    last: Mutex<(u64, u64)>,
    broker_connected: Gauge,
    queue_records: Gauge,
    queue_bytes: Gauge,
    requests: Counter,
    retries: Counter,
    broker_rtt_seconds: Gauge,
}

impl ClientMetrics {
    /// Metrics of a client whose names begin with `kafka_<role>_`, for example `producer`.
    #[must_use]
    pub fn register(registry: &Registry, role: &str) -> Self {
        let name = |name: &str| format!("kafka_{role}_{name}");
        let gauge = |of: &str, help| registry.gauge(name(of), help, &[]);
        let counter = |of: &str, help| registry.counter(name(of), help, &[]);
        // One name for the one broker connection that matters to a service's user.
        let connected = if role == "producer" { "kafka_broker_connected".to_owned() } else { name("connected") };
        Self {
            connected: AtomicBool::new(false),
            last: Mutex::default(),
            broker_connected: registry.gauge(connected, "1 while at least one broker is connected.", &[]),
            queue_records: gauge("queue_records", "Records held in the client's queues."),
            queue_bytes: gauge("queue_bytes", "Bytes held in the client's queues."),
            requests: counter("requests_total", "Requests sent to brokers."),
            retries: counter("request_retries_total", "Requests sent again."),
            broker_rtt_seconds: gauge("broker_rtt_seconds", "Mean time of a request to the slowest broker."),
        }
    }

    /// Whether a broker is connected, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Takes note, and logs only what has changed: librdkafka repeats itself several times a second.
    pub(super) fn set_connected(&self, connected: bool) {
        self.broker_connected.set(f64::from(u8::from(connected)));
        match (self.connected.swap(connected, Ordering::Relaxed), connected) {
            (false, true) => tracing::info!("kafka is reachable"),
            (true, false) => tracing::warn!("kafka is unreachable"),
            _ => {}
        }
    }

    pub(super) fn update(&self, statistics: &Statistics) {
        // Bootstrap entries have no node id and stay down once the real brokers are known.
        let brokers = || statistics.brokers.values();
        self.set_connected(brokers().any(|broker| broker.state == "UP"));
        // A producer counts what it has not sent, a consumer what it has fetched.
        let partitions = || statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let fetched: usize = partitions().map(|partition| usize::try_from(partition.fetchq_cnt).unwrap_or(0)).sum();
        let fetched_bytes: u64 = partitions().map(|partition| partition.fetchq_size).sum();
        self.queue_records
            .set(value(usize::try_from(statistics.msg_cnt).unwrap_or(usize::MAX).saturating_add(fetched)));
        let bytes = statistics.msg_size.saturating_add(fetched_bytes);
        self.queue_bytes.set(value(usize::try_from(bytes).unwrap_or(usize::MAX)));
        let now = (u64::try_from(statistics.tx).unwrap_or(0), brokers().map(|broker| broker.txretries).sum());
        let last = std::mem::replace(&mut *self.last.lock().unwrap_or_else(PoisonError::into_inner), now);
        self.requests.increment(advance(last.0, now.0));
        self.retries.increment(advance(last.1, now.1));
        let rtt_micros = brokers().filter_map(|broker| broker.rtt.as_ref()).map(|rtt| rtt.avg).max().unwrap_or(0);
        self.broker_rtt_seconds.set(i32::try_from(rtt_micros).map_or(0.0, f64::from) / 1e6);
    }
}

/// How far a total that the client keeps has come; a client made anew has begun at 0.
fn advance(last: u64, now: u64) -> u64 {
    if now >= last { now - last } else { now }
}
