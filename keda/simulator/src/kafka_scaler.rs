//! Lag as KEDA 2.21 counts it, and what it tells the HPA: `pkg/scalers/kafka_scaler.go`, functions are named below.

use stack::kafka::PartitionOffsets;

/// What a group without a commit is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetResetPolicy {
    /// It begins with what the broker still has: all of that is its lag.
    Earliest,
    /// It begins at the end: a lag of 1 a partition, whatever is there.
    Latest,
}

/// A kafka trigger, as far as the number of replicas depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaTrigger {
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// Lag a replica.
    pub lag_threshold: i64,
    /// What a group without a commit is taken for.
    pub offset_reset_policy: OffsetResetPolicy,
    /// Whether more replicas than partitions may be asked for.
    pub allow_idle_consumers: bool,
    /// Whether the HPA reads the last value of KEDA's own polling instead of a new one.
    pub use_cached_metrics: bool,
}

impl KafkaTrigger {
    /// The lag of all partitions (`getTotalLag`, before its limits).
    pub fn lag(&self, partitions: &[PartitionOffsets]) -> i64 {
        partitions.iter().map(|offsets| self.partition_lag(*offsets)).sum()
    }

    /// What the HPA is told of such a lag (`getTotalLag`, its last lines). The limit compares by a division that drops
    /// the rest: 1,050 at 100 a replica on 10 partitions is not above 10, and stays 1,050.
    pub fn limited(&self, lag: i64, partitions: usize) -> i64 {
        let partitions = i64::try_from(partitions).unwrap_or(i64::MAX);
        let is_above = !self.allow_idle_consumers && lag / self.lag_threshold > partitions;
        // `quantityFromFloat64` in `pkg/scalers/scaler.go`: never negative.
        if is_above { partitions * self.lag_threshold } else { lag.max(0) }
    }

    /// `getLagForPartition`.
    fn partition_lag(&self, offsets: PartitionOffsets) -> i64 {
        match (offsets.committed, self.offset_reset_policy) {
            (Some(committed), _) => offsets.end - committed,
            (None, OffsetResetPolicy::Latest) => 1,
            (None, OffsetResetPolicy::Earliest) => (offsets.end - offsets.beginning).max(0),
        }
    }
}

/// What KEDA says while it cannot ask the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallback {
    /// So many failures in a row are an error to the HPA; from the next one on there is a fallback.
    pub failure_threshold: u32,
    /// How many replicas it wants.
    pub replicas: i32,
    /// How that goes with the replicas that run.
    pub behavior: FallbackBehavior,
}

/// How a fallback's replicas go with those that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FallbackBehavior {
    /// The fallback's.
    Static,
    /// Those that run.
    CurrentReplicas,
    /// The larger number.
    CurrentReplicasIfHigher,
    /// The smaller number.
    CurrentReplicasIfLower,
}

impl Fallback {
    /// The value after so many failures in a row (`GetMetricsWithFallback`, `doFallback` in `pkg/fallback/fallback.go`):
    /// as much as asks for the replicas that are wanted. None while the failure is the HPA's to see. Not replayed: with
    /// `useCachedMetrics` KEDA 2.21 takes an answer from its cache for a success or a failure of its own.
    pub fn value(self, failures: u32, current: i32, threshold: i64) -> Option<i64> {
        let replicas = match self.behavior {
            FallbackBehavior::Static => self.replicas,
            FallbackBehavior::CurrentReplicas => current,
            FallbackBehavior::CurrentReplicasIfHigher => current.max(self.replicas),
            FallbackBehavior::CurrentReplicasIfLower => current.min(self.replicas),
        };
        (failures > self.failure_threshold).then(|| i64::from(replicas) * threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(offset_reset_policy: OffsetResetPolicy) -> KafkaTrigger {
        KafkaTrigger {
            group: "group".to_owned(),
            topic: "topic".to_owned(),
            lag_threshold: 100,
            offset_reset_policy,
            allow_idle_consumers: false,
            use_cached_metrics: false,
        }
    }

    /// So many partitions, each with offsets from 40 to 140.
    fn partitions(count: i32, committed: Option<i64>) -> Vec<PartitionOffsets> {
        (0..count).map(|partition| PartitionOffsets { partition, beginning: 40, end: 140, committed }).collect()
    }

    #[test]
    fn lag_is_counted_from_what_is_committed_to_kafka() {
        let offsets = [partitions(2, Some(100)), partitions(1, Some(140))].concat();
        for policy in [OffsetResetPolicy::Earliest, OffsetResetPolicy::Latest] {
            assert_eq!(trigger(policy).lag(&offsets), 80);
        }
    }

    #[test]
    fn without_a_commit_earliest_sees_what_is_kept_and_latest_one_a_partition() {
        let offsets = partitions(10, None);
        assert_eq!(trigger(OffsetResetPolicy::Earliest).lag(&offsets), 1000);
        assert_eq!(trigger(OffsetResetPolicy::Latest).lag(&offsets), 10);
        let empty = [PartitionOffsets { partition: 0, beginning: 0, end: 0, committed: None }];
        assert_eq!(trigger(OffsetResetPolicy::Earliest).lag(&empty), 0);
        assert_eq!(trigger(OffsetResetPolicy::Latest).lag(&empty), 1, "a phantom: nothing is there");
    }

    #[test]
    fn the_limit_drops_the_rest_of_its_division() {
        let trigger = trigger(OffsetResetPolicy::Earliest);
        let limited = [1000, 1050, 1099, 1100, 1_000_000].map(|lag| trigger.limited(lag, 10));
        assert_eq!(limited, [1000, 1050, 1099, 1000, 1000]);
    }

    #[test]
    fn with_idle_consumers_allowed_there_is_no_limit() {
        let trigger = KafkaTrigger { allow_idle_consumers: true, ..trigger(OffsetResetPolicy::Earliest) };
        assert_eq!(trigger.limited(1_000_000, 10), 1_000_000);
    }

    #[test]
    fn a_group_ahead_of_its_topic_has_no_lag() {
        let trigger = trigger(OffsetResetPolicy::Earliest);
        assert_eq!(trigger.lag(&partitions(1, Some(150))), -10);
        assert_eq!(trigger.limited(-10, 1), 0);
    }

    #[test]
    fn a_fallback_asks_for_replicas_once_there_were_too_many_failures() {
        let value = |behavior, failures, current| {
            Fallback { failure_threshold: 3, replicas: 2, behavior }.value(failures, current, 100)
        };
        let if_higher = FallbackBehavior::CurrentReplicasIfHigher;
        assert_eq!(value(if_higher, 3, 5), None, "an error, on which the HPA keeps what runs");
        assert_eq!(value(if_higher, 4, 5), Some(500), "what runs stays");
        assert_eq!(value(if_higher, 4, 1), Some(200));
        assert_eq!(value(FallbackBehavior::CurrentReplicasIfLower, 4, 5), Some(200));
        assert_eq!(value(FallbackBehavior::CurrentReplicas, 4, 1), Some(100));
        assert_eq!(value(FallbackBehavior::Static, 4, 1), Some(200));
    }
}
