//! Where partitions go on: from the database, held against what the broker has.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use shared::kafka::RecordConsumer;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Ingest;

/// How long the brokers may take to tell their offsets.
const TIMEOUT: Duration = Duration::from_secs(3);
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
    /// The next offset to poll; anything before is an echo.
    pub next: i64,
}

/// Requests to the loader.
pub(super) struct Load {
    pub number: u64,
    pub answers: Receiver<Loaded>,
    pub sender: Sender<Loaded>,
}

/// Where a partition goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// The partition.
    pub partition: i32,
    /// What the database holds.
    pub stored: i64,
    /// The first offset to read: the stored one, unless the broker does not have it.
    pub from: i64,
    /// The broker's next offset: the lag is known from the first moment.
    pub end: i64,
}

/// Finds out in the background where `partitions` go on, trying until it succeeds or is cancelled.
pub(super) fn request(
    request: u64,
    ingest: &Arc<Ingest>,
    consumer: &Arc<RecordConsumer>,
    partitions: Vec<i32>,
    (answer, cancel): (Sender<Loaded>, CancellationToken),
) {
    let (ingest, consumer) = (Arc::clone(ingest), Arc::clone(consumer));
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut told = false;
        while !cancel.is_cancelled() {
            match load(&ingest, &consumer, &runtime, &partitions, told) {
                Ok(found) => {
                    told = true;
                    let complete = matches!(found, Answer::Starts { .. });
                    if answer.send(Loaded { request, answer: found }).is_err() || complete {
                        return;
                    }
                }
                Err(error) => tracing::warn!(error, "offsets not known yet"),
            }
            std::thread::sleep(PAUSE);
        }
    });
}

/// `told`: the reader knows by now that the database is away, and how far behind the partitions are.
fn load(
    ingest: &Ingest,
    consumer: &RecordConsumer,
    runtime: &Handle,
    partitions: &[i32],
    told: bool,
) -> Result<Answer, String> {
    let incarnation: Arc<str> = ingest.admin.incarnation().map_err(|error| error.to_string())?.into();
    let marks = consumer.watermarks(partitions, TIMEOUT).map_err(|error| error.to_string())?;
    let stored = match runtime.block_on(ingest.store.next_offsets(&incarnation, partitions)) {
        Ok(stored) => stored,
        Err(error) if told => return Err(error.to_string()),
        Err(error) => {
            tracing::warn!(%error, "the database does not tell where to go on");
            return behind(consumer, partitions, &marks);
        }
    };
    let starts = marks.into_iter().map(|(partition, low, high)| {
        let stored = stored.iter().find(|offset| offset.partition == partition).map_or(0, |offset| offset.next_offset);
        start(partition, stored, low, high)
    });
    Ok(Answer::Starts { incarnation, starts: starts.collect() })
}

fn behind(consumer: &RecordConsumer, partitions: &[i32], marks: &[(i32, i64, i64)]) -> Result<Answer, String> {
    let committed = consumer.committed(partitions, TIMEOUT).map_err(|error| error.to_string())?;
    let behind = marks.iter().map(|(partition, low, high)| {
        let committed = committed.iter().find(|(other, _)| other == partition).map_or(*low, |(_, offset)| *offset);
        let from = committed.clamp(*low, *high);
        Start { partition: *partition, stored: from, from, end: *high }
    });
    Ok(Answer::NoDatabase { behind: behind.collect() })
}

fn start(partition: i32, stored: i64, low: i64, high: i64) -> Start {
    let from = if stored < low {
        if stored > 0 {
            tracing::error!(partition, stored, low, "records were deleted from kafka before they were recorded");
        }
        low
    } else if stored > high {
        // The log was cut behind our back. Reading all of it again is safe: what is recorded is not recorded twice.
        tracing::error!(partition, stored, high, "the stored offset is past the end of the partition, reading it all");
        low
    } else {
        stored
    };
    Start { partition, stored, from, end: high }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_goes_on_where_the_database_says_unless_the_broker_does_not_have_it() {
        assert_eq!(start(0, 5, 0, 9).from, 5);
        assert_eq!(start(0, 9, 0, 9).from, 9);
        assert_eq!(start(0, 0, 4, 9).from, 4, "expired before the first read");
        assert_eq!(start(0, 12, 4, 9).from, 4, "past the end is noticed, not obeyed");
    }
}
