//! How many may listen.

use shared::config::Settings;

/// The limits of live events.
#[derive(Clone, Copy, Debug)]
pub struct EventsConfig {
    /// Open streams, at most.
    pub streams_max: usize,
    /// The same of one caller.
    pub caller_streams_max: usize,
}

impl EventsConfig {
    /// Reads the settings; mistakes are kept in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let help = "streams of events that are open at once, at most";
        let of_caller =
            "streams of events that one caller has open at once, at most; 0 for no limit but EVENT_STREAMS_MAX";
        Self {
            streams_max: settings.size("EVENT_STREAMS_MAX", 256, 1..=1_000_000, help),
            caller_streams_max: settings.size("EVENT_STREAMS_PER_CALLER_MAX", 0, 0..=1_000_000, of_caller),
        }
    }
}
