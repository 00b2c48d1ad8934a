//! Every metric of web-server beyond those that both services have; labels come from the enums here.

mod events;
mod shedding;

use std::sync::Arc;
use std::time::Duration;

use shared::http::TlsMetrics;
use shared::metrics::{Counter, CounterBy, Gauge, Histogram, HttpMetrics, Label, Registry, RouteSeries, value};

pub use self::events::{EventMetrics, StreamEnd};
pub use self::shedding::{SheddingMetrics, Work};

const PUBLISH_SECONDS: &str = "purchase_publish_duration_seconds";
const MANAGEMENT_SECONDS: &str = "management_request_duration_seconds";
/// Bounds of publish times, in seconds.
const PUBLISH_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0];
/// Bounds of the times of requests to management-api, in seconds.
const MANAGEMENT_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// The long-lived tasks and threads of web-server.
pub const TASKS: [&str; 18] = [
    "api_key_usage",
    "callbacks",
    "certificate",
    "events",
    "http",
    "kafka_producer",
    "kafka_sender",
    "limiter",
    "metrics",
    "oidc_keys",
    "operations",
    "peers",
    "probes",
    "replicas",
    "shedding",
    "status",
    "token_keys",
    "topics",
];

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
    /// More comes than what is behind can serve in time.
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
    /// Another attempt of its call was quicker.
    Cancelled,
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

/// What came of asking an outside issuer for its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFetch {
    /// It has told some.
    Success,
    /// It has told none, or nothing.
    Failed,
}

impl Label for ManagementOutcome {
    const NAME: &'static str = "outcome";
    const ALL: &'static [Self] = &[Self::Success, Self::Error, Self::Timeout, Self::Unavailable, Self::Cancelled];

    fn text(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Cancelled => "cancelled",
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

impl Label for KeyFetch {
    const NAME: &'static str = "outcome";
    const ALL: &'static [Self] = &[Self::Success, Self::Failed];

    fn text(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
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
            Self::Shedding => "more is asked for than can be served now; nothing was sent: try again",
            Self::Broker => "Kafka is not reachable; nothing was sent: try again",
            Self::Draining => "this server is ending; nothing was sent: try again",
            Self::Memory => "too much is held for callers now; nothing was sent: try again",
        }
    }
}

/// Of rate limits.
pub struct LimitMetrics {
    callers: Gauge,
    heard: Gauge,
    silent: Gauge,
}

impl LimitMetrics {
    fn register(registry: &Registry) -> Self {
        let help = "Other web-servers that share the rate limits.";
        let peers = |state: &'static str| registry.gauge("rate_limit_peers", help, &[("state", state)]);
        let callers = registry.gauge("rate_limit_callers", "Callers whose requests are counted.", &[]);
        Self { callers, heard: peers("heard"), silent: peers("silent") }
    }

