//! What the reader does when the group gives or takes partitions, or when its offsets are not to be trusted.

use std::sync::Arc;
use std::time::Duration;

use shared::kafka::{KafkaError, Partitions, ReadPosition};

use super::{Reader, supervised};
use crate::ingest::batch::PendingBatch;
use crate::ingest::loader::{self, Answer, Loaded, Position, Request, Start};
use crate::planted::{self, Bug};

/// How long running transactions may take to end before partitions are given back all the same: whoever gets
/// them is protected by the compare-and-set of the offsets.
const REVOKE_PATIENCE: Duration = Duration::from_secs(3);

impl Reader {
    /// The group gives partitions: they are taken over once their offsets are known.
    pub(super) fn assigned(&mut self, partitions: Partitions) -> Result<(), KafkaError> {
        tracing::info!(?partitions, "partitions assigned");
        self.ingest.metrics.rebalance();
        if partitions.is_empty() && !planted::is(Bug::EmptyRoundUnanswered) {
            // Every round of the group is answered, also one that brings this member nothing: the others wait for it.
            return self.consumer.assign(&[]);
        }
        self.joining = partitions;
        self.load();
        Ok(())
    }

    /// The group takes partitions: what was decoded of them is dropped, what is being committed may end.
    pub(super) async fn revoked(&mut self, partitions: &[i32]) -> Result<(), KafkaError> {
        tracing::info!(?partitions, "partitions revoked");
        self.ingest.metrics.rebalance();
        self.await_lanes(REVOKE_PATIENCE).await?;
        self.commit();
        // librdkafka would remember a pause, and not fetch a partition that comes back later.
        self.consumer.resume(partitions)?;
        self.joining.retain(|partition| !partitions.contains(partition));
        for partition in partitions {
            self.partitions.remove(partition);
            self.uncommitted.remove(partition);
            self.unreadable.remove(partition);
            self.cuts.remove(partition);
            self.doubted.remove(partition);
            self.ingest.progress.release(*partition);
        }
        self.consumer.unassign(partitions)?;
        // A kept batch holds several partitions: those that stay are read again from where the lane is.
        self.drop_kept_batches()?;
        self.deal_anew();
        // An answer of the loader that is under way may name what is gone.
        self.load();
        Ok(())
    }

    fn drop_kept_batches(&mut self) -> Result<(), KafkaError> {
        let mut again = Vec::new();
        for lane in &mut self.lanes {
            for step in std::mem::take(&mut lane.next).batch.moves {
                if let Some(Some(position)) = self.partitions.get_mut(&step.partition) {
                    // After a cut what was handed over ends before what the database holds.
                    let stored = ReadPosition::at(step.partition, position.expected);
                    let from = if planted::is(Bug::ReadAgainFromStored) { stored } else { position.handed };
                    (position.next, position.read_epoch) = (from.offset, from.leader_epoch);
                    again.push(from);
                }
            }
        }
        if planted::is(Bug::SeekForgotten) { Ok(()) } else { self.consumer.seek(&again) }
    }

    /// Asks again where all partitions go on; until then nothing more is read of them.
    pub(super) async fn reload(&mut self) -> Result<(), KafkaError> {
        for lane in &mut self.lanes {
            lane.next = PendingBatch::default();
        }
        for position in self.partitions.values_mut() {
            *position = None;
        }
        // What is still being committed would make the offsets read now stale.
        self.await_lanes(REVOKE_PATIENCE).await?;
        self.reload_due = false;
        self.load();
        Ok(())
    }

    pub(super) fn load(&mut self) {
        self.request += 1;
        let loading =
            self.partitions.iter().filter(|(_, position)| position.is_none()).map(|(partition, _)| *partition);
        let partitions: Partitions = loading.chain(self.joining.iter().copied()).collect();
        if partitions.is_empty() {
            return;
        }
        let request = Request { number: self.request, partitions, answers: self.loaded.0.clone() };
        let work = loader::run(request, Arc::clone(&self.ingest), Arc::clone(&self.consumer));
        let loader = self.tasks.spawn(supervised(self.ingest.supervisor.clone(), "loader", work));
        if let Some(outdated) = self.loader.replace(loader) {
            outdated.abort();
        }
    }

