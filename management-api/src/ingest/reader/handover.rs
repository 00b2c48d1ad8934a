//! From the reader to the lanes: what is handed over when, and what comes back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use shared::kafka::KafkaError;
use tokio::sync::mpsc;

use super::Reader;
use crate::ingest::batch::{PendingBatch, RecordTimes, Room};
use crate::ingest::lane::{Outcome, Report};

/// How long the thread waits for a busy lane before it pauses all partitions and polls on. Must stay far below
/// the time after which a group throws out a member that does not poll.
const LANE_PATIENCE: Duration = Duration::from_secs(1);

/// Batches that may wait in a lane behind the one being committed. Records come in runs of one partition, and so of
/// one lane: with less, the other lanes would run dry meanwhile.
const BATCHES_AHEAD: usize = 1;

/// A lane as the reader sees it.
pub(super) struct Lane {
    batches: mpsc::Sender<PendingBatch>,
    /// The record times of what was handed over and is not settled yet, batch by batch.
    held: VecDeque<RecordTimes>,
    /// What is handed over next.
    pub(super) next: PendingBatch,
    /// How large the last batch was.
    room: Room,
}

impl Lane {
    /// A lane, and where it takes its batches from.
    pub(super) fn new() -> (Self, mpsc::Receiver<PendingBatch>) {
        let (batches, receiver) = mpsc::channel(1 + BATCHES_AHEAD);
        (Self { batches, held: VecDeque::new(), next: PendingBatch::default(), room: Room::default() }, receiver)
    }

    /// Begins a batch, unless one has begun.
    pub(super) fn begin(&mut self, incarnation: &Arc<str>) {
        if self.next.is_empty() {
            self.next = PendingBatch::with_room(Arc::clone(incarnation), self.room);
        }
    }

    fn is_idle(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.held.len() <= BATCHES_AHEAD
    }

    /// The time of a partition's oldest record that is not recorded yet.
    pub(super) fn oldest_ms(&self, partition: i32) -> Option<i64> {
        let held = self.held.iter().find_map(|times| times.get(&partition).map(|span| span.oldest_ms));
        held.or_else(|| self.next.oldest_ms(partition))
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

    /// Lets a lane that has more than enough commit. After a while all partitions are paused: then polling goes on, and
    /// with it the membership in the group, however long the database is away.
    pub(super) fn wait_for_lane(&mut self, number: usize) -> Result<(), KafkaError> {
        let deadline = Instant::now() + LANE_PATIENCE;
        while !self.lanes[number].has_room() && !self.reload_due {
            match self.reports.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(report) => {
                    self.settle(report)?;
                    self.hand_over_due()?;
                }
                Err(RecvTimeoutError::Timeout) if self.paused => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    tracing::info!("a batch takes long, partitions paused");
                    self.paused = true;
                    return self.consumer.pause(&self.assigned_partitions());
                }
                Err(RecvTimeoutError::Disconnected) => return Err(KafkaError::Admin("a lane has ended".to_owned())),
            }
        }
        Ok(())
    }

    /// Takes note of what became of a lane's batch.
    pub(super) fn settle(&mut self, report: Report) -> Result<(), KafkaError> {
        let times = self.lanes[report.lane].held.pop_front().unwrap_or_default();
        match report.outcome {
            Outcome::Committed(offsets) => {
                for (partition, next) in &offsets {
                    // What is not read yet is no older than what was recorded last.
                    let newest = times.get(partition).map(|span| span.newest_ms);
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
                self.reload_due = true;
            }
            Outcome::Outdated => self.reload_due = true,
            Outcome::Abandoned => {}
        }
        if self.paused && self.lanes.iter().all(Lane::has_room) {
            self.paused = false;
            self.consumer.resume(&self.assigned_partitions())?;
        }
        Ok(())
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

    fn hand_over(&mut self, number: usize) -> Result<(), KafkaError> {
        let lane = &mut self.lanes[number];
        let batch = std::mem::take(&mut lane.next);
        for step in &batch.batch.moves {
            if let Some(Some(position)) = self.partitions.get_mut(&step.partition) {
                position.expected = step.next;
            }
        }
        lane.room = batch.room();
        lane.held.push_back(batch.times().clone());
        lane.batches.try_send(batch).map_err(|error| KafkaError::Admin(format!("a lane has ended: {error}")))
    }

    /// Waits until all lanes are idle, at most `patience`.
    pub(super) fn await_lanes(&mut self, patience: Duration) -> Result<(), KafkaError> {
        let deadline = Instant::now() + patience;
        while !self.lanes.iter().all(Lane::is_idle) {
            match self.reports.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(report) => self.settle(report)?,
                Err(_) => break,
            }
        }
        Ok(())
    }
}
