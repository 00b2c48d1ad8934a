//! Telling Kafka what is recorded, for lag tools; the truth is in the database.

use std::time::Duration;

use tokio::time::Instant;

use super::{COMMIT_INTERVAL, Reader};
use crate::planted::{self, Bug};

/// How often the reader gives a sign of life: a lock for each record would be too much for the same answer.
const BEAT_INTERVAL: Duration = Duration::from_millis(500);

impl Reader {
    /// Gives a sign of life and tells Kafka what is recorded, each when it is time.
    pub(super) fn commit_if_due(&mut self) {
        let now = Instant::now();
        if now >= self.next_beat {
            self.next_beat = now + BEAT_INTERVAL;
            self.ingest.progress.beat(self.consumer.membership());
        }
        if self.take_back_failed_commit() {
            self.next_commit = now + BEAT_INTERVAL;
        } else if self.consumer.is_committing() {
            self.next_commit = now + COMMIT_INTERVAL;
        } else if now >= self.next_commit {
            self.commit();
        }
    }

    /// What Kafka was not told is to be told again, unless there is newer to tell or the partition is another's now. Gives
    /// whether a commit has failed.
    fn take_back_failed_commit(&mut self) -> bool {
        let failed = self.consumer.take_commit_failure() && !planted::is(Bug::FailedCommitForgotten);
        if failed {
            for (partition, offset) in std::mem::take(&mut self.told) {
                if self.partitions.contains_key(&partition) {
                    self.uncommitted.entry(partition).or_insert(offset);
                }
            }
        }
        failed
    }

    /// Tells Kafka what is recorded.
    pub(super) fn commit(&mut self) {
        self.take_back_failed_commit();
        if !self.consumer.is_committing() {
            self.told.clear();
        }
        let offsets: Vec<_> = std::mem::take(&mut self.uncommitted).into_iter().collect();
        if offsets.is_empty() {
            return;
        }
        if let Err(error) = self.consumer.commit(&offsets) {
            tracing::debug!(%error, "offsets not committed to kafka");
        }
        self.told.extend(offsets);
    }
}
