//! librdkafka's statistics as metrics and as the answer to "is a broker there".

use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::{Gauge, IntCounter, IntGauge, Registry};
use rdkafka::statistics::Statistics;

/// What one Kafka client says of itself, refreshed every second.
#[derive(Debug)]
pub struct ClientMetrics {
    connected: AtomicBool,
    broker_connected: IntGauge,
    queue_records: IntGauge,
    queue_bytes: IntGauge,
    requests: IntCounter,
    retries: IntCounter,
    broker_rtt_seconds: Gauge,
}

impl ClientMetrics {
    /// Metrics of a client whose names begin with `kafka_<role>_`, for example `producer`.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn register(registry: &Registry, role: &str) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name.to_owned(), help.to_owned())?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: String, help: &str| {
            let counter = IntCounter::new(name, help.to_owned())?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let rtt =
            Gauge::new(format!("kafka_{role}_broker_rtt_seconds"), "Mean time of a request to the slowest broker.")?;
        registry.register(Box::new(rtt.clone()))?;
        // One name for the one broker connection that matters to a service's user.
        let connected =
            if role == "producer" { "kafka_broker_connected".to_owned() } else { format!("kafka_{role}_connected") };
        Ok(Self {
            connected: AtomicBool::new(false),
            broker_connected: gauge(&connected, "1 while at least one broker is connected.")?,
            queue_records: gauge(&format!("kafka_{role}_queue_records"), "Records held in the client's queues.")?,
            queue_bytes: gauge(&format!("kafka_{role}_queue_bytes"), "Bytes held in the client's queues.")?,
            requests: counter(format!("kafka_{role}_requests_total"), "Requests sent to brokers.")?,
            retries: counter(format!("kafka_{role}_request_retries_total"), "Requests sent again.")?,
            broker_rtt_seconds: rtt,
        })
    }

    /// Whether a broker is connected, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Takes note, and logs only what has changed: librdkafka repeats itself several times a second.
    pub(super) fn set_connected(&self, connected: bool) {
        self.broker_connected.set(i64::from(connected));
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
        self.queue_records.set(i64::try_from(statistics.msg_cnt).unwrap_or(i64::MAX));
        self.queue_bytes.set(i64::try_from(statistics.msg_size).unwrap_or(i64::MAX));
        advance(&self.requests, u64::try_from(statistics.tx).unwrap_or(0));
        advance(&self.retries, brokers().map(|broker| broker.txretries).sum());
        let rtt_micros = brokers().filter_map(|broker| broker.rtt.as_ref()).map(|rtt| rtt.avg).max().unwrap_or(0);
        self.broker_rtt_seconds.set(i32::try_from(rtt_micros).map_or(0.0, f64::from) / 1e6);
    }
}

/// Brings a counter up to a total that the client keeps; a client made anew begins at 0 again.
fn advance(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}
