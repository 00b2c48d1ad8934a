//! Every metric of web-server beyond those that both services have; labels come from the enums here.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};
use shared::metrics::{HttpMetrics, new_registry};

use crate::routes::{ROUTES, WATCHED_FAILURES};

/// Bounds of publish times, in seconds.
const PUBLISH_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0];
/// Bounds of the times of requests to management-api, in seconds.
const MANAGEMENT_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// The long-lived tasks and threads of web-server.
pub const TASKS: [&str; 5] = ["http", "kafka_producer", "operations", "replicas", "topics"];

/// A label whose values are all known.
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Every value.
    const ALL: &'static [Self];
    /// The value as text.
    fn text(self) -> &'static str;
}

/// What became of a purchase on its way to Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// Every in-sync replica has it.
    Delivered,
    /// Nothing was sent.
    Refused,
    /// It is certainly not in Kafka.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// Why a request was refused before anything was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Over the caller's rate.
    Rate,
    /// Too many requests in flight.
    InFlight,
    /// The producer's queue is full.
    QueueFull,
    /// What comes after Kafka cannot take it.
    Shedding,
    /// Kafka is not reachable.
    Broker,
    /// The service is ending.
    Draining,
    /// Callers hold too much already.
    Memory,
}

/// How one request to a replica of management-api ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagementOutcome {
    /// An answer that settles the call, also "not found".
    Success,
    /// An answer that is of no use.
    Error,
    /// No answer in time.
    Timeout,
    /// No connection.
    Unavailable,
}

/// Which attempt of a call won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeWinner {
    /// The first attempt.
    First,
    /// A later one.
    Hedge,
    /// None.
    None,
}

impl Label for PublishOutcome {
    const NAME: &'static str = "outcome";
    const ALL: &'static [Self] = &[Self::Delivered, Self::Refused, Self::Failed, Self::Unknown];

    fn text(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

impl Label for Refusal {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] =
        &[Self::Rate, Self::InFlight, Self::QueueFull, Self::Shedding, Self::Broker, Self::Draining, Self::Memory];

    fn text(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::InFlight => "in_flight",
            Self::QueueFull => "queue_full",
            Self::Shedding => "shedding",
            Self::Broker => "broker",
            Self::Draining => "draining",
            Self::Memory => "memory",
        }
    }
}

impl Label for ManagementOutcome {
    const NAME: &'static str = "outcome";
    const ALL: &'static [Self] = &[Self::Success, Self::Error, Self::Timeout, Self::Unavailable];

    fn text(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Label for HedgeWinner {
    const NAME: &'static str = "winner";
    const ALL: &'static [Self] = &[Self::First, Self::Hedge, Self::None];

    fn text(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Hedge => "hedge",
            Self::None => "none",
        }
    }
}

impl Refusal {
    /// What the refused caller is told.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Rate => "too many requests: come again later",
            Self::InFlight => "too many requests in flight; nothing was sent: try again",
            Self::QueueFull => "the queue to Kafka is full; nothing was sent: try again",
            Self::Shedding => "purchases cannot be recorded now; nothing was sent: try again",
            Self::Broker => "Kafka is not reachable; nothing was sent: try again",
            Self::Draining => "this server is ending; nothing was sent: try again",
            Self::Memory => "too much is held for callers now; nothing was sent: try again",
        }
    }
}

/// The metrics of one web-server.
pub struct Metrics {
    /// Everything that `/metrics` shows, also what the Kafka client adds.
    pub registry: Registry,
    /// Of requests; shared with the middleware.
    pub http: Arc<HttpMetrics>,
    published: IntCounterVec,
    delivered: IntCounter,
    publish_duration: Histogram,
    refused: IntCounterVec,
    management_requests: IntCounterVec,
    management_duration: Histogram,
}

impl Metrics {
    /// Registers every metric with all its label sets at 0.
    ///
    /// # Errors
    /// When a name is taken or the prefix makes no valid name.
    pub fn new(http_prefix: &str) -> prometheus::Result<Arc<Self>> {
        let registry = &new_registry();
        let series: Vec<_> = ROUTES.into_iter().chain(WATCHED_FAILURES).collect();
        let published = counters::<PublishOutcome>(
            registry,
            "purchases_published_total",
            "Purchases by what became of them on their way to Kafka.",
        )?;
        // Shown at 0: one attempt at a time makes no hedges.
        counters::<HedgeWinner>(
            registry,
            "management_hedges_total",
            "Calls to management-api that were hedged, by the attempt that won.",
        )?;
        Ok(Arc::new(Self {
            http: Arc::new(HttpMetrics::register(registry, http_prefix, &series)?),
            delivered: published.with_label_values(&[PublishOutcome::Delivered.text()]),
            published,
            publish_duration: histogram(
                registry,
                "purchase_publish_duration_seconds",
                "Time from handing a purchase to the producer to knowing what became of it.",
                &PUBLISH_BUCKETS,
            )?,
            refused: counters::<Refusal>(
                registry,
                "http_requests_refused_total",
                "Requests refused before anything was sent.",
            )?,
            management_requests: counters::<ManagementOutcome>(
                registry,
                "management_requests_total",
                "Requests to replicas of management-api.",
            )?,
            management_duration: histogram(
                registry,
                "management_request_duration_seconds",
                "Time of a request to one replica of management-api.",
                &MANAGEMENT_BUCKETS,
            )?,
            registry: registry.clone(),
        }))
    }

    /// Counts one purchase and, if anything was sent, the time until its outcome was known.
    pub fn published(&self, outcome: PublishOutcome, duration: Duration) {
        if outcome != PublishOutcome::Refused {
            self.publish_duration.observe(duration.as_secs_f64());
        }
        match outcome {
            // The one label that every good request meets: its handle is at hand, without a look into the map.
            PublishOutcome::Delivered => self.delivered.inc(),
            outcome => self.published.with_label_values(&[outcome.text()]).inc(),
        }
    }

    /// Counts one refused request.
    pub fn refused(&self, reason: Refusal) {
        self.refused.with_label_values(&[reason.text()]).inc();
    }

    /// The counter of requests refused for one reason.
    pub fn refusals(&self, reason: Refusal) -> IntCounter {
        self.refused.with_label_values(&[reason.text()])
    }

    /// Counts and times one request to a replica of management-api.
    pub fn management_request(&self, outcome: ManagementOutcome, duration: Duration) {
        self.management_duration.observe(duration.as_secs_f64());
        self.management_requests.with_label_values(&[outcome.text()]).inc();
    }
}

fn counters<L: Label>(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounterVec> {
    let counters = IntCounterVec::new(Opts::new(name, help), &[L::NAME])?;
    registry.register(Box::new(counters.clone()))?;
    for label in L::ALL {
        counters.with_label_values(&[label.text()]);
    }
    Ok(counters)
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
    let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}
