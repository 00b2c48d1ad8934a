//! Metrics of callbacks.

use std::time::Duration;

use shared::metrics::{Buckets, CounterBy, Gauge, Histogram, Label, Registry, value};

/// Bounds of the time of an attempt, in seconds.
const ATTEMPT_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0];
/// Bounds of the time from recorded to delivered, in seconds.
const DELAY_BUCKETS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0, 86_400.0];

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptLabel {
    /// 2xx.
    Delivered,
    /// 410.
    Gone,
    /// Any other answer.
    Refused,
    /// No answer in time.
    Timeout,
    /// No connection.
    Unreachable,
    /// An address that is not connected to.
    Forbidden,
}

impl Label for AttemptLabel {
    const NAME: &'static str = "outcome";
    const ALL: &'static [Self] =
        &[Self::Delivered, Self::Gone, Self::Refused, Self::Timeout, Self::Unreachable, Self::Forbidden];

    fn text(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Gone => "gone",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Forbidden => "forbidden",
        }
    }
}

/// What became of a callback that was taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackFate {
    /// Its receiver has it.
    Delivered,
    /// An attempt has failed; another one comes.
    Retried,
    /// It was not tried: its host is left alone, or others wait for it.
    Deferred,
    /// It is not tried any more.
    Dead,
}

impl Label for CallbackFate {
    const NAME: &'static str = "outcome";
    const ALL: &'static [Self] = &[Self::Delivered, Self::Retried, Self::Deferred, Self::Dead];

    fn text(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retried => "retried",
            Self::Deferred => "deferred",
            Self::Dead => "dead",
        }
    }
}

/// How calling back goes.
pub struct CallbackMetrics {
    attempts: CounterBy<AttemptLabel>,
    fates: CounterBy<CallbackFate>,
    attempt_seconds: Histogram,
    delay_seconds: Histogram,
    in_flight: Gauge,
    waiting: Gauge,
    dead: Gauge,
    oldest_due_seconds: Gauge,
    hosts_switched_off: Gauge,
}

impl CallbackMetrics {
    /// The bounds of the histograms.
    pub const BUCKETS: [Buckets<'static>; 2] =
        [("callback_attempt_duration_seconds", &ATTEMPT_BUCKETS), ("callback_delay_seconds", &DELAY_BUCKETS)];

    /// Registers them, all at 0.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let gauge = |name: &'static str, help| {
            let gauge = registry.gauge(name, help, &[]);
            gauge.set(0.0);
            gauge
        };
        Self {
            attempts: CounterBy::register(registry, "callback_attempts_total", "Attempts to deliver a callback."),
            fates: CounterBy::register(
                registry,
                "callbacks_total",
                "Callbacks that were taken up, by what became of them.",
            ),
            attempt_seconds: registry.histogram(
                "callback_attempt_duration_seconds",
                "Time of an attempt to deliver a callback.",
                &[],
            ),
            delay_seconds: registry.histogram(
                "callback_delay_seconds",
                "Time from a purchase's commit to its callback's delivery.",
                &[],
            ),
            in_flight: gauge("callbacks_in_flight", "Attempts that are on their way."),
            waiting: gauge("callbacks_waiting", "Callbacks that are tried again, of all replicas; 100000 at most."),
            dead: gauge("callbacks_dead", "Callbacks that are not tried any more, of all replicas; 100000 at most."),
            oldest_due_seconds: gauge(
                "callback_oldest_due_seconds",
                "For how long the callback has been due, of all replicas', that nobody has taken up.",
            ),
            hosts_switched_off: gauge(
                "callback_hosts_switched_off",
                "Hosts that get nothing until they are switched on.",
            ),
        }
    }

    /// An attempt has ended.
    pub fn attempted(&self, label: AttemptLabel, took: Duration) {
        self.attempts.of(label).increment(1);
        self.attempt_seconds.record(took.as_secs_f64());
    }

    /// A callback was delivered, so long after the commit.
    pub fn delivered(&self, delay: Duration) {
        self.delay_seconds.record(delay.as_secs_f64());
        self.settled(CallbackFate::Delivered);
    }

    /// What became of a callback.
    pub fn settled(&self, fate: CallbackFate) {
        self.fates.of(fate).increment(1);
    }

    /// How many attempts are on their way.
    pub fn set_in_flight(&self, attempts: usize) {
        self.in_flight.set(value(attempts));
    }

    /// What waits in the database, and for how long the oldest has been due.
    pub fn set_waiting(&self, waiting: usize, oldest_due: Duration) {
        self.waiting.set(value(waiting));
        self.oldest_due_seconds.set(oldest_due.as_secs_f64());
    }

    /// How much is given up, in the database.
    pub fn set_given_up(&self, dead: usize, hosts_switched_off: usize) {
        self.dead.set(value(dead));
        self.hosts_switched_off.set(value(hosts_switched_off));
    }
}
