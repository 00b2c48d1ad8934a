//! Load shedding: what cannot be served in time is refused at once, instead of waiting in a queue. Purchases, batches and reads have
//! a limit each; when the process itself gets too little CPU, reads yield to purchases, then batches. Health and metrics have none.

mod config;
pub mod control;
mod patience;
pub mod places;
mod pressure;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt;
use shared::metrics::Label;
use shared::shutdown::Shutdown;
use shared::supervise::Supervisor;

pub use self::config::SheddingConfig;
use self::control::{Control, Seen};
pub use self::places::Slot;
use self::places::{Done, Places};
use self::pressure::Pressure;
use crate::metrics::{Metrics, Refusal, Work};

/// How often is looked at what is in flight.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How often limits change.
const TURN_INTERVAL: Duration = Duration::from_millis(100);
/// The longest that a refused caller is told to stay away, in seconds.
const RETRY_AFTER_MAX: u32 = 10;

/// The limits of one web-server.
pub struct Shedding {
    kinds: Vec<Kind>,
    metrics: Arc<Metrics>,
}

/// One kind of work.
struct Kind {
    work: Work,
    target: Duration,
    max: usize,
    places: Places,
    /// The longest that callers refused now are told to stay away, in seconds.
    retry_after_max: AtomicU32,
}

/// What one kind was seen to do since the last turn.
struct Watch {
    control: Control,
    in_flight: usize,
    looks: u32,
}

/// Why somebody was refused, and when to come again, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shed {
    /// The reason.
    pub reason: Refusal,
    /// When to come again.
    pub retry_after: u32,
}

impl Shedding {
    /// Begins with the settings' limits, which are adapted until the service stops. Purchases are meant to wait for `linger`.
    #[must_use]
    pub fn start(
        config: &SheddingConfig,
        linger: Duration,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Arc<Self> {
        let kind = |work: &Work| {
            let (max, target) = match work {
                Work::Purchases => (config.purchases_max, config.purchase_latency),
                Work::Batches => (config.batches_max, config.purchase_latency),
                Work::Reads => (config.reads_max, config.read_latency),
            };
            let target = if *work == Work::Reads || target.is_zero() { target } else { target + linger };
            Kind { work: *work, target, max, places: Places::new(max), retry_after_max: AtomicU32::new(2) }
        };
        let shedding = Arc::new(Self { kinds: Work::ALL.iter().map(kind).collect(), metrics });
        let (adapting, shutdown) = (Arc::clone(&shedding), supervisor.shutdown().clone());
        tokio::spawn(supervisor.restart("shedding", move || Arc::clone(&adapting).keep_adapting(shutdown.clone())));
        shedding
    }

    /// Whether there is room for one more now.
    #[must_use]
    pub fn has_room(&self, work: Work) -> bool {
        self.of(work).places.has_room()
    }

    /// Takes a place, if there is one.
    #[must_use]
    pub fn enter(&self, work: Work) -> Option<Slot> {
        self.of(work).places.enter()
    }

    /// Counts a caller for whom there was no place, and says when that one may come again.
    #[must_use]
    pub fn refuse(&self, work: Work) -> Shed {
        self.of(work).refuse()
    }

    fn of(&self, work: Work) -> &Kind {
        let found = self.kinds.iter().find(|kind| kind.work == work);
        found.expect("every kind of work is in Work::ALL")
    }

    async fn keep_adapting(self: Arc<Self>, shutdown: Shutdown) {
        let watch = |kind: &Kind| Watch { control: Control::new(kind.max, kind.target), in_flight: 0, looks: 0 };
        let mut watches: Vec<_> = self.kinds.iter().map(watch).collect();
        let mut pressure = Pressure::default();
        let mut turned = Instant::now();
        while !shutdown.is_stopped() {
            let begun = Instant::now();
            tokio::time::sleep(LOOK_INTERVAL).await;
            pressure.add(begun.elapsed().saturating_sub(LOOK_INTERVAL));
            for (kind, watch) in self.kinds.iter().zip(&mut watches) {
                watch.in_flight += kind.places.at_work();
                watch.looks += 1;
            }
            if turned.elapsed() >= TURN_INTERVAL {
                self.turn(&mut watches, turned.elapsed(), pressure);
                turned = Instant::now();
            }
        }
    }

    fn turn(&self, watches: &mut [Watch], elapsed: Duration, pressure: Pressure) {
        self.metrics.shedding.show_delay(pressure.delay());
        // Without purchases there is nobody to yield to.
        let mut both = self.kinds.iter().zip(watches.iter());
        let has_buyers = both.any(|(kind, watch)| kind.work == Work::Purchases && watch.control.is_busy());
        for (kind, watch) in self.kinds.iter().zip(watches) {
            let pressure = match kind.work {
                Work::Reads if has_buyers => pressure.on_reads(),
                Work::Batches if has_buyers => pressure.on_batches(),
                Work::Purchases | Work::Batches | Work::Reads => 0.0,
            };
            kind.turn(watch, elapsed, pressure);
            self.metrics.shedding.show(kind.work, kind.places.at_work(), kind.places.limit());
        }
    }
}

impl Kind {
    /// Counts a refusal, and spreads out when those who are refused come again: each is told another time.
    fn refuse(&self) -> Shed {
        self.places.count_shed();
        let reason = if self.places.is_lowered() { Refusal::Shedding } else { Refusal::InFlight };
        let longest = self.retry_after_max.load(Ordering::Relaxed);
        Shed { reason, retry_after: rand::rng().random_range(1..=longest) }
    }

    fn turn(&self, watch: &mut Watch, elapsed: Duration, pressure: f64) {
        let Done { served, took, shed } = self.places.take_done();
        let in_flight = mean(watch.in_flight, watch.looks);
        (watch.in_flight, watch.looks) = (0, 0);
        self.places.set_limit(watch.control.turn(Seen { elapsed, in_flight, served, took, shed, pressure }));
        self.retry_after_max.store(retry_after_max(watch.control.excess()), Ordering::Relaxed);
    }
}

/// Who is refused comes again on average when the others, of whom there are `excess` times as many as are served, would have been served.
fn retry_after_max(excess: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few seconds")]
    let seconds = (2.0 * (1.0 + excess)).min(f64::from(RETRY_AFTER_MAX)).ceil() as u32;
    seconds
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn mean(sum: usize, count: u32) -> f64 {
    sum as f64 / f64::from(count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_are_refused_the_longer_they_stay_away_and_never_for_long() {
        assert_eq!([0.0, 0.4, 1.0, 2.0, 1e9].map(retry_after_max), [2, 3, 4, 6, RETRY_AFTER_MAX]);
    }
}
