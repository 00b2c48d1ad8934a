//! The settings of load shedding.

use std::time::Duration;

use shared::config::Settings;

const BUY_LATENCY: &str = "mean ms until Kafka has a purchase, beside the linger, over which fewer are let in at once; 0: IN_FLIGHT_MAX alone";
const READ_LATENCY: &str =
    "mean ms of a read of management-api over which fewer are let in at once; 0: READS_IN_FLIGHT_MAX alone";

/// How much is handled at once at most, and how long it may take before it becomes less.
#[derive(Clone, Copy, Debug)]
pub struct SheddingConfig {
    /// Purchases at once, at most.
    pub purchases_max: usize,
    /// Batches at once, at most; each may hold 8 MiB.
    pub batches_max: usize,
    /// Reads at once, at most.
    pub reads_max: usize,
    /// How long Kafka may take on average; zero for a fixed limit.
    pub purchase_latency: Duration,
    /// How long management-api may take on average; zero for a fixed limit.
    pub read_latency: Duration,
}

impl SheddingConfig {
    /// Reads the settings; mistakes are kept in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let latency = 0..=60_000;
        Self {
            purchases_max: settings.size(
                "IN_FLIGHT_MAX",
                4096,
                1..=1_000_000,
                "purchase requests handled at once, at most",
            ),
            batches_max: settings.size(
                "BATCHES_IN_FLIGHT_MAX",
                32,
                1..=10_000,
                "batch requests handled at once, at most",
            ),
            reads_max: settings.size(
                "READS_IN_FLIGHT_MAX",
                1024,
                1..=1_000_000,
                "reads of management-api at once, at most",
            ),
            purchase_latency: settings.millis("SHED_BUY_LATENCY_MS", 500, latency.clone(), BUY_LATENCY),
            read_latency: settings.millis("SHED_READ_LATENCY_MS", 500, latency, READ_LATENCY),
        }
    }
}
