//! Of live events.

use shared::metrics::{Counter, CounterBy, Gauge, Label, Registry};

/// Why a stream of events has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// Its caller has gone.
    Left,
    /// All was told.
    Complete,
    /// Its caller reads too slowly.
    Slow,
    /// Its caller may not listen any more.
    Access,
    /// The service ends.
    Draining,
}

impl Label for StreamEnd {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] = &[Self::Left, Self::Complete, Self::Slow, Self::Access, Self::Draining];

    fn text(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Complete => "complete",
            Self::Slow => "slow",
            Self::Access => "access",
            Self::Draining => "draining",
        }
    }
}

/// Of streams of events.
pub struct EventMetrics {
    /// That are open.
    pub streams: Gauge,
    /// Purchases told.
    pub sent: Counter,
    /// Streams that have lost their place.
    pub resets: Counter,
    /// Streams that have ended.
    pub ended: CounterBy<StreamEnd>,
}

impl EventMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        let resets = "Streams of events that were told to read anew.";
        Self {
            streams: registry.gauge("event_streams", "Streams of events that are open.", &[]),
            sent: registry.counter("events_sent_total", "Purchases told to streams of events.", &[]),
            resets: registry.counter("event_stream_resets_total", resets, &[]),
            ended: CounterBy::register(registry, "event_streams_ended_total", "Streams of events that have ended."),
        }
    }
}
