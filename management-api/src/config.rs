//! The settings of this service.

use std::net::SocketAddr;
use std::time::Duration;

use shared::config::{KafkaConfig, Secret, Settings};
use shared::http::ServerLimits;
use shared::telemetry::LogConfig;

use crate::ingest::IngestConfig;
use crate::store::StoreConfig;

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen_address: SocketAddr,
    /// Kafka.
    pub kafka: KafkaConfig,
    /// The database.
    pub store: StoreConfig,
    /// The record path.
    pub ingest: IngestConfig,
    /// What callers must present; nothing means that the network keeps them out.
    pub token: Option<Secret<String>>,
    /// Limits of the listener.
    pub server: ServerLimits,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// How long to serve on after the signal to end.
    pub drain_delay: Duration,
    /// What stands before the names of the HTTP metrics.
    pub metrics_http_prefix: String,
    /// The log.
    pub log: LogConfig,
}

impl Config {
    /// Reads the settings; mistakes are noted in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let listen_address = settings.parsed("LISTEN_ADDRESS", "0.0.0.0:8081", "address and port to listen on");
        let kafka = KafkaConfig::read(settings);
        let ingest = IngestConfig::read(settings);
        Self {
            listen_address,
            kafka,
            store: StoreConfig::read(settings, ingest.lanes),
            ingest,
            token: settings.secret("MANAGEMENT_API_TOKEN", "bearer token of callers (secret)"),
            server: ServerLimits {
                connections: settings.size("CONNECTIONS_MAX", 8_192, 1..=1_000_000, "connections held at once"),
                header_timeout: settings.millis(
                    "REQUEST_HEADER_TIMEOUT_MS",
                    75_000,
                    100..=3_600_000,
                    "a connection's longest silence before a whole request head, ms",
                ),
                drain_timeout: settings.millis(
                    "DRAIN_TIMEOUT_MS",
                    10_000,
                    0..=600_000,
                    "how long running requests may take to end at shutdown, ms",
                ),
            },
            body_timeout: settings.millis(
                "REQUEST_BODY_TIMEOUT_MS",
                10_000,
                1..=600_000,
                "how long a body may take, ms",
            ),
            drain_delay: settings.millis(
                "DRAIN_DELAY_MS",
                5_000,
                0..=600_000,
                "how long to serve on, not ready, after SIGTERM, ms",
            ),
            metrics_http_prefix: settings
                .optional("METRICS_HTTP_PREFIX", "stands before http_request_*")
                .unwrap_or_default(),
            log: LogConfig::read(settings),
        }
    }
}