    /// Shows how many callers are known, and how many other replicas are heard and are not.
    pub fn show(&self, callers: usize, heard: usize, silent: usize) {
        self.callers.set(value(callers));
        self.heard.set(value(heard));
        self.silent.set(value(silent));
    }
}

/// The metrics of one web-server.
pub struct Metrics {
    /// Everything that `/metrics` shows, also what the Kafka client adds.
    pub registry: Registry,
    /// Of requests; shared with the middleware.
    pub http: Arc<HttpMetrics>,
    /// Of rate limits.
    pub limits: LimitMetrics,
    /// Of load shedding.
    pub shedding: SheddingMetrics,
    /// Of live events.
    pub events: EventMetrics,
    published: CounterBy<PublishOutcome>,
    publish_duration: Histogram,
    refused: CounterBy<Refusal>,
    management_requests: CounterBy<ManagementOutcome>,
    management_duration: Histogram,
    management_hedges: CounterBy<HedgeWinner>,
    /// In use, and left out.
    management_replicas: [Gauge; 2],
    /// Of the certificate.
    pub tls: TlsMetrics,
    token_revocations_age: Gauge,
    /// Questions for an outside issuer's keys.
    pub key_fetches: CounterBy<KeyFetch>,
}

impl Metrics {
    /// Registers every metric with all its label sets at 0; `series` are those of the routes.
    #[must_use]
    pub fn new(http_prefix: &str, series: &[RouteSeries]) -> Arc<Self> {
        let (http_times, http_bounds) = HttpMetrics::buckets(http_prefix);
        let registry = Registry::new(&[
            (&http_times, http_bounds),
            (PUBLISH_SECONDS, &PUBLISH_BUCKETS),
            (MANAGEMENT_SECONDS, &MANAGEMENT_BUCKETS),
        ]);
        let published = "Purchases by what became of them on their way to Kafka.";
        let publish_time = "Time from handing a purchase to the producer to knowing what became of it.";
        let refused = "Requests refused before anything was sent.";
        let requests = "Requests to replicas of management-api.";
        let request_time = "Time of a request to one replica of management-api.";
        let hedges = "Calls to management-api that were hedged, by the attempt that won.";
        let replicas = |state| {
            registry.gauge("management_replicas", "Replicas of management-api that are known.", &[("state", state)])
        };
        let certificate_end =
            "When the certificate in use ends, or the first of its chain, since 1970; 0 without HTTPS.";
        let age = "Seconds since revoked access tokens were last asked for; -1 until the first token is used.";
        let token_revocations_age = registry.gauge("token_revocations_age_seconds", age, &[]);
        token_revocations_age.set(-1.0);
        Arc::new(Self {
            token_revocations_age,
            key_fetches: CounterBy::register(
                &registry,
                "oidc_key_fetches_total",
                "Questions for the keys of OIDC_ISSUER.",
            ),
            http: Arc::new(HttpMetrics::register(&registry, http_prefix, series)),
            limits: LimitMetrics::register(&registry),
            shedding: SheddingMetrics::register(&registry),
            events: EventMetrics::register(&registry),
            published: CounterBy::register(&registry, "purchases_published_total", published),
            publish_duration: registry.histogram(PUBLISH_SECONDS, publish_time, &[]),
            refused: CounterBy::register(&registry, "http_requests_refused_total", refused),
            management_requests: CounterBy::register(&registry, "management_requests_total", requests),
            management_duration: registry.histogram(MANAGEMENT_SECONDS, request_time, &[]),
            management_hedges: CounterBy::register(&registry, "management_hedges_total", hedges),
            management_replicas: ["in_use", "left_out"].map(replicas),
            tls: TlsMetrics {
                reloads: CounterBy::register(&registry, "tls_reloads_total", "Changes of the certificate's files."),
                expires_at: registry.gauge("tls_certificate_expires_timestamp_seconds", certificate_end, &[]),
            },
            registry,
        })
    }

    /// Counts one purchase and, if anything was sent, the time until its outcome was known.
    pub fn published(&self, outcome: PublishOutcome, duration: Duration) {
        if outcome != PublishOutcome::Refused {
            self.publish_duration.record(duration.as_secs_f64());
        }
        self.published.of(outcome).increment(1);
    }

    /// Counts one refused request.
    pub fn refused(&self, reason: Refusal) {
        self.refused.of(reason).increment(1);
    }

    /// The counter of requests refused for one reason.
    pub fn refusals(&self, reason: Refusal) -> Counter {
        self.refused.of(reason).clone()
    }

    /// How old what is known of revoked access tokens is.
    pub fn set_token_revocations_age(&self, age: Duration) {
        self.token_revocations_age.set(age.as_secs_f64());
    }

    /// Counts and times one request to a replica of management-api.
    pub fn management_request(&self, outcome: ManagementOutcome, duration: Duration) {
        self.management_duration.record(duration.as_secs_f64());
        self.management_requests.of(outcome).increment(1);
    }

    /// Counts a call whose first attempt was not awaited alone.
    pub fn management_hedged(&self, winner: HedgeWinner) {
        self.management_hedges.of(winner).increment(1);
    }

    /// Shows how many replicas of management-api are in use, and how many are left out.
    pub fn management_replicas(&self, in_use: usize, left_out: usize) {
        for (gauge, count) in self.management_replicas.iter().zip([in_use, left_out]) {
            gauge.set(value(count));
        }
    }
}