    /// The offsets are known: begin, or go on, from there.
    pub(super) async fn take_over(&mut self, loaded: Loaded) -> Result<(), KafkaError> {
        if loaded.request != self.request {
            return Ok(());
        }
        let (incarnation, starts) = match loaded.answer {
            Answer::Starts { incarnation, starts } => (incarnation, starts),
            Answer::NoDatabase { behind } => return self.hold(&behind),
        };
        if *incarnation != *self.incarnation {
            let first = self.incarnation.is_empty();
            self.incarnation = incarnation;
            self.ingest.progress.set_incarnation(&self.incarnation);
            self.cuts.clear();
            self.uncommitted.clear();
            self.told.clear();
            if !first && self.partitions.values().any(Option::is_some) {
                // Partitions read before belong to the life of the topic that has just ended.
                return self.reload().await;
            }
        }
        let starts = starts.into_iter().map(|start| match self.cuts.remove(&start.partition) {
            Some(at) => start.cut(at),
            None => start,
        });
        let (joining, loading): (Vec<_>, Vec<_>) =
            starts.collect::<Vec<_>>().into_iter().partition(|start| self.joining.contains(&start.partition));
        for start in joining.iter().chain(&loading) {
            let position = Position {
                lane: self.emptiest_lane(),
                expected: start.stored,
                expected_epoch: start.stored_epoch,
                handed: start.read_position(),
                next: start.from,
                read_epoch: start.leader_epoch,
                reached: None,
                told_end: None,
            };
            self.partitions.insert(start.partition, Some(position));
            if start.is_cut {
                self.ingest.metrics.truncation();
            }
            if start.lost() > 0 {
                self.pass_lost(start);
            }
            self.ingest.progress.take_over(start.partition, start.from, start.end);
            if start.stored > 0 {
                // An autoscaler counts from what Kafka was told last; whoever had the partition may not have come to that.
                self.uncommitted.insert(start.partition, start.from);
            }
        }
        if !self.joining.is_empty() {
            self.consumer.assign(&positions(&joining))?;
            self.joining.clear();
        }
        self.consumer.seek(&positions(&loading))?;
        let (busy, free): (Vec<_>, Vec<_>) =
            joining.iter().chain(&loading).map(|start| start.partition).partition(|it| self.is_lane_paused(*it));
        self.consumer.pause(&busy)?;
        self.consumer.resume(&free)
    }

    /// What Kafka deleted before it was recorded is told, counted, and passed like a mark, so that nobody counts it again.
    fn pass_lost(&mut self, start: &Start) {
        let Start { partition, stored, low, .. } = *start;
        tracing::error!(partition, stored, low, "records were deleted from kafka before they were recorded");
        self.ingest.metrics.lost(start.lost());
        self.pass(partition, low, None);
    }

    fn is_lane_paused(&self, partition: i32) -> bool {
        matches!(self.partitions.get(&partition), Some(Some(position)) if self.lanes[position.lane].paused)
    }

    /// The database does not tell where to go on, but the group must not wait: it cannot move a partition before all its
    /// members have answered. So partitions are taken over, and nothing is read of them until their offsets are known.
    fn hold(&mut self, behind: &[Start]) -> Result<(), KafkaError> {
        let joining: Vec<_> = behind.iter().copied().filter(|start| self.joining.contains(&start.partition)).collect();
        if !joining.is_empty() {
            self.consumer.assign(&positions(&joining))?;
            self.consumer.pause(&joining.iter().map(|start| start.partition).collect::<Partitions>())?;
            self.partitions.extend(joining.iter().map(|start| (start.partition, None)));
            self.joining.clear();
        }
        for start in behind {
            self.ingest.progress.take_over(start.partition, start.from, start.end);
        }
        Ok(())
    }
}

/// The partitions, each with where it goes on.
fn positions(starts: &[Start]) -> Vec<ReadPosition> {
    starts.iter().map(Start::read_position).collect()
}
