//! Where partitions go on: from the database, held against what the broker has.

use std::sync::Arc;
use std::time::Duration;

use shared::kafka::{PartitionBounds, ReadPosition};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{Consumer, Ingest};
use crate::store::PartitionOffset;

/// The pause before the next try.
const PAUSE: Duration = Duration::from_millis(300);

/// The answer to one request.
pub(super) struct Loaded {
    /// Which request; an older one no longer counts.
    pub request: u64,
    /// What was found.
    pub answer: Answer,
}

/// What the loader found.
pub(super) enum Answer {
    /// Where each partition goes on.
    Starts {
        /// The life of the topic that the offsets belong to.
        incarnation: Arc<str>,
        /// One for each partition.
        starts: Vec<Start>,
    },
    /// The database does not tell; it is asked again. By the offsets committed to Kafka, the partitions are so far behind.
    NoDatabase {
        /// One for each partition.
        behind: Vec<Start>,
    },
}

/// How far a partition is.
#[derive(Clone, Copy)]
pub(super) struct Position {
    /// The lane that records it: one after the other, so always the same while anything is under way.
    pub lane: usize,
    /// What the database will hold once everything handed to the lane and kept for it is committed.
    pub expected: i64,
    /// The leader epoch that it will hold with that, if it is known.
    pub expected_epoch: Option<i32>,
    /// The first place that is not handed to the lane; after a cut it lies before what the database holds.
    pub handed: ReadPosition,
    /// The next offset to poll; anything before is an echo, unless it is of a newer leader.
    pub next: i64,
    /// The leader epoch of the record before that, if it is known.
    pub read_epoch: Option<i32>,
    /// What was next when the end was reached, and the end: marks of transactions stand between.
    pub reached: Option<(i64, i64)>,
    /// The end that the brokers have told, and its leader's epoch.
    pub told_end: Option<ReadPosition>,
}

/// Where a partition goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// The partition.
    pub partition: i32,
    /// What the database holds.
    pub stored: i64,
    /// The leader epoch that it holds with that.
    pub stored_epoch: Option<i32>,
    /// The first offset to read: the stored one, unless the broker does not have it.
    pub from: i64,
    /// The leader epoch of the record before `from`, if it is to be held against the broker's history.
    pub leader_epoch: Option<i32>,
    /// The first offset that the broker still has.
    pub low: i64,
    /// The broker's next offset: the lag is known from the first moment.
    pub end: i64,
    /// Whether the log was found cut.
    pub is_cut: bool,
}

/// What is asked of the loader.
pub(super) struct Request {
    /// Which request this is.
    pub number: u64,
    /// Whose offsets are wanted.
    pub partitions: Vec<i32>,
    /// Where to send the answer.
    pub answers: mpsc::UnboundedSender<Loaded>,
}

/// Finds out where partitions go on, trying until it succeeds or nobody listens.
pub(super) async fn run(request: Request, ingest: Arc<Ingest>, consumer: Arc<dyn Consumer>) {
    let mut told = false;
    while !request.answers.is_closed() {
        match load(&ingest, &*consumer, &request.partitions, told).await {
            Ok(found) => {
                told = true;
                let complete = matches!(found, Answer::Starts { .. });
                if request.answers.send(Loaded { request: request.number, answer: found }).is_err() || complete {
                    return;
                }
            }
            Err(error) => tracing::warn!(error, "offsets not known yet"),
        }
        sleep(PAUSE).await;
    }
}

/// `told`: the reader knows by now that the database is away, and how far behind the partitions are.
async fn load(ingest: &Ingest, consumer: &dyn Consumer, partitions: &[i32], told: bool) -> Result<Answer, String> {
    let incarnation: Arc<str> = ingest.kafka.incarnation().await.map_err(|error| error.to_string())?.into();
    let bounds = consumer.bounds(partitions).await.map_err(|error| error.to_string())?;
    if bounds.len() < partitions.len() {
        return Err("not every partition told its offsets".to_owned());
    }
    let stored = match ingest.store.next_offsets(&incarnation, partitions).await {
        Ok(stored) => stored,
        Err(error) if told => return Err(error.to_string()),
        Err(error) => {
            tracing::warn!(%error, "the database does not tell where to go on");
            return behind(consumer, partitions, &bounds).await;
        }
    };
    let starts = bounds.iter().map(|bounds| {
        let nothing = PartitionOffset { partition: bounds.partition, next_offset: 0, leader_epoch: None };
        let stored = stored.iter().find(|offset| offset.partition == bounds.partition).copied().unwrap_or(nothing);
        start(stored, bounds)
    });
    Ok(Answer::Starts { incarnation, starts: starts.collect() })
}

