//! Replicas as the HPA's controller decides them in Kubernetes 1.35: `pkg/controller/podautoscaler/horizontal.go` and
//! `replica_calculator.go` there, defaults from `pkg/apis/autoscaling/v2/defaults.go`; functions are named below.
//!
//! Of time it knows only what it is told. Pods are taken to be ready at once and to have metrics.

#[cfg(test)]
mod tests;

use std::{cmp::Ordering, time::Duration};

/// How often it looks (`HorizontalPodAutoscalerSyncPeriod` in `pkg/controller/podautoscaler/config/v1alpha1`).
pub const SYNC_PERIOD: Duration = Duration::from_secs(15);

/// A metric this near to its target changes nothing (`HorizontalPodAutoscalerTolerance`, same place).
const TOLERANCE: f64 = 0.1;

/// What a metric says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Metric {
    /// An external one of type AverageValue: the sum, and its target a replica.
    Average {
        /// Over all replicas.
        total: f64,
        /// For one of them.
        target: f64,
    },
    /// CPU or memory of all replicas in percent of what they request.
    Utilization {
        /// Now.
        percent: i32,
        /// As it should be.
        target: i32,
    },
}

/// How replicas may change, in one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalingRules {
    /// Of all recommendations of so long, the one that changes least counts.
    pub window: Duration,
    /// Which policy counts where there are several.
    pub select: SelectPolicy,
    /// How fast.
    pub policies: Vec<ScalingPolicy>,
}

/// Which of several policies counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectPolicy {
    /// The one that lets most change.
    Max,
    /// The one that lets least change.
    Min,
    /// Nothing changes in this direction.
    Disabled,
}

/// So much in such a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScalingPolicy {
    /// Of what.
    pub kind: PolicyKind,
    /// How much.
    pub value: i32,
    /// In which time.
    pub period: Duration,
}

/// What a policy counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKind {
    /// Pods.
    Pods,
    /// Percent of the pods at the period's beginning.
    Percent,
}

/// Limits and pace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behavior {
    /// Never fewer replicas.
    pub min: i32,
    /// Never more replicas.
    pub max: i32,
    /// More of them.
    pub up: ScalingRules,
    /// Fewer of them.
    pub down: ScalingRules,
}

/// The controller's memory of one HPA.
#[derive(Debug, Clone)]
pub struct Horizontal {
    behavior: Behavior,
    /// When, and how many replicas the metrics asked for.
    recommendations: Vec<(Duration, i32)>,
    /// When, and how many replicas came or went.
    ups: Vec<(Duration, i32)>,
    downs: Vec<(Duration, i32)>,
}

/// What one look led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What the metrics ask for; none when they cannot say.
    pub wanted: Option<i32>,
    /// How many replicas there are to be.
    pub desired: i32,
}

impl Horizontal {
    /// Nothing has been recommended yet.
    pub fn new(behavior: Behavior) -> Self {
        Self { behavior, recommendations: Vec::new(), ups: Vec::new(), downs: Vec::new() }
    }

    /// One look, as in `reconcileAutoscaler`: `current` replicas exist, and a metric that cannot be read is none.
    pub fn sync(&mut self, now: Duration, current: i32, metrics: &[Option<Metric>]) -> Decision {
        if self.recommendations.is_empty() {
            // `recordInitialRecommendation`
            self.recommendations.push((now, current));
        }
        let Behavior { min, max, .. } = self.behavior;
        let wanted = wanted(current, metrics);
        let desired = if current > max {
            max
        } else if current < min {
            min
        } else {
            wanted.map_or(current, |wanted| {
                let stable = self.stabilize(now, current, wanted);
                self.limit(now, current, stable)
            })
        };
        self.remember(now, current, desired);
        Decision { wanted, desired }
    }

    /// `stabilizeRecommendationWithBehaviors`: up only to the lowest recommendation of the up window, down only to the
    /// highest of the down window.
    fn stabilize(&mut self, now: Duration, current: i32, wanted: i32) -> i32 {
        let (up, down) = (self.behavior.up.window, self.behavior.down.window);
        let recent = |window| self.recommendations.iter().filter(move |(at, _)| is_within(*at, now, window));
        let lowest = recent(up).map(|(_, replicas)| *replicas).fold(wanted, i32::min);
        let highest = recent(down).map(|(_, replicas)| *replicas).fold(wanted, i32::max);
        self.recommendations.retain(|(at, _)| is_within(*at, now, up.max(down)));
        self.recommendations.push((now, wanted));
        current.max(lowest).min(highest)
    }

