//! From the reader to the lanes: what is handed over when, and what comes back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use shared::kafka::{KafkaError, Partitions, ReadPosition};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::Reader;
use crate::ingest::batch::{PendingBatch, Room, Spans};
use crate::ingest::lane::{Outcome, Report};
use crate::planted::{self, Bug};

/// How long the reader waits for a busy lane before it pauses the lane's partitions and polls on: no longer than the others
/// have work for. A pause gives up what was fetched ahead, so it is not for every moment's wait.
const LANE_PATIENCE: Duration = Duration::from_millis(200);

/// Batches that may wait in a lane behind the one being committed. Records come in runs of one partition, and so of
/// one lane: with less, the other lanes would run dry meanwhile.
const BATCHES_AHEAD: usize = 1;

/// A lane as the reader sees it.
pub(super) struct Lane {
    batches: mpsc::Sender<PendingBatch>,
    /// What was handed over and is not settled yet, batch by batch.
    held: VecDeque<Held>,
    /// What is handed over next.
    pub(super) next: PendingBatch,
    /// How large the last batch was.
    room: Room,
    /// Its partitions are not fetched, because it has more than enough.
    pub(super) paused: bool,
}

/// What the reader keeps of a batch that it has handed over.
struct Held {
    incarnation: Arc<str>,
    partitions: Partitions,
    spans: Spans,
}

impl Lane {
    /// A lane, and where it takes its batches from.
    pub(super) fn new() -> (Self, mpsc::Receiver<PendingBatch>) {
        let (batches, receiver) = mpsc::channel(1 + BATCHES_AHEAD);
        let (held, next, room) = (VecDeque::new(), PendingBatch::default(), Room::default());
        (Self { batches, held, next, room, paused: false }, receiver)
    }

    /// Begins a batch, unless one has begun.
    pub(super) fn begin(&mut self, incarnation: &Arc<str>) {
        if self.next.is_empty() {
            self.next = PendingBatch::with_room(Arc::clone(incarnation), self.room);
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.held.len() <= BATCHES_AHEAD
    }

    /// The time of a partition's oldest record that is not recorded yet.
    pub(super) fn oldest_ms(&self, partition: i32) -> Option<i64> {
        let held = self.held.iter().find_map(|held| held.spans.get(&partition).map(|span| span.oldest_ms));
        held.or_else(|| self.next.oldest_ms(partition))
    }

    /// Whether anything of a partition is on its way here.
    pub(super) fn holds(&self, partition: i32) -> bool {
        self.held.iter().any(|held| held.partitions.contains(&partition))
            || self.next.batch.moves.iter().any(|step| step.partition == partition)
    }
}

impl Reader {
    /// The lane with the fewest partitions. A group's assignor may give one member all the even ones and another all the
    /// odd ones, so a lane by the partition's number would leave half of the lanes without work.
    pub(super) fn emptiest_lane(&self) -> usize {
        let partitions_of = |lane: &usize| self.partitions.values().flatten().filter(|it| it.lane == *lane).count();
        (0..self.lanes.len()).min_by_key(partitions_of).unwrap_or(0)
    }

    /// Deals the partitions that are left to the lanes anew, unless a lane is still recording.
    pub(super) fn deal_anew(&mut self) {
        let lanes = self.lanes.len();
        if self.lanes.iter().all(Lane::is_idle) {
            let positions = self.partitions.values_mut().flatten();
            positions.enumerate().for_each(|(number, position)| position.lane = number % lanes);
        }
    }

    pub(super) fn is_full(&self, number: usize) -> bool {
        let (next, config) = (&self.lanes[number].next, &self.ingest.config);
        next.len() >= config.batch_records || next.bytes() >= config.batch_bytes
    }

    /// Lets a lane that has more than enough commit. After a while its partitions are paused: then polling goes on, and with
    /// it the other lanes and the membership in the group, however long the database is away.
    pub(super) async fn wait_for_lane(&mut self, number: usize) -> Result<(), KafkaError> {
        let deadline = Instant::now() + LANE_PATIENCE;
        while !self.lanes[number].has_room() && !self.reload_due {
            match timeout_at(deadline, self.reports.recv()).await {
                Ok(Some(report)) => {
                    self.settle(report)?;
                    self.hand_over_due()?;
                }
                Ok(None) => return Err(KafkaError::Admin("the lanes have ended".to_owned())),
                Err(_) => return self.pause_lane(number),
            }
        }
        Ok(())
    }

