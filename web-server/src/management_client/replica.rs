//! One replica of management-api, and how it has done of late.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::ReplicaUrl;

/// Latencies below this are all alike: what tells them apart is chance.
const LATENCY_FLOOR: Duration = Duration::from_millis(5);
/// In so long a time a peak fades to about a third.
const FADING: Duration = Duration::from_secs(2);
/// What a failure counts as, however quickly it came: else who fails fastest would be asked most.
const FAILURE_LATENCY: Duration = Duration::from_secs(1);
/// Failures in a row after which a replica is left out.
const FAILURES_MAX: u32 = 3;
/// Lost races in a row, without one answer between, after which it is.
const LOST_MAX: u32 = 5;
/// How long it is left out at first; twice as long each time that it fails again soon after, up to 32 times.
const EJECTION: Duration = Duration::from_secs(1);
const EJECTION_DOUBLINGS: u32 = 5;
/// What it did before is forgotten after so long a time in use.
const MEMORY: Duration = Duration::from_secs(30);

/// One address of one configured URL.
#[derive(Debug)]
pub struct Replica {
    /// Where it listens.
    pub address: SocketAddr,
    /// The value of the header `Host`.
    pub authority: HeaderValue,
    /// What stands before each path.
    pub base: String,
    /// Reads and commands that it has not answered yet.
    in_flight: AtomicUsize,
    record: Mutex<Record>,
}

/// How a replica does now, for operators.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaState {
    /// Where it listens.
    pub address: SocketAddr,
    /// It is asked by nobody but the prober.
    pub is_left_out: bool,
    /// Peak of its recent answers' times, faded.
    pub latency: Duration,
    /// Reads and commands that it has not answered yet.
    pub in_flight: usize,
}

/// What is known of how it does.
#[derive(Debug)]
struct Record {
    /// The peak of recent answers, as it was at `measured_at`; it fades.
    latency: Duration,
    measured_at: Instant,
    failures_in_a_row: u32,
    lost_in_a_row: u32,
    /// Until when it is left out at least; nothing while it is in use.
    ejected_until: Option<Instant>,
    ejections: u32,
    in_use_since: Instant,
}

/// What an attempt says of its replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has answered, or could not for a reason that is not its own.
    Good,
    /// Another one was quicker, though it began later.
    Slow,
    /// Nothing: its caller had too little time.
    Unjudged,
    /// It has failed.
    Failed,
    /// It is not there.
    Unreachable,
}

impl Replica {
    /// A replica of `url` that is taken to answer in `latency` until it is known better.
    pub fn new(url: &ReplicaUrl, address: SocketAddr, latency: Duration, now: Instant) -> Self {
        let record = Record {
            latency,
            measured_at: now,
            failures_in_a_row: 0,
            lost_in_a_row: 0,
            ejected_until: None,
            ejections: 0,
            in_use_since: now,
        };
        Self {
            address,
            authority: url.authority.clone(),
            base: url.base.clone(),
            in_flight: AtomicUsize::new(0),
            record: Mutex::new(record),
        }
    }

    /// Whether it is this address of this URL.
    pub fn is(&self, url: &ReplicaUrl, address: SocketAddr) -> bool {
        self.address == address && self.authority == url.authority && self.base == url.base
    }

