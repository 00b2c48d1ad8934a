//! Kafka as a process sees it: the seam of the record path.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use management_api::ingest::{Consumer, Kafka};
use rand::RngExt;
use shared::kafka::{KafkaError, Membership, PartitionBounds, Polled, ReadPosition};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::group::{Fetch, SeatId};
use crate::world::{PARTITIONS, State, Weather, World};

/// The brokers, from one process.
pub struct SimulatedKafka {
    /// Where they are.
    pub world: World,
    /// Who asks.
    pub process: usize,
}

/// A membership of the group.
struct Member {
    world: World,
    process: usize,
    seat: SeatId,
}

impl SimulatedKafka {
    async fn ask<T>(&self, answer: impl FnOnce(&mut State) -> T) -> Result<T, KafkaError> {
        ask(&self.world, self.process, answer).await
    }
}

async fn ask<T>(world: &World, process: usize, answer: impl FnOnce(&mut State) -> T) -> Result<T, KafkaError> {
    world.gate(process).await;
    world.delay(3).await;
    let answer = {
        let mut state = world.lock();
        if state.is(Weather::BrokersSilent) {
            state.fault(process, "no answer of the brokers", [0; 3]);
            Err(KafkaError::Admin("no answer".to_owned()))
        } else {
            Ok(answer(&mut state))
        }
    };
    world.delay(3).await;
    world.gate(process).await;
    answer
}

#[async_trait]
impl Kafka for SimulatedKafka {
    async fn prepare(&self) -> Result<usize, KafkaError> {
        Ok(PARTITIONS)
    }

    async fn incarnation(&self) -> Result<String, KafkaError> {
        self.ask(|state| state.topic.name()).await
    }

    fn join(&self) -> Result<Arc<dyn Consumer>, KafkaError> {
        let mut state = self.world.lock();
        let State { group, rng, .. } = &mut *state;
        let seat = group.join(self.process, rng);
        state.note(self.process, "joins", [number(seat), 0, 0]);
        Ok(Arc::new(Member { world: self.world.clone(), process: self.process, seat }))
    }
}

impl Member {
    /// Does something to fetches; one that the member does not have must not be asked for.
    fn with_fetches(&self, what: &'static str, partitions: &[i32], mut each: impl FnMut(i32, &mut Fetch)) {
        let mut state = self.world.lock();
        let mut missing = Vec::new();
        if let Some(seat) = state.group.seats.get_mut(&self.seat) {
            for partition in partitions {
                match seat.fetches.get_mut(partition) {
                    Some(fetch) => each(*partition, fetch),
                    None => missing.push(*partition),
                }
            }
        }
        if !missing.is_empty() {
            state.violation(format!("{what} of partitions {missing:?}, which the consumer does not have"));
        }
    }
}

