//! The settings of a service that listens; both services have the same.

use std::net::SocketAddr;
use std::time::Duration;

use super::ServerLimits;
use crate::config::Settings;

/// Where and how a service listens.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Where to listen.
    pub listen_address: SocketAddr,
    /// Limits of the listener.
    pub limits: ServerLimits,
    /// Where health and metrics are served besides; metrics only there then.
    pub operations_address: Option<SocketAddr>,
    /// Bytes that callers may make the service hold.
    pub memory_max: usize,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// From the first sign of the end to the last accepted request.
    pub drain_delay: Duration,
    /// Stands before the three names `http_request_*`.
    pub metrics_prefix: String,
}

impl HttpConfig {
    /// Reads the settings; mistakes are noted in `settings`.
    pub fn read(settings: &mut Settings, default_address: &str) -> Self {
        Self {
            listen_address: settings.parsed("LISTEN_ADDRESS", default_address, "address and port to listen on"),
            operations_address: read_operations_address(settings),
            limits: read_limits(settings),
            memory_max: 1024
                * settings.size(
                    "HTTP_MEMORY_MAX_KIB",
                    65_536,
                    1024..=1_048_576,
                    "KiB that callers can make the service hold: connections, bodies, answers; more are refused",
                ),
            body_timeout: settings.millis(
                "REQUEST_BODY_TIMEOUT_MS",
                10_000,
                100..=300_000,
                "ms that a request's body may take",
            ),
            drain_delay: settings.millis(
                "DRAIN_DELAY_MS",
                5_000,
                0..=600_000,
                "ms from SIGTERM (not ready) to the end of accepting",
            ),
            metrics_prefix: read_metrics_prefix(settings),
        }
    }
}

fn read_limits(settings: &mut Settings) -> ServerLimits {
    ServerLimits {
        connections: settings.size(
            "CONNECTIONS_MAX",
            10_000,
            1..=1_000_000,
            "connections held at once; at the limit the longest idle one is closed for a new one, else that is refused",
        ),
        header_timeout: settings.millis(
            "REQUEST_HEADER_TIMEOUT_MS",
            10_000,
            100..=600_000,
            "ms from the first byte of a request's head to its last",
        ),
        keep_alive_timeout: settings.millis(
            "KEEP_ALIVE_TIMEOUT_MS",
            90_000,
            100..=3_600_000,
            "ms until an idle connection is closed; longer than a load balancer keeps it",
        ),
        answer_timeout: settings.millis(
            "ANSWER_TIMEOUT_MS",
            30_000,
            100..=600_000,
            "ms until a caller who reads nothing of its answer is cut off; who reads less than 4 KiB/s, somewhat later",
        ),
        max_age: Some(settings.millis(
            "CONNECTION_MAX_AGE_MS",
            300_000,
            0..=86_400_000,
            "ms until a connection ends with its next answer, so that callers spread over new replicas; 0 for never",
        ))
        .filter(|age| !age.is_zero()),
        drain_timeout: settings.millis(
            "DRAIN_TIMEOUT_MS",
            15_000,
            0..=600_000,
            "ms for running requests to end after the drain delay",
        ),
        half_close: true,
    }
}

fn read_operations_address(settings: &mut Settings) -> Option<SocketAddr> {
    let help = "address and port for health and metrics besides; metrics are only there then";
    let address = settings.optional("OPERATIONS_LISTEN_ADDRESS", help)?.parse();
    if address.is_err() {
        settings.mistake("OPERATIONS_LISTEN_ADDRESS", "must be an address and a port, such as 0.0.0.0:9090");
    }
    address.ok()
}

fn read_metrics_prefix(settings: &mut Settings) -> String {
    let help = "stands before http_request_total and its two companions, for example flask_";
    let prefix = settings.optional("METRICS_HTTP_PREFIX", help).unwrap_or_default();
    let valid =
        |(index, byte): (usize, u8)| byte.is_ascii_alphabetic() || byte == b'_' || (index > 0 && byte.is_ascii_digit());
    if !prefix.bytes().enumerate().all(valid) {
        settings.mistake("METRICS_HTTP_PREFIX", "must be letters, digits and _, and not begin with a digit");
    }
    prefix
}
