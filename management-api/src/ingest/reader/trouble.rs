//! What the reader does with a partition whose log is not what it was, or cannot be read on. The others go on.

use std::time::Duration;

use shared::kafka::{Damage, KafkaError, ReadPosition};
use tokio::time::Instant;

use super::Reader;
use crate::ingest::progress::Stuck;
use crate::planted::{self, Bug};

/// How soon a partition that cannot be read is tried again: the brokers may have been mended, or an operator has decided
/// to step over what cannot be read.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// A partition that cannot be read on.
pub(super) struct Unreadable {
    reason: String,
    retry_at: Instant,
    /// It is being tried again.
    pub(super) trying: bool,
}

impl Reader {
    /// The partition's log does not have the position any more: all offsets are read again, and if the log was cut, reading
    /// goes on where the histories part. What was read of the old one is recorded first, as far as lanes have room: those
    /// purchases were acknowledged.
    pub(super) fn reset(&mut self, partition: i32, cut_at: Option<i64>, reason: &str) {
        let Some(Some(position)) = self.partitions.get(&partition) else { return };
        let cut_at = cut_at.filter(|at| *at < position.next && !planted::is(Bug::CutIgnored));
        if let Some(at) = cut_at {
            let read_to = position.next;
            tracing::error!(
                partition,
                at,
                read_to,
                reason,
                "the log was cut: kafka has lost records that it had confirmed"
            );
            self.cuts.insert(partition, cut_at);
        } else {
            tracing::warn!(partition, position = position.next, reason, "the position is not in the log any more");
            // Read again with the epoch stored beside it, an offset leads to where the histories part. Only one of which
            // nobody knows that either is held against the log's end alone.
            if !self.doubted.insert(partition) {
                self.cuts.insert(partition, None);
            }
        }
        self.hand_over_all();
        self.reload_due = true;
    }

    /// What a lane has no room for is dropped, and read again with the rest.
    fn hand_over_all(&mut self) {
        for number in 0..self.lanes.len() {
            let lane = &self.lanes[number];
            if !lane.next.is_empty() && lane.has_room() {
                // A lane that has ended is noticed in the next turn.
                let _ = self.hand_over(number);
            }
        }
    }

    /// What comes next cannot be read: nothing is skipped, and everybody is told.
    pub(super) fn cannot_read(&mut self, partition: i32, damage: Damage, reason: String) -> Result<(), KafkaError> {
        let Some(Some(position)) = self.partitions.get(&partition).copied() else { return Ok(()) };
        if self.unreadable.get(&partition).is_none_or(|known| known.reason != reason) {
            tracing::error!(partition, offset = position.next, reason, "the partition cannot be read on");
        }
        let stuck = Stuck { offset: position.next, damage, reason: reason.clone() };
        self.ingest.progress.set_unreadable(partition, Some(stuck));
        let retry_at = Instant::now() + RETRY_INTERVAL;
        self.unreadable.insert(partition, Unreadable { reason, retry_at, trying: false });
        self.consumer.pause(&[partition])?;
        // librdkafka may go on behind what it could not read.
        self.consumer.seek(&[ReadPosition::at(partition, position.next)])
    }

    /// Begins unreadable partitions anew from where the database says: it knows whether they were stepped over.
    pub(super) fn retry_unreadable(&mut self) {
        let due = self.unreadable.iter().filter(|(_, it)| !it.trying && it.retry_at <= Instant::now());
        let due: Vec<i32> = due.map(|(partition, _)| *partition).collect();
        let mut asked = false;
        for partition in due {
            let Some(Some(position)) = self.partitions.get(&partition) else { continue };
            if self.lanes[position.lane].holds(partition) {
                continue;
            }
            self.partitions.insert(partition, None);
            if let Some(unreadable) = self.unreadable.get_mut(&partition) {
                unreadable.trying = true;
            }
            asked = true;
        }
        if asked {
            self.load();
        }
    }

    /// The partition is read on.
    pub(super) fn can_be_read(&mut self, partition: i32) {
        if !self.doubted.is_empty() {
            self.doubted.remove(&partition);
        }
        if !self.unreadable.is_empty() && self.unreadable.remove(&partition).is_some() {
            tracing::info!(partition, "the partition is read on");
            self.ingest.progress.set_unreadable(partition, None);
        }
    }
}
