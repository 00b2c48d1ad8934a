//! Which partition a purchase goes to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use arc_swap::ArcSwap;
use rand::RngExt;
use rdkafka::producer::Partitioner;
use rdkafka::statistics::Statistics;

/// What librdkafka takes for "no partition can be chosen now".
const UNASSIGNED: i32 = -1;

/// Runs of records to one available partition after the other, whatever their key.
///
/// A run is what leaves together, so that it becomes one produce request, and the partition's next run comes after the
/// answer. A longer run costs dearly: the idempotent producer of librdkafka 2.12 sends nothing to a partition with more than
/// five records in flight, and while a batch waits for that, its thread spins (`rktp_msgs_inflight` in
/// `rd_kafka_toppar_producer_serve`). Measured with runs of 8 ms: 35 µs of CPU a purchase instead of 24.
pub struct BalancedPartitioner {
    /// The partition of the run.
    current: AtomicI32,
    /// Whether another run has begun, and its partition is not chosen yet.
    turned: AtomicBool,
    /// Partitions whose leader has no connection. A cluster takes seconds to notice that a broker is dead and to choose
    /// other leaders; the client sees the broken connection at once, and purchases need not wait for that.
    unreachable: ArcSwap<Vec<i32>>,
}

impl BalancedPartitioner {
    pub fn new() -> Self {
        Self {
            // Several web-servers start anywhere, so that they do not visit the partitions in step.
            current: AtomicI32::new(rand::rng().random_range(0..1 << 16)),
            turned: AtomicBool::new(false),
            unreachable: ArcSwap::default(),
        }
    }

    /// Begins another run.
    pub fn turn(&self) {
        self.turned.store(true, Ordering::Relaxed);
    }

    /// Takes note of which leaders are connected.
    pub fn update(&self, statistics: &Statistics) {
        let is_reachable = |leader: i32| {
            let broker = statistics.brokers.values().find(|broker| broker.nodeid == leader);
            // INIT: not needed so far, and connected by the first record.
            broker.is_none_or(|broker| matches!(broker.state.as_str(), "UP" | "UPDATE" | "INIT"))
        };
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let lost = partitions.filter(|partition| !is_reachable(partition.leader)).map(|partition| partition.partition);
        self.unreachable.store(Arc::new(lost.collect()));
    }

    fn choose(&self, count: i32, available: impl Fn(i32) -> bool) -> i32 {
        let current = self.current.load(Ordering::Relaxed) % count;
        // Two threads may both move on: then a run is short once, and no record is worse off.
        let turned = self.turned.load(Ordering::Relaxed) && self.turned.swap(false, Ordering::Relaxed);
        if !turned && available(current) {
            return current;
        }
        let next = (1..=count).map(|step| (current + step) % count).find(|partition| available(*partition));
        let next = next.unwrap_or(current);
        self.current.store(next, Ordering::Relaxed);
        next
    }
}

impl Partitioner for BalancedPartitioner {
    fn partition(
        &self,
        _topic: &str,
        _key: Option<&[u8]>,
        partition_count: i32,
        is_partition_available: impl Fn(i32) -> bool,
    ) -> i32 {
        if partition_count < 1 {
            return UNASSIGNED;
        }
        let unreachable = self.unreachable.load();
        let available = |partition| !unreachable.contains(&partition) && is_partition_available(partition);
        self.choose(partition_count, available)
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::{Broker, Partition, Topic};

    use super::*;

    #[test]
    fn a_run_stays_and_then_the_next_available_partition_has_its_turn() {
        let partitioner = BalancedPartitioner::new();
        let first = partitioner.choose(10, |_| true);
        assert_eq!(partitioner.choose(10, |_| true), first);
        partitioner.turn();
        let second = partitioner.choose(10, |_| true);
        assert_eq!(second, (first + 1) % 10);
        assert_eq!(partitioner.choose(10, |_| true), second);
        let third = partitioner.choose(10, |partition| partition != second);
        assert_eq!(third, (second + 1) % 10, "a partition without a leader loses its turn at once");
    }

    #[test]
    fn partitions_of_a_leader_without_a_connection_lose_their_turn() {
        let broker = |nodeid: i32, state: &str| Broker { nodeid, state: state.to_owned(), ..Broker::default() };
        let statistics = |state: &str| {
            let partitions = [(0, 1), (1, 2), (2, 1)]
                .map(|(partition, leader)| (partition, Partition { partition, leader, ..Partition::default() }));
            let topic = Topic { partitions: partitions.into(), ..Topic::default() };
            Statistics {
                brokers: [("one".to_owned(), broker(1, "UP")), ("two".to_owned(), broker(2, state))].into(),
                topics: [("purchases".to_owned(), topic)].into(),
                ..Statistics::default()
            }
        };
        let partitioner = BalancedPartitioner::new();
        for (state, lost) in [("UP", vec![]), ("INIT", vec![]), ("TRY_CONNECT", vec![1]), ("DOWN", vec![1])] {
            partitioner.update(&statistics(state));
            assert_eq!(**partitioner.unreachable.load(), lost, "{state}");
        }
        let choose = |_| {
            partitioner.turn();
            partitioner.partition("t", None, 3, |_| true)
        };
        let chosen: Vec<i32> = (0..50).map(choose).collect();
        assert!(!chosen.contains(&1), "{chosen:?}");
    }

    #[test]
    fn without_any_leader_the_record_waits_where_it_is() {
        let partitioner = BalancedPartitioner::new();
        assert!((0..10).contains(&partitioner.choose(10, |_| false)));
    }
}
