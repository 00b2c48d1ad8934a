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
            limits: ServerLimits {
                connections: settings.size("CONNECTIONS_MAX", 10_000, 1..=1_000_000, "connections held at once"),
                header_timeout: settings.millis(
                    "REQUEST_HEADER_TIMEOUT_MS",
                    30_000,
                    100..=600_000,
                    "ms until an idle or slow connection is closed",
                ),
                drain_timeout: settings.millis(
                    "DRAIN_TIMEOUT_MS",
                    15_000,
                    0..=600_000,
                    "ms for running requests to end after the drain delay",
                ),
            },
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
