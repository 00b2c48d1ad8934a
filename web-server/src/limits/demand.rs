//! How much one caller asks of one replica.

use super::Moment;

/// How far back demand is looked at, in windows: so far, that chance does not throw it about …
const LONG: f32 = 1.5;
/// … and so far, to see that it has changed.
const SHORT: f32 = 0.3;
/// By how much chance makes the short look differ from the long one, in standard deviations and in requests.
const BY_CHANCE: (f32, f32) = (2.0, 1.0);

/// What a caller asks for, refused or not, as a rate that fades with time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demand {
    long: f32,
    short: f32,
    seen: Moment,
}

impl Demand {
    /// Nothing so far.
    #[must_use]
    pub fn none(now: Moment) -> Self {
        Self { long: 0.0, short: 0.0, seen: now }
    }

    /// Takes note of so many requests.
    pub fn add(&mut self, requests: f32, now: Moment) {
        self.fade(now);
        self.long += requests / LONG;
        self.short += requests / SHORT;
    }

    /// The rate now, in requests a window.
    pub fn per_window(&mut self, now: Moment) -> f32 {
        self.fade(now);
        let (deviations, requests) = BY_CHANCE;
        let by_chance = deviations * (self.long / (2.0 * SHORT)).sqrt() + requests / SHORT;
        if (self.short - self.long).abs() > by_chance {
            self.long = self.short;
        }
        self.long
    }

    /// For how many windows nobody has asked for anything, or after it.
    #[must_use]
    pub fn idle_windows(&self, now: Moment) -> f32 {
        now.windows_since(self.seen).max(0.0)
    }

    fn fade(&mut self, now: Moment) {
        let passed = self.idle_windows(now);
        if passed > 0.0 {
            self.long *= (-passed / LONG).exp();
            self.short *= (-passed / SHORT).exp();
            self.seen = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    #[test]
    fn a_change_is_seen_at_once_and_chance_is_not() {
        let mut demand = Demand::none(at(0));
        for ms in (0..2_000).step_by(5) {
            demand.add(1.0, at(ms));
        }
        assert!((180.0..220.0).contains(&demand.per_window(at(2_000))), "{demand:?}");
        assert!(demand.per_window(at(2_500)) < 70.0 && demand.per_window(at(3_500)) < 10.0, "{demand:?}");
        let mut demand = Demand::none(at(0));
        for burst in 0..60 {
            // Three at once, ten a second.
            (0..3).for_each(|_| demand.add(1.0, at(burst * 300)));
            let seen = demand.per_window(at(burst * 300));
            assert!(burst < 10 || (7.0..13.0).contains(&seen), "{seen}");
        }
        assert!((demand.idle_windows(at(59 * 300 + 1_000)) - 1.0).abs() < 1e-3);
    }
}
