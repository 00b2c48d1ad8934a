//! The settings of the way to management-api.

use shared::config::{Secret, Settings};
use shared::http::{WAITING_BUYERS, WAITING_READERS};

use super::{Balancing, Lookup, ReplicaUrl};

/// How to reach management-api.
#[derive(Clone)]
pub struct ManagementConfig {
    /// Each name's every address is a replica.
    pub urls: Vec<ReplicaUrl>,
    /// Which of them is asked next.
    pub balancing: Balancing,
    /// The bearer token, when the replicas want one.
    pub token: Option<Secret<String>>,
    /// Requests of one kind to all replicas at once, but reads; more wait for their turn within their deadline.
    pub in_flight_max: usize,
    /// Purchases that buyers wait for at once; over it they are answered as if they had not asked.
    pub waiting_buyers_max: usize,
    /// Readers who wait for a purchase at once; over it they are answered with what is there.
    pub waiting_readers_max: usize,
    /// How names are resolved (not a setting: tests have their own).
    pub lookup: Lookup,
}

impl ManagementConfig {
    /// Reads the settings; mistakes are kept in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let text = settings.text(
            "CUSTOMER_MGMT_API_URL",
            "http://127.0.0.1:8081",
            "URLs of management-api, comma-separated; each name's every address is a replica",
        );
        let mut urls = Vec::new();
        for url in text.split(',') {
            match ReplicaUrl::parse(url.trim()) {
                Ok(url) => urls.push(url),
                Err(message) => settings.mistake("CUSTOMER_MGMT_API_URL", message),
            }
        }
        let token = settings.secret("MANAGEMENT_API_TOKEN", "bearer token towards management-api (secret)");
        if token.as_ref().is_some_and(|token| !token.expose().bytes().all(|byte| byte.is_ascii_graphic())) {
            settings.mistake("MANAGEMENT_API_TOKEN", "must be visible ASCII characters, without spaces");
        }
        Self {
            urls,
            balancing: settings.parsed(
                "MANAGEMENT_BALANCING",
                "least_loaded",
                "which replica is asked next: round_robin, random or least_loaded",
            ),
            token,
            in_flight_max: settings.size(
                "MANAGEMENT_IN_FLIGHT_MAX",
                1024,
                1..=1_000_000,
                "requests of one kind to management-api at once, but reads; more wait for their turn",
            ),
            waiting_buyers_max: settings.size("WAITING_BUYERS_MAX", 768, 1..=1_000_000, WAITING_BUYERS),
            waiting_readers_max: settings.size("WAITING_READERS_MAX", 256, 1..=1_000_000, WAITING_READERS),
            lookup: Lookup::default(),
        }
    }
}