    fn pause_lane(&mut self, number: usize) -> Result<(), KafkaError> {
        if self.lanes[number].paused {
            return Ok(());
        }
        tracing::info!(lane = number, "a batch takes long, its lane's partitions are paused");
        self.lanes[number].paused = true;
        self.consumer.pause(&self.partitions_of(number))
    }

    fn resume_lane(&mut self, number: usize) -> Result<(), KafkaError> {
        self.lanes[number].paused = false;
        let mut partitions = self.partitions_of(number);
        partitions.retain(|partition| self.unreadable.get(partition).is_none_or(|it| it.trying));
        self.consumer.resume(&partitions)
    }

    fn partitions_of(&self, lane: usize) -> Partitions {
        let of_lane = self.partitions.iter().filter(|(_, position)| position.is_some_and(|it| it.lane == lane));
        of_lane.map(|(partition, _)| *partition).collect()
    }

    /// Takes note of what became of a lane's batch.
    pub(super) fn settle(&mut self, report: Report) -> Result<(), KafkaError> {
        let held = self.lanes[report.lane].held.pop_front();
        let (incarnation, spans) = held.map(|held| (held.incarnation, held.spans)).unwrap_or_default();
        match report.outcome {
            // Offsets of a life of the topic that has ended say nothing of this one.
            Outcome::Committed(_) if incarnation != self.incarnation => {}
            Outcome::Committed(offsets) => {
                for (partition, next) in &offsets {
                    // What is not read yet is no older than what was recorded last.
                    let newest = spans.get(partition).map(|span| span.newest_ms);
                    let oldest = self.lanes[report.lane].oldest_ms(*partition).or(newest);
                    if let Some(Some(position)) = self.partitions.get(partition) {
                        self.ingest.progress.recorded(*partition, *next, position.next, oldest);
                    }
                }
                let ours = offsets.into_iter().filter(|(partition, _)| self.partitions.contains_key(partition));
                self.uncommitted.extend(ours);
            }
            Outcome::Fenced => {
                tracing::warn!("another consumer has moved the offsets, reading them again");
                self.reload_due = !planted::is(Bug::ReloadForgotten);
            }
            Outcome::Outdated => self.reload_due = true,
            Outcome::Abandoned => {}
        }
        let lane = &self.lanes[report.lane];
        if lane.paused && lane.has_room() && !planted::is(Bug::ResumeForgotten) {
            self.resume_lane(report.lane)
        } else {
            Ok(())
        }
    }

    pub(super) fn hand_over_due(&mut self) -> Result<(), KafkaError> {
        if self.reload_due {
            return Ok(());
        }
        for number in 0..self.lanes.len() {
            let lane = &self.lanes[number];
            let waited = lane.next.began.is_some_and(|began| began.elapsed() >= self.ingest.config.linger);
            if (lane.has_room() && self.is_full(number)) || (lane.is_idle() && waited) {
                self.hand_over(number)?;
            }
        }
        Ok(())
    }

    pub(super) fn hand_over(&mut self, number: usize) -> Result<(), KafkaError> {
        let lane = &mut self.lanes[number];
        let batch = std::mem::take(&mut lane.next);
        for step in &batch.batch.moves {
            if let Some(Some(position)) = self.partitions.get_mut(&step.partition) {
                (position.expected, position.expected_epoch) = (step.next, step.leader_epoch);
                position.handed =
                    ReadPosition { partition: step.partition, offset: step.next, leader_epoch: step.leader_epoch };
                if planted::is(Bug::CommittedTooEarly) {
                    self.uncommitted.insert(step.partition, step.next);
                }
            }
        }
        lane.room = batch.room();
        let partitions = batch.batch.moves.iter().map(|step| step.partition).collect();
        let incarnation = Arc::clone(&batch.batch.incarnation);
        lane.held.push_back(Held { incarnation, partitions, spans: batch.spans().clone() });
        lane.batches.try_send(batch).map_err(|error| KafkaError::Admin(format!("a lane has ended: {error}")))
    }

    /// Waits until all lanes are idle, at most `patience`.
    pub(super) async fn await_lanes(&mut self, patience: Duration) -> Result<(), KafkaError> {
        let deadline = Instant::now() + patience;
        while !self.lanes.iter().all(Lane::is_idle) {
            match timeout_at(deadline, self.reports.recv()).await {
                Ok(Some(report)) => self.settle(report)?,
                Ok(None) | Err(_) => break,
            }
        }
        Ok(())
    }
}
