//! Metrics of load shedding.

use std::time::Duration;

use shared::metrics::{Gauge, Label, Registry, value};

/// Kinds of work that are limited each for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Purchase requests, until Kafka has answered.
    Purchases,
    /// Batch requests, until Kafka has answered.
    Batches,
    /// Calls to management-api that read.
    Reads,
}

impl Label for Work {
    const NAME: &'static str = "kind";
    const ALL: &'static [Self] = &[Self::Purchases, Self::Batches, Self::Reads];

    fn text(self) -> &'static str {
        match self {
            Self::Purchases => "purchases",
            Self::Batches => "batches",
            Self::Reads => "reads",
        }
    }
}

/// What is in flight, how much may be, and how late the process is.
pub struct SheddingMetrics {
    /// In flight and limit of each kind, in the order of [`Work::ALL`].
    kinds: Vec<(Gauge, Gauge)>,
    delay: Gauge,
}

impl SheddingMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        let gauges = |work: &Work| {
            let labels = [(Work::NAME, work.text())];
            let in_flight = registry.gauge("work_in_flight", "What is handled now, by kind of work.", &labels);
            let limit = "How much may be handled at once; follows from latency.";
            (in_flight, registry.gauge("work_in_flight_limit", limit, &labels))
        };
        let delay = "How late the process gets to what is due, recent mean.";
        Self {
            kinds: Work::ALL.iter().map(gauges).collect(),
            delay: registry.gauge("scheduling_delay_seconds", delay, &[]),
        }
    }

    /// Shows what is in flight of one kind, and how much may be.
    pub fn show(&self, work: Work, in_flight: usize, limit: usize) {
        let gauges = Work::ALL.iter().position(|other| *other == work).and_then(|index| self.kinds.get(index));
        if let Some((shown, shown_limit)) = gauges {
            shown.set(value(in_flight));
            shown_limit.set(value(limit));
        }
    }

    /// Shows how late the process is.
    pub fn show_delay(&self, delay: Duration) {
        self.delay.set(delay.as_secs_f64());
    }
}