#[async_trait]
impl Consumer for Member {
    async fn poll(&self, timeout: Duration) -> Polled<'_> {
        let deadline = Instant::now() + timeout;
        loop {
            self.world.gate(self.process).await;
            let (polled, pause) = {
                let mut state = self.world.lock();
                let State { group, topic, rng, .. } = &mut *state;
                if group.seats.get(&self.seat).is_none_or(|seat| seat.is_dying) {
                    return Polled::Fatal("the client is dead".to_owned());
                }
                // A member that was put out hears of it late.
                let is_late = group.seats[&self.seat].is_out && rng.random_ratio(9, 10);
                let question = if is_late { None } else { group.question(self.seat) };
                let polled = question.or_else(|| group.read(self.seat, topic, rng));
                if let Some(Polled::Record(record)) = &polled {
                    state.disturb_mended_cut(record.partition(), record.offset());
                }
                (polled, state.rng.random_range(0..8_u64))
            };
            if let Some(polled) = polled {
                note(&self.world, self.process, &polled);
                // Now and then the network is slower than the reader; always, others get their turn.
                if pause == 0 {
                    sleep(Duration::from_millis(1)).await;
                } else {
                    yield_now().await;
                }
                return polled;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Polled::Nothing;
            }
            sleep(left.min(Duration::from_millis(10 + pause))).await;
        }
    }

    fn assign(&self, positions: &[ReadPosition]) -> Result<(), KafkaError> {
        let mut state = self.world.lock();
        state.note(self.process, "assigns", [number(positions.len()), 0, 0]);
        if !state.group.assign(self.seat, positions) {
            state.violation(format!("partitions assigned that the group did not give: {positions:?}"));
        }
        Ok(())
    }

    fn unassign(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        let mut state = self.world.lock();
        state.note(self.process, "unassigns", [number(partitions.len()), 0, 0]);
        let State { group, rng, .. } = &mut *state;
        if !group.unassign(self.seat, partitions, rng) {
            state.violation(format!("partitions given back that the group did not take: {partitions:?}"));
        }
        Ok(())
    }

    fn seek(&self, positions: &[ReadPosition]) -> Result<(), KafkaError> {
        for position in positions {
            self.with_fetches("a seek", &[position.partition], |_, fetch| fetch.seek(position));
            let epoch = position.leader_epoch.map_or(-1, i64::from);
            self.world.lock().note(self.process, "seeks", [position.partition.into(), position.offset, epoch]);
        }
        Ok(())
    }

    fn pause(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        self.with_fetches("a pause", partitions, |_, fetch| fetch.set_paused(true));
        Ok(())
    }

    fn resume(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        self.with_fetches("a resume", partitions, |_, fetch| fetch.set_paused(false));
        Ok(())
    }

    fn commit(&self, offsets: &[(i32, i64)]) -> Result<(), KafkaError> {
        let mut state = self.world.lock();
        for (partition, offset) in offsets {
            state.note(self.process, "commits to kafka", [(*partition).into(), *offset, 0]);
            if *offset > state.database.furthest.get(partition).copied().unwrap_or(0) {
                state.violation(format!("kafka is told {offset} of partition {partition}, which is not recorded"));
            }
        }
        let slow = state.is(Weather::CommitsSlow);
        let until = Instant::now() + state.while_ms(if slow { 3_000 } else { 10 });
        let fails = state.is(Weather::CommitsFail) && state.rng.random_ratio(1, 2);
        let well = !fails && state.group.commit(self.seat, offsets);
        if !well {
            state.fault(self.process, "a commit to kafka fails", [0; 3]);
        }
        if let Some(seat) = state.group.seats.get_mut(&self.seat) {
            seat.commits.push((until, well));
        }
        Ok(())
    }

    fn is_committing(&self) -> bool {
        let state = self.world.lock();
        let now = Instant::now();
        state.group.seats.get(&self.seat).is_some_and(|seat| seat.commits.iter().any(|(until, _)| now < *until))
    }

    fn take_commit_failure(&self) -> bool {
        let mut state = self.world.lock();
        let Some(seat) = state.group.seats.get_mut(&self.seat) else { return false };
        let now = Instant::now();
        seat.commits.extract_if(.., |(until, _)| *until <= now).fold(false, |failed, (_, well)| !well || failed)
    }

    fn membership(&self) -> Membership {
        let state = self.world.lock();
        let is_member = state.group.seats.get(&self.seat).is_some_and(|seat| !seat.is_out);
        Membership { is_member, complaint: None }
    }

    async fn bounds(&self, partitions: &[i32]) -> Result<Vec<PartitionBounds>, KafkaError> {
        ask(&self.world, self.process, |state| {
            let bounds = partitions.iter().map(|partition| {
                let end = state.topic.logs[usize::try_from(*partition).unwrap_or(0)].end();
                PartitionBounds { partition: *partition, low: 0, stable_end: end, end }
            });
            bounds.collect()
        })
        .await
    }

    async fn stable_ends(&self, partitions: &[i32]) -> Result<Vec<ReadPosition>, KafkaError> {
        ask(&self.world, self.process, |state| {
            let ends = partitions.iter().map(|partition| {
                let log = &state.topic.logs[usize::try_from(*partition).unwrap_or(0)];
                ReadPosition { partition: *partition, offset: log.end(), leader_epoch: Some(log.epoch) }
            });
            ends.collect()
        })
        .await
    }

    async fn committed(&self, partitions: &[i32]) -> Result<Vec<(i32, i64)>, KafkaError> {
        ask(&self.world, self.process, |state| {
            let committed = &state.group.committed;
            partitions.iter().filter_map(|partition| Some((*partition, *committed.get(partition)?))).collect()
        })
        .await
    }

    async fn partitions_of_group(&self) -> Result<usize, KafkaError> {
        ask(&self.world, self.process, |state| state.group.owners.iter().flatten().count()).await
    }
}

impl Drop for Member {
    /// A member that ends in good order leaves; of one that was killed the group knows nothing yet.
    fn drop(&mut self) {
        let mut state = self.world.lock();
        if !state.killed.contains(&self.process) {
            let State { group, rng, .. } = &mut *state;
            group.leave(self.seat, rng);
            state.note(self.process, "leaves", [number(self.seat), 0, 0]);
        }
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn note(world: &World, process: usize, polled: &Polled<'_>) {
    let (what, numbers) = match polled {
        Polled::Record(record) => ("reads", [record.partition().into(), record.offset(), 0]),
        Polled::End { partition, offset } => ("reads to the end", [(*partition).into(), *offset, 0]),
        Polled::Assigned(partitions) => ("is given partitions", list(partitions)),
        Polled::Revoked(partitions) => ("loses partitions", list(partitions)),
        Polled::Reset { partition, cut_at, .. } => ("is reset", [(*partition).into(), cut_at.unwrap_or(-1), 0]),
        Polled::Unreadable { partition, .. } => ("cannot read", [(*partition).into(), 0, 0]),
        Polled::Nothing | Polled::Trouble(_) | Polled::Fatal(_) => return,
    };
    world.lock().note(process, what, numbers);
}

/// How many, and which: a bit each.
fn list(partitions: &[i32]) -> [i64; 3] {
    [number(partitions.len()), partitions.iter().map(|partition| 1 << partition).sum(), 0]
}
