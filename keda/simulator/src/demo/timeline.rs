//! What was seen over time, and what it says about the autoscaling.

use std::time::Duration;

use super::autoscaler::Look;

/// One sample between two looks of the controller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    pub at: Duration,
    /// The group's lag on the broker, not limited.
    pub lag: i64,
    /// Age of the oldest record that is not recorded, in seconds.
    pub delay: f64,
    /// Consumers that are to run, and those that have partitions.
    pub replicas: i32,
    pub recording: i32,
}

/// A change of the number of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub at: Duration,
    pub from: i32,
    pub to: i32,
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    pub samples: Vec<Sample>,
    pub looks: Vec<(Duration, Look)>,
    /// When the load step began and ended.
    pub step: (Duration, Duration),
}

impl Timeline {
    /// When the metrics first asked for more replicas in the load step.
    pub(super) fn detected(&self) -> Option<Duration> {
        let mut looks = self.looks.iter().filter(|(at, _)| *at >= self.step.0);
        looks.find(|(_, look)| look.wanted.is_some_and(|wanted| wanted > look.current)).map(|(at, _)| *at)
    }

    /// Every change of the number of replicas, in order.
    pub(super) fn changes(&self) -> Vec<Change> {
        let change = |(at, look): &(Duration, Look)| Change { at: *at, from: look.current, to: look.desired };
        self.looks.iter().map(change).filter(|change| change.from != change.to).collect()
    }

    /// The most replicas, and since when.
    pub(super) fn most(&self) -> Option<(Duration, i32)> {
        let changes = self.changes();
        let most = changes.iter().map(|change| change.to).max()?;
        changes.iter().find(|change| change.to == most && change.to > change.from).map(|change| (change.at, most))
    }

    /// When the lag, past its largest, was no more than `threshold` a replica: the autoscaler's own target.
    pub(super) fn drained(&self, threshold: i64) -> Option<Duration> {
        let largest = self.largest_lag()?.0;
        let is_drained = |sample: &&Sample| sample.lag <= threshold * i64::from(sample.replicas);
        self.samples.iter().filter(|sample| sample.at >= largest).find(is_drained).map(|sample| sample.at)
    }

    /// The largest lag, and when.
    pub(super) fn largest_lag(&self) -> Option<(Duration, i64)> {
        self.samples.iter().map(|sample| (sample.at, sample.lag)).max_by_key(|(_, lag)| *lag)
    }

    /// Replicas that came again within `window` after others had gone.
    pub(super) fn flaps(&self, window: Duration) -> Vec<Change> {
        let changes = self.changes();
        let goes_before = |up: &Change| {
            changes.iter().any(|down| down.to < down.from && down.at < up.at && up.at <= down.at + window)
        };
        changes.iter().copied().filter(|up| up.to > up.from && goes_before(up)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks a second apart, each with its number of replicas, what is wanted, and what is desired.
    fn timeline(looks: &[(i32, i32, i32)]) -> Timeline {
        let look =
            |(current, wanted, desired)| Look { lag: None, cpu_percent: None, current, wanted: Some(wanted), desired };
        let looks = (0..).zip(looks).map(|(second, values)| (SECOND * second, look(*values))).collect();
        Timeline { looks, step: (SECOND, SECOND * 3), ..Timeline::default() }
    }

    #[test]
    fn what_happened_is_found() {
        let timeline = timeline(&[(1, 2, 1), (1, 1, 1), (1, 9, 1), (1, 9, 3), (3, 9, 5), (5, 1, 4)]);
        assert_eq!(timeline.detected(), Some(SECOND * 2), "before the step nothing counts");
        assert_eq!(timeline.most(), Some((SECOND * 4, 5)));
        assert_eq!(timeline.changes().len(), 3);
        assert!(timeline.flaps(SECOND * 100).is_empty());
    }

    #[test]
    fn more_replicas_soon_after_fewer_are_a_flap() {
        let timeline = timeline(&[(3, 3, 3), (3, 2, 2), (2, 2, 2), (2, 2, 2), (2, 3, 3)]);
        assert_eq!(timeline.flaps(SECOND * 3), [Change { at: SECOND * 4, from: 2, to: 3 }]);
        assert!(timeline.flaps(SECOND * 2).is_empty(), "after the window it is another load");
    }

    #[test]
    fn drained_is_the_target_reached_after_the_largest_lag() {
        let sample = |(second, lag)| Sample { at: SECOND * second, lag, delay: 0.0, replicas: 2, recording: 2 };
        let samples = [(0, 0), (1, 900), (2, 2000), (3, 201), (4, 200), (5, 0)].map(sample).to_vec();
        let timeline = Timeline { samples, ..Timeline::default() };
        assert_eq!(timeline.drained(100), Some(SECOND * 4));
        assert_eq!(timeline.largest_lag(), Some((SECOND * 2, 2000)));
    }
}
