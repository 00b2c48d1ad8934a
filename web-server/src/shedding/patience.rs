//! How long one may take: as long as the settings say, or, where even the fewest take longer than that, as long as those take.
//!
//! Fewer at once make a queue shorter. They make nothing quicker that takes its time whoever asks, such as a follower of Kafka that is
//! slow: there the limit would fall, what is served with it, and so on down to the fewest that are always let in. So their time is
//! taken, once the limit is there, and there alone: it is no queue's, and does not grow by being believed.

use std::time::Duration;

use super::control::{Seen, count};

/// So much longer than the fewest others may take: what there is to gain by letting more in must show.
const SLACK: f64 = 1.5;
/// As a multiple of the target: nobody is to wait longer.
const LONGEST: f64 = 6.0;
/// As a multiple of the target: who is not served by then has met something that stands still.
const ROUND_MAX: f64 = 8.0;

/// The time that one may take on average.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    /// As the settings say, in seconds.
    target: f64,
    /// By what was seen, in seconds.
    now: f64,
    round: Round,
    /// The limit is the lowest that there is.
    is_lowest: bool,
    /// All that are in flight have come since then.
    is_settled: bool,
}

/// What was seen while every place in flight was taken anew: of those who came a moment ago only the quickest are served so far.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    seconds: f64,
    in_flight_max: f64,
    served: f64,
    /// How long those took together, in seconds.
    took: f64,
}

impl Patience {
    /// So long, until something else is seen.
    pub(super) fn new(target: Duration) -> Self {
        let target = target.as_secs_f64();
        Self { target, now: target, round: Round::default(), is_lowest: false, is_settled: false }
    }

    /// The time, in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.now
    }

    /// Works in what was seen in a turn. `fewest` is the lowest limit.
    pub(super) fn turn(&mut self, seen: &Seen, fewest: f64, is_lowest: bool) {
        if is_lowest != self.is_lowest {
            (self.is_lowest, self.is_settled, self.round) = (is_lowest, false, Round::default());
        }
        self.round.add(seen);
        let Round { seconds, in_flight_max, served, took } = self.round;
        if served >= in_flight_max.max(fewest) {
            self.judge(took / served);
            (self.round, self.is_settled) = (Round::default(), true);
        } else if seconds > ROUND_MAX * self.target {
            // How long anybody has waited for what stood still says nothing of those who come after.
            if in_flight_max >= fewest && served < 1.0 {
                self.now = self.target;
            }
            (self.round, self.is_settled) = (Round::default(), false);
        }
    }

    /// Takes note of a round's mean time. Others never take less than the fewest do: what they take is enough in any case.
    fn judge(&mut self, mean: f64) {
        let enough = SLACK * mean;
        if self.is_lowest && self.is_settled && mean > self.target {
            self.now = enough.min(LONGEST * self.target);
        } else {
            self.now = self.now.min(enough).max(self.target);
        }
    }
}

impl Round {
    fn add(&mut self, seen: &Seen) {
        self.seconds += seen.elapsed.as_secs_f64();
        self.in_flight_max = self.in_flight_max.max(seen.in_flight);
        self.served += count(seen.served);
        self.took += seen.took.as_secs_f64();
    }
}