    /// `convertDesiredReplicasWithBehaviorRate`.
    fn limit(&self, now: Duration, current: i32, desired: i32) -> i32 {
        let Behavior { min, max, up, down } = &self.behavior;
        match desired.cmp(&current) {
            Ordering::Equal => desired,
            Ordering::Greater => {
                let limits = self.limits(now, current, up, |start, policy| match policy.kind {
                    PolicyKind::Pods => start + policy.value,
                    PolicyKind::Percent => whole((f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil()),
                });
                let limit = match up.select {
                    SelectPolicy::Max => limits.max(),
                    SelectPolicy::Min => limits.min(),
                    SelectPolicy::Disabled => None,
                };
                desired.min(limit.unwrap_or(current).max(current).min(*max))
            }
            Ordering::Less => {
                let limits = self.limits(now, current, down, |start, policy| match policy.kind {
                    PolicyKind::Pods => start - policy.value,
                    PolicyKind::Percent => whole(f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)),
                });
                let limit = match down.select {
                    SelectPolicy::Max => limits.min(),
                    SelectPolicy::Min => limits.max(),
                    SelectPolicy::Disabled => None,
                };
                desired.max(limit.unwrap_or(current).min(current).max(*min))
            }
        }
    }

    /// How far each policy lets the replicas go, counted from those at its period's beginning
    /// (`calculateScaleUpLimitWithScalingRules`, `calculateScaleDownLimitWithBehaviors`).
    fn limits(
        &self,
        now: Duration,
        current: i32,
        rules: &ScalingRules,
        limit: impl Fn(i32, &ScalingPolicy) -> i32,
    ) -> impl Iterator<Item = i32> {
        rules.policies.iter().map(move |policy| {
            let changed = |events: &[(Duration, i32)]| -> i32 {
                events.iter().filter(|(at, _)| is_within(*at, now, policy.period)).map(|(_, change)| *change).sum()
            };
            limit(current - changed(&self.ups) + changed(&self.downs), policy)
        })
    }

    /// `storeScaleEvent`: a change takes the place of one that is past. The others stay, and still count where policies
    /// of the other direction have longer periods.
    fn remember(&mut self, now: Duration, current: i32, desired: i32) {
        let (events, rules) = match desired.cmp(&current) {
            Ordering::Equal => return,
            Ordering::Greater => (&mut self.ups, &self.behavior.up),
            Ordering::Less => (&mut self.downs, &self.behavior.down),
        };
        let longest = rules.policies.iter().map(|policy| policy.period).max().unwrap_or_default();
        let event = (now, (desired - current).abs());
        match events.iter_mut().rfind(|(at, _)| *at + longest < now) {
            Some(past) => *past = event,
            None => events.push(event),
        }
    }
}

/// `computeReplicasForMetrics`: the metric that asks for most counts. One that cannot be read keeps the replicas from
/// falling, and nothing else.
fn wanted(current: i32, metrics: &[Option<Metric>]) -> Option<i32> {
    let most = metrics.iter().flatten().map(|metric| metric.wanted(current)).max()?;
    let is_blind = metrics.contains(&None);
    (!is_blind || most >= current).then_some(most)
}

impl Metric {
    fn wanted(self, current: i32) -> i32 {
        let (ratio, wanted) = match self {
            // `GetExternalPerPodMetricReplicas`
            Self::Average { total, target } => (total / (target * f64::from(current)), total / target),
            // `GetResourceReplicas`
            Self::Utilization { percent, target } => {
                let ratio = f64::from(percent) / f64::from(target);
                (ratio, ratio * f64::from(current))
            }
        };
        // `Tolerances.isWithin`
        let is_near = (1.0 - TOLERANCE..=1.0 + TOLERANCE).contains(&ratio);
        if is_near { current } else { whole(wanted.ceil()) }
    }
}

/// Whether a moment lies in the time that ends now, its first instant excluded (`timestamp.After(cutoff)`).
fn is_within(at: Duration, now: Duration, window: Duration) -> bool {
    at + window > now
}

#[expect(clippy::cast_possible_truncation, reason = "as in Go's int32(…), and the cast ends at the largest number")]
fn whole(replicas: f64) -> i32 {
    replicas as i32
}