    /// Counts a request as in flight; each is ended by `end_request`.
    pub fn begin_request(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// The request is answered, or nobody waits for it any more.
    pub fn end_request(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What one more request would wait, for comparing: recent peak latency times requests in flight.
    pub fn cost(&self, now: Instant) -> f64 {
        let in_flight = u32::try_from(self.in_flight()).unwrap_or(u32::MAX);
        self.latency(now).max(LATENCY_FLOOR).as_secs_f64() * f64::from(in_flight.saturating_add(1))
    }

    /// The peak of its recent latencies, faded.
    pub fn latency(&self, now: Instant) -> Duration {
        self.record().latency(now)
    }

    /// How it does now.
    pub fn state(&self, now: Instant) -> ReplicaState {
        let (is_left_out, latency) = (self.is_ejected(), self.latency(now));
        ReplicaState { address: self.address, is_left_out, latency, in_flight: self.in_flight() }
    }

    /// Whether it is left out.
    pub fn is_ejected(&self) -> bool {
        self.record().ejected_until.is_some()
    }

    /// Whether it is left out, and has been for long enough to be asked again.
    pub fn is_due(&self, now: Instant) -> bool {
        self.record().ejected_until.is_some_and(|until| until <= now)
    }

    /// Takes note of an attempt, with its `time` if that says how quick the replica is. Tells whether it should be left out.
    pub fn note(&self, standing: Standing, time: Option<Duration>, now: Instant) -> bool {
        let mut record = self.record();
        if let Some(time) = time {
            let failed = matches!(standing, Standing::Failed | Standing::Unreachable);
            record.measure(if failed { time.max(FAILURE_LATENCY) } else { time }, now);
        }
        match standing {
            Standing::Good => (record.failures_in_a_row, record.lost_in_a_row) = (0, 0),
            Standing::Slow => record.lost_in_a_row += 1,
            Standing::Unjudged => {}
            Standing::Failed => record.failures_in_a_row += 1,
            Standing::Unreachable => record.failures_in_a_row = FAILURES_MAX,
        }
        record.failures_in_a_row >= FAILURES_MAX || record.lost_in_a_row >= LOST_MAX
    }

    /// Leaves it out for a while.
    pub fn eject(&self, now: Instant) {
        let mut record = self.record();
        if now.duration_since(record.in_use_since) > MEMORY {
            record.ejections = 0;
        }
        record.ejected_until = Some(now + EJECTION * 2_u32.pow(record.ejections.min(EJECTION_DOUBLINGS)));
        record.ejections += 1;
    }

    /// Takes it into use again: it has answered in `latency`.
    pub fn take_back(&self, latency: Duration, now: Instant) {
        let mut record = self.record();
        *record = Record {
            latency,
            measured_at: now,
            failures_in_a_row: 0,
            lost_in_a_row: 0,
            ejected_until: None,
            ejections: record.ejections,
            in_use_since: now,
        };
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn latency(&self, now: Instant) -> Duration {
        self.latency.mul_f64(self.fading(now))
    }

    /// A peak counts at once; below it the average moves towards the sample by the time that has passed.
    fn measure(&mut self, sample: Duration, now: Instant) {
        let average = sample + self.latency.saturating_sub(sample).mul_f64(self.fading(now));
        (self.latency, self.measured_at) = (sample.max(average), now);
    }

    /// What is left of a peak.
    fn fading(&self, now: Instant) -> f64 {
        (-now.saturating_duration_since(self.measured_at).as_secs_f64() / FADING.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn replica(now: Instant) -> Replica {
        let url = ReplicaUrl::parse("http://127.0.0.1:8081").unwrap();
        Replica::new(&url, ([127, 0, 0, 1], 8081).into(), Duration::ZERO, now)
    }

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let now = Instant::now();
        let replica = replica(now);
        for sample in [2, 300, 2, 2] {
            replica.note(Standing::Good, Some(sample * MILLISECOND), now);
        }
        assert_eq!(replica.latency(now), 300 * MILLISECOND);
        let later = now + 2 * FADING;
        replica.note(Standing::Good, Some(2 * MILLISECOND), later);
        let faded = replica.latency(later);
        assert!((30 * MILLISECOND..60 * MILLISECOND).contains(&faded), "{faded:?}");
        assert!(replica.latency(later + 5 * FADING) < MILLISECOND);
    }

    #[test]
    fn what_is_in_flight_makes_it_dearer_and_small_differences_do_not() {
        let now = Instant::now();
        let (one, other) = (replica(now), replica(now));
        one.note(Standing::Good, Some(MILLISECOND), now);
        other.note(Standing::Good, Some(4 * MILLISECOND), now);
        assert!((one.cost(now) - other.cost(now)).abs() < f64::EPSILON);
        one.begin_request();
        assert!(one.cost(now) > other.cost(now));
        one.end_request();
        one.note(Standing::Failed, Some(MILLISECOND), now);
        assert!(one.cost(now) > 100.0 * other.cost(now), "a failure counts as slow, however quick it was");
    }

    #[test]
    fn failures_in_a_row_an_absence_or_many_lost_races_leave_it_out() {
        let now = Instant::now();
        let note = |replica: &Replica, standing| replica.note(standing, None, now);
        let failing = replica(now);
        let told = [Standing::Failed, Standing::Failed, Standing::Good, Standing::Failed, Standing::Failed]
            .map(|standing| note(&failing, standing));
        assert_eq!(told, [false; 5]);
        assert!(note(&failing, Standing::Failed));
        assert!(note(&replica(now), Standing::Unreachable));
        let losing = replica(now);
        assert_eq!([Standing::Slow; 5].map(|standing| note(&losing, standing)), [false, false, false, false, true]);
    }

    #[test]
    fn who_fails_again_soon_is_left_out_for_longer() {
        let mut now = Instant::now();
        let replica = replica(now);
        for seconds in [1, 2, 4, 8, 16, 32, 32] {
            replica.eject(now);
            assert!(replica.is_ejected() && !replica.is_due(now + (seconds * 1000 - 1) * MILLISECOND));
            now += seconds * SECOND;
            assert!(replica.is_due(now));
            replica.take_back(MILLISECOND, now);
            assert!(!replica.is_ejected());
        }
        now += MEMORY + SECOND;
        replica.eject(now);
        assert!(replica.is_due(now + SECOND));
    }
}
