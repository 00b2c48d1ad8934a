//! How many may listen.

use shared::config::Settings;

/// The limits of live events.
#[derive(Clone, Copy, Debug)]
pub struct EventsConfig {
    /// Open streams, at most.
    pub streams_max: usize,
}

impl EventsConfig {
    /// Reads the settings; mistakes are kept in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let help = "streams of events that are open at once, at most";
        Self { streams_max: settings.size("EVENT_STREAMS_MAX", 1_000, 1..=1_000_000, help) }
    }
}
