//! Metrics of each partition.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shared::kafka::Damage;
use shared::metrics::{Gauge, Label, Registry, value};

use super::flag;

/// How one partition is.
#[derive(Clone, Copy, Debug, Default)]
pub struct PartitionState {
    /// Records that are not recorded yet.
    pub lag: i64,
    /// The age of the oldest of them.
    pub lag_age: Duration,
    /// From which offset on it cannot be read, if so, and what is wrong there.
    pub unreadable: Option<(i64, Damage)>,
    /// Whether somebody's open transaction holds it back.
    pub is_blocked: bool,
}

/// The handles of every partition that was seen.
pub(super) struct PartitionMetrics {
    registry: Registry,
    seen: Mutex<HashMap<i32, PartitionGauges>>,
}

struct PartitionGauges {
    lag: Gauge,
    lag_seconds: Gauge,
    unreadable: Vec<(Damage, Gauge)>,
    unreadable_offset: Gauge,
    blocked: Gauge,
}

impl PartitionMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self { registry: registry.clone(), seen: Mutex::default() }
    }

    pub(super) fn set(&self, partition: i32, state: &PartitionState) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let gauges = seen.entry(partition).or_insert_with(|| PartitionGauges::register(&self.registry, partition));
        gauges.lag.set(value(usize::try_from(state.lag).unwrap_or(0)));
        gauges.lag_seconds.set(state.lag_age.as_secs_f64());
        for (damage, gauge) in &gauges.unreadable {
            gauge.set(flag(state.unreadable.is_some_and(|(_, found)| found == *damage)));
        }
        let offset = state.unreadable.and_then(|(offset, _)| usize::try_from(offset).ok());
        gauges.unreadable_offset.set(offset.map_or(-1.0, value));
        gauges.blocked.set(flag(state.is_blocked));
    }
}

impl PartitionGauges {
    fn register(registry: &Registry, partition: i32) -> Self {
        let partition = partition.to_string();
        let gauge = |name, help| registry.gauge(name, help, &[("partition", &partition)]);
        let unreadable = |damage: Damage| {
            let labels = [("partition", partition.as_str()), (Damage::NAME, damage.text())];
            registry.gauge("kafka_consumer_unreadable", "1 while a batch of the partition cannot be read.", &labels)
        };
        Self {
            lag: gauge("kafka_consumer_lag", "Records of the partition that are not recorded yet."),
            lag_seconds: gauge("kafka_consumer_lag_seconds", "Age of the oldest record that is not recorded yet."),
            unreadable: Damage::ALL.iter().map(|damage| (*damage, unreadable(*damage))).collect(),
            unreadable_offset: gauge("kafka_consumer_unreadable_offset", "Where that batch stands; -1 for none."),
            blocked: gauge(
                "kafka_consumer_blocked_by_transaction",
                "1 while a transaction that somebody left open holds back the partition.",
            ),
        }
    }
}
