//! The settings of the answers kept for a moment.

use std::time::Duration;

use shared::config::Settings;

use super::recent_buyers::MEMORY;

/// How old answers may get.
#[derive(Clone, Copy, Debug)]
pub struct ReadCacheConfig {
    /// Zero: nothing is kept.
    pub age_max: Duration,
}

impl ReadCacheConfig {
    /// Reads the settings; mistakes are kept in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let help = "ms that an answer of getAllUserBuys may serve other callers; 0: each read is a call";
        // Whoever has bought reads around the cache for so long, and older answers must be gone by then.
        let most = u64::try_from(MEMORY.as_millis()).unwrap_or(u64::MAX);
        Self { age_max: settings.millis("READ_CACHE_MS", 0, 0..=most, help) }
    }
}
