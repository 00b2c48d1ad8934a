//! Metrics that both services export, in the names of the autoscaling guide, and how any part has its own.

mod http;
mod label;
mod registry;

pub use metrics::{Counter, Gauge, Histogram};

pub use self::http::{HttpMetrics, InFlight, RouteSeries};
pub use self::label::{CounterBy, Label};
pub use self::registry::{Buckets, Registry};

/// A count as a metric's value: exact up to 2^53, which nothing that is counted here reaches.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "metrics are floating-point numbers")]
pub fn value(count: usize) -> f64 {
    count as f64
}
