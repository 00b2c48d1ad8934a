//! How far one partition is.

use std::time::Duration;

use shared::event::Timestamp;
use shared::kafka::{Damage, PartitionBounds};
use tokio::time::Instant;

use crate::metrics::{IngestMetrics, PartitionState};

/// A transaction that holds back others' records for so long is not just on its way.
const TRANSACTION_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Partition {
    recorded: i64,
    end: i64,
    /// Time of the oldest record that was read and not yet recorded, or of the last one that was.
    oldest_ms: Option<i64>,
    /// When the partition was first seen to be behind, for records not yet read.
    behind_since_ms: Option<i64>,
    /// Where the first open transaction begins, and since when nothing else is left to record.
    blocked: Option<(i64, Instant)>,
    /// Whether it cannot be read on.
    pub(super) unreadable: Option<Stuck>,
}

/// From where on a partition cannot be read, and why.
pub(in crate::ingest) struct Stuck {
    pub(in crate::ingest) offset: i64,
    pub(in crate::ingest) damage: Damage,
    /// The same in words.
    pub(in crate::ingest) reason: String,
}

impl Partition {
    pub(super) fn lag(&self) -> i64 {
        self.end - self.recorded
    }

    /// The age of the oldest record that is not recorded yet.
    pub(super) fn lag_age(&self) -> Duration {
        let now = Timestamp::now().millis();
        let since = self.oldest_ms.or(self.behind_since_ms).filter(|_| self.lag() > 0).unwrap_or(now);
        Duration::from_millis(u64::try_from(now - since).unwrap_or(0))
    }

    pub(super) fn take_over(&mut self, recorded: i64, end: i64) {
        let unreadable = self.unreadable.take();
        *self = Self { recorded, end: end.max(recorded), unreadable, ..Self::default() };
    }

    pub(super) fn pending(&mut self, offset: i64, sent_at_ms: Option<i64>) {
        self.oldest_ms = sent_at_ms.or(self.oldest_ms);
        self.end = self.end.max(offset + 1);
    }

    pub(super) fn recorded(&mut self, next: i64, read: i64, oldest_ms: Option<i64>) {
        self.recorded = next;
        self.end = self.end.max(next).max(read);
        self.oldest_ms = oldest_ms;
    }

    pub(super) fn set_bounds(&mut self, bounds: &PartitionBounds) {
        self.end = self.end.max(bounds.end);
        let blocked = bounds.stable_end < bounds.end && self.recorded >= bounds.stable_end;
        let since = self.blocked.filter(|(at, _)| *at == bounds.stable_end).map(|(_, since)| since);
        self.blocked = blocked.then(|| (bounds.stable_end, since.unwrap_or_else(Instant::now)));
    }

    fn blocked_at(&self) -> Option<i64> {
        self.blocked.filter(|(_, since)| since.elapsed() >= TRANSACTION_PATIENCE).map(|(at, _)| at)
    }

    pub(super) fn check_readable(&self, number: i32) -> Result<(), String> {
        self.unreadable.as_ref().map_or(Ok(()), |Stuck { offset, reason, .. }| {
            Err(format!("partition {number} cannot be read on from offset {offset}: {reason}"))
        })
    }

    pub(super) fn check_transactions(&self, number: i32) -> Result<(), String> {
        self.blocked_at().map_or(Ok(()), |offset| {
            Err(format!(
                "partition {number} is held back from offset {offset} by a transaction that somebody left open"
            ))
        })
    }

    /// Shows it as metrics.
    pub(super) fn export(&mut self, number: i32, metrics: &IngestMetrics) {
        if self.lag() == 0 {
            self.oldest_ms = None;
            self.behind_since_ms = None;
        } else {
            self.behind_since_ms = self.behind_since_ms.or_else(|| Some(Timestamp::now().millis()));
        }
        let state = PartitionState {
            lag: self.lag(),
            lag_age: self.lag_age(),
            unreadable: self.unreadable.as_ref().map(|stuck| (stuck.offset, stuck.damage)),
            is_blocked: self.blocked_at().is_some(),
        };
        metrics.set_partition(number, &state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_open_transaction_is_told_once_nothing_else_is_left_and_it_lasts() {
        let mut partition = Partition::default();
        partition.take_over(0, 60);
        let held_back = PartitionBounds { partition: 0, low: 0, stable_end: 40, end: 100 };
        partition.set_bounds(&held_back);
        tokio::time::advance(TRANSACTION_PATIENCE).await;
        assert!(partition.check_transactions(0).is_ok(), "there is other work left");
        partition.recorded(40, 40, None);
        partition.set_bounds(&held_back);
        assert_eq!((partition.lag(), partition.check_transactions(0).is_ok()), (60, true), "it may end any moment");
        tokio::time::advance(TRANSACTION_PATIENCE).await;
        partition.set_bounds(&held_back);
        assert!(partition.check_transactions(0).unwrap_err().contains("offset 40"));
        partition.set_bounds(&PartitionBounds { stable_end: 100, ..held_back });
        assert!(partition.check_transactions(0).is_ok());
    }
}
