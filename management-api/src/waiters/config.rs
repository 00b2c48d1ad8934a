//! How many may wait.

use shared::config::Settings;
use shared::http::{WAITING_BUYERS, WAITING_READERS};

/// The shares of those who wait, in purchases.
#[derive(Clone, Copy, Debug)]
pub struct WaitersConfig {
    /// Of buyers.
    pub buyers_max: usize,
    /// Of readers.
    pub readers_max: usize,
}

impl WaitersConfig {
    /// Reads the settings; mistakes are noted in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        // More than a web-server lets wait: several ask the same replica.
        Self {
            buyers_max: settings.size("WAITING_BUYERS_MAX", 8192, 1..=1_000_000, WAITING_BUYERS),
            readers_max: settings.size("WAITING_READERS_MAX", 2048, 1..=1_000_000, WAITING_READERS),
        }
    }
}
