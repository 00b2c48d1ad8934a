//! Marks of transactions at the end of a partition: passed like records, or the partition would seem to be behind for ever.
//!
//! A mark is never polled, so nobody says of which leader it is. To keep the epoch of the record before would raise false
//! alarms: behind a mark of a newer leader, the offset lies past the end of that epoch, as if the log had been cut (KIP-320).
//! To keep none would hide a cut. So the brokers are asked for the end, and with it for the leader that has it: nothing
//! before is of a newer one, and whoever cuts it off later is one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use shared::kafka::{KafkaError, Partitions, ReadPosition};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{Reader, supervised};
use crate::ingest::Consumer;
use crate::planted::{self, Bug};
use crate::store::OffsetMove;

/// The pause before the next try.
const PAUSE: Duration = Duration::from_millis(300);

/// What the brokers are asked about ends, one question at a time.
pub(super) struct Ends {
    /// Partitions whose end was reached behind marks.
    due: BTreeSet<i32>,
    asking: bool,
    answers: (mpsc::UnboundedSender<Vec<ReadPosition>>, mpsc::UnboundedReceiver<Vec<ReadPosition>>),
}

impl Ends {
    pub(super) fn new() -> Self {
        Self { due: BTreeSet::new(), asking: false, answers: mpsc::unbounded_channel() }
    }

    /// The next answer, if there is one.
    pub(super) fn take_told(&mut self) -> Option<Vec<ReadPosition>> {
        let told = self.answers.1.try_recv().ok()?;
        self.asking = false;
        Some(told)
    }
}

impl Reader {
    /// Nothing that can be polled is left before `offset`.
    pub(super) fn end(&mut self, partition: i32, offset: i64) {
        self.can_be_read(partition);
        let Some(Some(position)) = self.partitions.get_mut(&partition) else { return };
        if offset <= position.next {
            return;
        }
        position.reached = Some((position.next, offset));
        match position.told_end {
            Some(end) if end.offset == offset => self.pass_marks(end),
            _ if planted::is(Bug::MarkHidesEpoch) => self.pass(partition, offset, None),
            _ => {
                self.ends.due.insert(partition);
            }
        }
    }

    /// Asks for the ends that were reached, unless a question is under way.
    pub(super) fn ask_ends(&mut self) {
        if self.ends.asking || self.ends.due.is_empty() {
            return;
        }
        self.ends.asking = true;
        let partitions = std::mem::take(&mut self.ends.due).into_iter().collect();
        let work = ask(partitions, Arc::clone(&self.consumer), self.ends.answers.0.clone());
        self.tasks.spawn(supervised(self.ingest.supervisor.clone(), "loader", work));
    }

    /// The brokers have told where partitions end. One that was reached there is passed, if its leader is the one whose
    /// record was read last. Under another, the log may have been cut since, and have grown to the same end: only an end
    /// that is reached again, read on from the history that is known, has been there all the time.
    pub(super) fn ends_told(&mut self, ends: Vec<ReadPosition>) -> Result<(), KafkaError> {
        for end in ends {
            let Some(Some(position)) = self.partitions.get_mut(&end.partition) else { continue };
            if position.reached != Some((position.next, end.offset)) {
                continue;
            }
            if end.leader_epoch.is_none_or(|epoch| position.read_epoch == Some(epoch)) {
                self.pass_marks(end);
            } else {
                position.told_end = Some(end);
                let (offset, leader_epoch) = (position.next, position.read_epoch);
                self.consumer.seek(&[ReadPosition { offset, leader_epoch, ..end }])?;
            }
        }
        Ok(())
    }

    fn pass_marks(&mut self, end: ReadPosition) {
        let Some(Some(position)) = self.partitions.get_mut(&end.partition) else { return };
        // Records of a newer leader may have been read since it was told.
        let leader_epoch = end.leader_epoch.max(end.leader_epoch.and(position.read_epoch));
        position.read_epoch = leader_epoch.or(position.read_epoch);
        self.pass(end.partition, end.offset, leader_epoch);
    }

    /// Moves a partition past what will never be polled.
    pub(super) fn pass(&mut self, partition: i32, next: i64, leader_epoch: Option<i32>) {
        let Some(Some(position)) = self.partitions.get_mut(&partition) else { return };
        let (expected, expected_epoch) = (position.expected, position.expected_epoch);
        let lane = &mut self.lanes[position.lane];
        lane.begin(&self.incarnation);
        lane.next.pass(OffsetMove { partition, expected, expected_epoch, next, leader_epoch });
        position.next = next;
    }
}

/// Asks until the brokers tell, or nobody listens.
async fn ask(partitions: Partitions, consumer: Arc<dyn Consumer>, answers: mpsc::UnboundedSender<Vec<ReadPosition>>) {
    while !answers.is_closed() {
        match consumer.stable_ends(&partitions).await {
            Ok(ends) if ends.len() == partitions.len() => {
                let _ = answers.send(ends);
                return;
            }
            Ok(_) => tracing::debug!("not every partition told its end"),
            Err(error) => tracing::debug!(%error, "ends of partitions not known"),
        }
        sleep(PAUSE).await;
    }
}