async fn behind(consumer: &dyn Consumer, partitions: &[i32], bounds: &[PartitionBounds]) -> Result<Answer, String> {
    let committed = consumer.committed(partitions).await.map_err(|error| error.to_string())?;
    let behind = bounds.iter().map(|bounds| {
        let committed = committed.iter().find(|(other, _)| *other == bounds.partition);
        let from = committed.map_or(bounds.low, |(_, offset)| *offset).clamp(bounds.low, bounds.end);
        Start {
            partition: bounds.partition,
            stored: from,
            stored_epoch: None,
            from,
            leader_epoch: None,
            low: bounds.low,
            end: bounds.end,
            is_cut: false,
        }
    });
    Ok(Answer::NoDatabase { behind: behind.collect() })
}

fn start(stored: PartitionOffset, bounds: &PartitionBounds) -> Start {
    let PartitionOffset { partition, next_offset: stored, leader_epoch: stored_epoch } = stored;
    let PartitionBounds { low, end, .. } = *bounds;
    let is_cut = stored > end && stored_epoch.is_none();
    let (from, leader_epoch) = if stored < low {
        (low, None)
    } else if is_cut {
        // The log was cut behind our back. Reading all of it again is safe: what is recorded is not recorded twice, but for
        // records without an id that a release before 0002 has recorded: their names have changed.
        tracing::error!(partition, stored, end, "the stored offset is past the end of the partition, reading it all");
        (low, None)
    } else {
        // With an epoch the brokers are asked where the log's history parts from the one that was read.
        (stored, stored_epoch)
    };
    Start { partition, stored, stored_epoch, from, leader_epoch, low, end, is_cut }
}

impl Start {
    /// Where to read from.
    pub(super) fn read_position(&self) -> ReadPosition {
        ReadPosition { partition: self.partition, offset: self.from, leader_epoch: self.leader_epoch }
    }

    /// How many records of a partition that was recorded before were deleted from Kafka before they were recorded.
    pub(super) fn lost(&self) -> i64 {
        if self.stored > 0 { (self.low - self.stored).max(0) } else { 0 }
    }

    /// Goes on where the log's history parts from the one that was read. Where nobody knows that, the offset alone decides.
    pub(super) fn cut(self, at: Option<i64>) -> Self {
        let (from, leader_epoch, is_cut) = match at {
            // Up to there the log has the history that was recorded. With its epoch another cut meanwhile is noticed.
            Some(at) => (at.min(self.stored).max(self.low), self.stored_epoch, true),
            None if self.stored > self.end => (self.low, None, true),
            None => (self.from, None, self.is_cut),
        };
        Self { from, leader_epoch, is_cut, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(stored: i64, leader_epoch: Option<i32>, low: i64, end: i64) -> (i64, Option<i32>) {
        let bounds = PartitionBounds { partition: 0, low, stable_end: end, end };
        let start = start(PartitionOffset { partition: 0, next_offset: stored, leader_epoch }, &bounds);
        (start.from, start.leader_epoch)
    }

    #[test]
    fn a_partition_goes_on_where_the_database_says_unless_the_broker_does_not_have_it() {
        assert_eq!(from(5, None, 0, 9), (5, None));
        assert_eq!(from(9, Some(2), 0, 9), (9, Some(2)));
        assert_eq!(from(0, None, 4, 9), (4, None), "expired before the first read");
        assert_eq!(from(12, None, 4, 9), (4, None), "past the end is noticed, not obeyed");
        assert_eq!(from(12, Some(1), 4, 9), (12, Some(1)), "the brokers tell where the histories part");
    }

    #[test]
    fn where_a_cut_log_goes_on_is_itself_held_against_the_brokers_history() {
        let bounds = PartitionBounds { partition: 0, low: 4, stable_end: 30, end: 30 };
        let start = start(PartitionOffset { partition: 0, next_offset: 12, leader_epoch: Some(1) }, &bounds);
        let cut = |at| (start.cut(at).from, start.cut(at).leader_epoch, start.cut(at).is_cut);
        assert_eq!(cut(Some(9)), (9, Some(1), true));
        assert_eq!(cut(Some(20)), (12, Some(1), true), "what is recorded is still there");
        assert_eq!(cut(Some(2)), (4, Some(1), true), "the brokers have nothing before");
        assert_eq!(cut(None), (12, None, false), "nobody knows");
    }
}
