//! KEDA and the HPA's controller around the shipped ScaledObject, on their own clocks.

use std::time::Duration;

use super::world::{Fleet, World};
use crate::{
    horizontal::{Horizontal, Metric, SYNC_PERIOD},
    scaled_object::ScaledObject,
};

/// What one look of the controller saw and decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// What KEDA says the lag is; none when it has nothing to say.
    pub lag: Option<i64>,
    /// The CPU of all replicas in percent of what they request.
    pub cpu_percent: Option<i32>,
    /// How many replicas there were.
    pub current: i32,
    /// What the metrics ask for.
    pub wanted: Option<i32>,
    /// How many there are to be.
    pub desired: i32,
}

pub(super) struct Autoscaler {
    object: ScaledObject,
    request_millis: u32,
    controller: Horizontal,
    sync_period: Duration,
    next_poll: Duration,
    next_sync: Duration,
    failures: u32,
    /// What KEDA said last.
    lag: Option<i64>,
}

impl Autoscaler {
    /// With all times of `object` shortened already, and the controller's own by `speed`.
    pub(super) fn new(object: ScaledObject, request_millis: u32, speed: f64) -> Self {
        Self {
            controller: Horizontal::new(object.behavior.clone()),
            object,
            request_millis,
            sync_period: SYNC_PERIOD.div_f64(speed),
            next_poll: Duration::ZERO,
            next_sync: Duration::ZERO,
            failures: 0,
            lag: None,
        }
    }

    /// Does what is due; a look when the controller had one.
    pub(super) async fn step(&mut self, now: Duration, world: &World, fleet: &mut Fleet) -> Option<Look> {
        // `useCachedMetrics`: KEDA asks in its own rhythm, and the controller gets what was found last
        // (`GetScaledObjectMetrics` in KEDA's `pkg/scaling/scale_handler.go`).
        let is_cached = self.object.kafka.use_cached_metrics;
        if is_cached && now >= self.next_poll {
            self.next_poll += self.object.polling_interval;
            self.ask(world, fleet.count()).await;
        }
        if now < self.next_sync {
            return None;
        }
        self.next_sync += self.sync_period;
        if !is_cached {
            self.ask(world, fleet.count()).await;
        }
        Some(self.look(now, fleet))
    }

    /// KEDA asks the broker, and falls back when it cannot.
    async fn ask(&mut self, world: &World, current: i32) {
        let kafka = &self.object.kafka;
        self.lag = match world.kafka.offsets(&kafka.group, &kafka.topic).await {
            Ok(partitions) => {
                self.failures = 0;
                Some(kafka.limited(kafka.lag(&partitions), partitions.len()))
            }
            Err(error) => {
                eprintln!("scale-demo: {error}");
                self.failures += 1;
                let fallback = self.object.fallback;
                fallback.and_then(|fallback| fallback.value(self.failures, current, kafka.lag_threshold))
            }
        };
    }

    fn look(&mut self, now: Duration, fleet: &mut Fleet) -> Look {
        let (current, target) = (fleet.count(), float(self.object.kafka.lag_threshold));
        let mut metrics = vec![self.lag.map(|lag| Metric::Average { total: float(lag), target })];
        let cpu_percent = fleet.cpu_percent(self.request_millis);
        if let Some(target) = self.object.cpu_percent {
            metrics.push(cpu_percent.map(|percent| Metric::Utilization { percent, target }));
        }
        let decision = self.controller.sync(now, current, &metrics);
        Look { lag: self.lag, cpu_percent, current, wanted: decision.wanted, desired: decision.desired }
    }
}

#[expect(clippy::cast_precision_loss, reason = "lags are far below 2^53")]
pub(super) fn float(count: i64) -> f64 {
    count as f64
}
