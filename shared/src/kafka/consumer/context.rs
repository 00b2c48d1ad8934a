//! What librdkafka tells the consumer: rebalances are noted for the polling thread, the rest goes to log and metrics.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{TopicPartitionList, TopicPartitionListElem};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::util::Timeout;

use super::Polled;
use crate::kafka::ClientMetrics;

pub(super) struct Context {
    metrics: Arc<ClientMetrics>,
    rebalances: Mutex<VecDeque<Polled<'static>>>,
    leaving: AtomicBool,
}

impl Context {
    pub(super) fn new(metrics: Arc<ClientMetrics>) -> Self {
        Self { metrics, rebalances: Mutex::default(), leaving: AtomicBool::new(false) }
    }

    /// From now on rebalances answer themselves.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    pub(super) fn next_rebalance(&self) -> Option<Polled<'static>> {
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::kafka::admin::log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.metrics.update(&statistics);
    }

    fn error(&self, error: ClientError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.metrics.set_connected(false);
        }
        // librdkafka's own log line tells the same, and repeats it less often.
        tracing::debug!(%error, reason, "kafka consumer error");
    }
}

impl ConsumerContext for Context {
    /// Only takes note: the polling thread answers, outside of the callback.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.leaving.load(Ordering::Relaxed) {
            let _ = match (code, consumer.rebalance_protocol()) {
                (RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS, RebalanceProtocol::Cooperative) => {
                    consumer.incremental_assign(list)
                }
                (_, RebalanceProtocol::Cooperative) => consumer.incremental_unassign(list),
                _ => consumer.unassign(),
            };
            return;
        }
        let partitions = list.elements().iter().map(TopicPartitionListElem::partition).collect();
        let event = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Polled::Assigned(partitions),
            _ => Polled::Revoked(partitions),
        };
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
    }

    fn commit_callback(&self, result: Result<(), ClientError>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "offsets not committed to kafka");
        }
    }

    fn main_queue_min_poll_interval(&self) -> Timeout {
        Timeout::After(Duration::from_millis(500))
    }
}
