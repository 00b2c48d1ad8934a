//! Every setting of web-server, and every limit it keeps.

use std::time::Duration;

use shared::config::Settings;
use shared::health::Check;
use shared::http::{BodyLimits, HttpConfig};
use shared::telemetry::LogConfig;

use crate::management_client::ManagementConfig;
use crate::publisher::PublisherConfig;

/// The largest body of `POST /buy`, inclusive.
const BUY_BODY_BYTES_MAX: usize = 16 * 1024;
/// The largest body of `POST /buy/batch`, inclusive.
const BATCH_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What the end may take beside what has a limit of its own.
const END_MARGIN: Duration = Duration::from_secs(2);

/// The configuration of one web-server.
#[derive(Clone)]
pub struct Config {
    /// Where and how to listen.
    pub http: HttpConfig,
    /// How purchases come to Kafka.
    pub publisher: PublisherConfig,
    /// Write requests handled at once; more are refused.
    pub in_flight_max: usize,
    /// Batches handled at once; each may hold 8 MiB.
    pub batches_in_flight_max: usize,
    /// How long the producer may take to empty its queue at the end.
    pub flush_timeout: Duration,
    /// Where reads go.
    pub management: ManagementConfig,
    /// The log.
    pub log: LogConfig,
    /// Whether a 2xx is only ever 201: for a broker that keeps records in memory only (embedded mode, not a setting).
    pub always_wait: bool,
    /// Asked before a purchase is sent; an error refuses it with 503 (embedded mode, not a setting).
    pub admission: Option<Check>,
}

impl Config {
    /// Reads every setting; mistakes are kept in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        Self {
            http: HttpConfig::read(settings, "0.0.0.0:8080"),
            publisher: PublisherConfig::read(settings),
            in_flight_max: settings.size("IN_FLIGHT_MAX", 4096, 1..=1_000_000, "purchase requests handled at once"),
            batches_in_flight_max: settings.size(
                "BATCHES_IN_FLIGHT_MAX",
                32,
                1..=10_000,
                "batch requests handled at once",
            ),
            flush_timeout: settings.millis(
                "FLUSH_TIMEOUT_MS",
                3_000,
                0..=600_000,
                "ms for the producer to empty its queue at the end",
            ),
            management: ManagementConfig::read(settings),
            log: LogConfig::read(settings),
            always_wait: false,
            admission: None,
        }
    }

    /// How long the end may take from the stop on: running requests, the producer's queue, and a little more.
    pub fn end_limit(&self) -> Duration {
        self.http.limits.drain_timeout + self.flush_timeout + END_MARGIN
    }

    /// The limits of `POST /buy`'s body.
    pub fn buy_body(&self) -> BodyLimits {
        BodyLimits { bytes: BUY_BODY_BYTES_MAX, timeout: self.http.body_timeout }
    }

    /// The limits of `POST /buy/batch`'s body.
    pub fn batch_body(&self) -> BodyLimits {
        BodyLimits { bytes: BATCH_BODY_BYTES_MAX, timeout: self.http.body_timeout }
    }
}
