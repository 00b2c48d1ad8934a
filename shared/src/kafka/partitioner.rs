//! Which partition a purchase goes to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rand::RngExt;
use rdkafka::producer::Partitioner;
use rdkafka::statistics::Statistics;

/// The shortest run, for producers that do not linger: several records still share a request.
const RUN_MIN: Duration = Duration::from_micros(250);

/// What librdkafka takes for "no partition can be chosen now".
const UNASSIGNED: i32 = -1;

/// Short runs of records to one available partition after the other, whatever their key.
///
/// A run is a little shorter than the producer lingers, so that it becomes one produce request, and the partition's next
/// run comes after the answer. A longer run costs dearly: the idempotent producer of librdkafka 2.12 sends nothing to a
/// partition with more than five records in flight, and while a batch waits for that, its thread spins
/// (`rktp_msgs_inflight` in `rd_kafka_toppar_producer_serve`). Measured with runs of 8 ms: 35 µs of CPU a purchase
/// instead of 24.
pub struct BalancedPartitioner {
    started: Instant,
    /// How long records go to one partition, in microseconds.
    run_us: u64,
    /// The partition in the low 16 bits, above it the end of its run in microseconds since `started`.
    run: AtomicU64,
    /// Partitions whose leader has no connection. A cluster takes seconds to notice that a broker is dead and to choose
    /// other leaders; the client sees the broken connection at once, and purchases need not wait for that.
    unreachable: ArcSwap<Vec<i32>>,
}

impl BalancedPartitioner {
    pub fn new(linger: Duration) -> Self {
        Self {
            started: Instant::now(),
            // The last fifth is for records that were slow on their way from here into the queue.
            run_us: u64::try_from((linger * 4 / 5).max(RUN_MIN).as_micros()).unwrap_or(u64::MAX),
            // Several web-servers start anywhere, so that they do not visit the partitions in step.
            run: AtomicU64::new(rand::rng().random_range(0..1 << 16)),
            unreachable: ArcSwap::default(),
        }
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

    fn choose(&self, now: u64, count: i32, available: impl Fn(i32) -> bool) -> i32 {
        let run = self.run.load(Ordering::Relaxed);
        let (ends, current) = (run >> 16, (run & 0xffff) % u64::from(count.unsigned_abs()));
        let current = i32::try_from(current).unwrap_or(0);
        if now < ends && available(current) {
            return current;
        }
        let next = (1..=count).map(|step| (current + step) % count).find(|partition| available(*partition));
        let Some(next) = next else { return current };
        let ends = now + self.run_us;
        // Two threads may both move on: then a run is short once, and no record is worse off.
        self.run.store((ends << 16) | u64::from(next.unsigned_abs()), Ordering::Relaxed);
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
        let now = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(0);
        let unreachable = self.unreachable.load();
        let available = |partition| !unreachable.contains(&partition) && is_partition_available(partition);
        self.choose(now, partition_count, available)
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::{Broker, Partition, Topic};

    use super::*;

    #[test]
    fn a_run_stays_and_then_the_next_available_partition_has_its_turn() {
        let partitioner = BalancedPartitioner::new(Duration::from_millis(1));
        let first = partitioner.choose(0, 10, |_| true);
        assert_eq!(partitioner.choose(799, 10, |_| true), first);
        let second = partitioner.choose(800, 10, |_| true);
        assert_eq!(second, (first + 1) % 10);
        let third = partitioner.choose(801, 10, |partition| partition != second);
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
        let partitioner = BalancedPartitioner::new(Duration::ZERO);
        for (state, lost) in [("UP", vec![]), ("INIT", vec![]), ("TRY_CONNECT", vec![1]), ("DOWN", vec![1])] {
            partitioner.update(&statistics(state));
            assert_eq!(**partitioner.unreachable.load(), lost, "{state}");
        }
        let chosen: Vec<i32> = (0..50).map(|_| partitioner.partition("t", None, 3, |_| true)).collect();
        assert!(!chosen.contains(&1), "{chosen:?}");
    }

    #[test]
    fn without_any_leader_the_record_waits_where_it_is() {
        let partitioner = BalancedPartitioner::new(Duration::ZERO);
        assert!((0..10).contains(&partitioner.choose(0, 10, |_| false)));
    }
}
