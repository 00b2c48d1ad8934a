//! What librdkafka tells the consumer besides its events, and what the consumer remembers between them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use crate::kafka::ClientMetrics;

/// Whether the group has the consumer as a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The group's last round has come to its end with this member in it.
    pub is_member: bool,
    /// What the client complained about last, while it is none.
    pub complaint: Option<String>,
}

/// A change that the group has told and that waits for an answer.
pub(super) enum Rebalance {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
}

pub(super) struct Context {
    metrics: Arc<ClientMetrics>,
    membership: Mutex<Membership>,
    /// Commits that are under way.
    committing: AtomicUsize,
    commit_failed: AtomicBool,
    unanswered: Mutex<Option<Rebalance>>,
}

impl Context {
    pub(super) fn new(metrics: Arc<ClientMetrics>) -> Self {
        Self {
            metrics,
            membership: Mutex::default(),
            committing: AtomicUsize::new(0),
            commit_failed: AtomicBool::new(false),
            unanswered: Mutex::default(),
        }
    }

    pub(super) fn set_unanswered(&self, rebalance: Rebalance) {
        *self.unanswered.lock().unwrap_or_else(PoisonError::into_inner) = Some(rebalance);
    }

    pub(super) fn take_unanswered(&self) -> Option<Rebalance> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn membership(&self) -> Membership {
        self.membership.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn commit_began(&self) {
        self.committing.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn commit_ended(&self, well: bool) {
        if !well {
            self.commit_failed.store(true, Ordering::Relaxed);
        }
        let _ = self.committing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
    }

    pub(super) fn take_commit_failure(&self) -> bool {
        self.commit_failed.swap(false, Ordering::Relaxed)
    }

    pub(super) fn is_committing(&self) -> bool {
        self.committing.load(Ordering::Relaxed) > 0
    }

    /// Takes note of what the client complains about.
    pub(super) fn complaint(&self, code: RDKafkaErrorCode, text: &str) {
        if code == RDKafkaErrorCode::AllBrokersDown {
            self.metrics.set_connected(false);
        }
        let mut membership = self.membership.lock().unwrap_or_else(PoisonError::into_inner);
        membership.complaint = Some(text.to_owned());
    }

    pub(super) fn statistics(&self, json: &[u8]) {
        let statistics: Statistics = match serde_json::from_slice(json) {
            Ok(statistics) => statistics,
            Err(error) => return tracing::debug!(%error, "statistics not understood"),
        };
        self.metrics.update(&statistics);
        let Some(group) = &statistics.cgrp else { return };
        // In the states that wait for a call of ours the group has us already.
        let joined = ["steady", "wait-assign-call", "wait-unassign-call"].contains(&group.join_state.as_str())
            || group.join_state.ends_with("unassign-to-complete");
        let mut membership = self.membership.lock().unwrap_or_else(PoisonError::into_inner);
        membership.is_member = joined;
        if joined {
            membership.complaint = None;
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::kafka::admin::log(level, facility, message);
    }

    fn stats_raw(&self, json: &[u8]) {
        self.statistics(json);
    }
}

impl ConsumerContext for Context {
    /// Only ever called while the client is dropped, which polls by itself: it answers at once, so that it can leave.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let _ = match (code, consumer.rebalance_protocol()) {
            (RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS, RebalanceProtocol::Cooperative) => {
                consumer.incremental_assign(list)
            }
            (_, RebalanceProtocol::Cooperative) => consumer.incremental_unassign(list),
            _ => consumer.unassign(),
        };
    }
}
