//! The database as a process sees it: slow, away, or silent about what it did.

use std::time::Duration;

use async_trait::async_trait;
use management_api::letter::Sending;
use management_api::store::{Batch, PageQuery, PartitionOffset, Reading, RecordError, Recorded, Recording, StoreError};
use rand::RngExt;
use shared::event::{Purchase, PurchasePage, UserPurchases};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::world::{State, Weather, World};

/// How long a process waits for a transaction's answer.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// The database, from one process.
pub struct SimulatedStore {
    /// Where it is.
    pub world: World,
    /// Who asks.
    pub process: usize,
}

/// What happens to a transaction on its way.
struct Way {
    there_ms: u64,
    arrives: bool,
    answer_arrives: bool,
}

impl Way {
    fn choose(state: &mut State) -> Self {
        let longest = if state.is(Weather::DatabaseSlow) { 2_500 } else { 8 };
        let there_ms = state.rng.random_range(0..=longest);
        let away = state.is(Weather::DatabaseAway);
        let lost = state.is(Weather::AnswersLost) && state.rng.random_ratio(2, 5);
        let arrives = !away || state.rng.random_ratio(1, 8);
        Self { there_ms, arrives, answer_arrives: !away && !lost }
    }
}

impl SimulatedStore {
    fn reach(&self) -> Result<(), StoreError> {
        if self.world.lock().is(Weather::DatabaseAway) { Err(unavailable("away")) } else { Ok(()) }
    }

    /// The transaction goes its way, whatever becomes of the process that has sent it.
    fn send(&self, batch: &Batch, way: &Way) -> oneshot::Receiver<Result<Recorded, RecordError>> {
        let (sender, receiver) = oneshot::channel();
        let (world, process, batch) = (self.world.clone(), self.process, batch.clone());
        let there = Duration::from_millis(way.there_ms);
        tokio::spawn(async move {
            sleep(there).await;
            let result = {
                let mut state = world.lock();
                let State { database, topic, .. } = &mut *state;
                let result = database.record(&batch, topic);
                if !database.violations.is_empty() {
                    let rows: Vec<_> = batch.rows.iter().map(|row| row.username.as_str()).collect();
                    database.violations.push(format!("process {process} by {:?} and {rows:?}", batch.moves));
                }
                let step = batch.moves.first();
                let what = match &result {
                    Ok(_) => "records",
                    Err(RecordError::Fenced) => "is fenced",
                    Err(_) => "is refused",
                };
                state.note(process, what, step.map_or([0; 3], |it| [it.partition.into(), it.expected, it.next]));
                result
            };
            let _ = sender.send(result);
        });
        receiver
    }
}

fn unavailable(reason: &str) -> StoreError {
    StoreError(reason.to_owned())
}

fn not_asked<T>() -> Result<T, StoreError> {
    Err(unavailable("not part of the simulation"))
}

#[async_trait]
impl Recording for SimulatedStore {
    async fn migrate(&self) -> Result<(), StoreError> {
        self.reach()
    }

    async fn record(&self, batch: &Batch) -> Result<Recorded, RecordError> {
        self.world.gate(self.process).await;
        let way = Way::choose(&mut self.world.lock());
        let answer = way.arrives.then(|| self.send(batch, &way));
        let answer = match answer {
            Some(answer) if way.answer_arrives => timeout(PATIENCE, answer).await.ok().and_then(Result::ok),
            _ => {
                self.world.delay(300).await;
                None
            }
        };
        self.world.delay(4).await;
        self.world.gate(self.process).await;
        answer.unwrap_or_else(|| {
            self.world.lock().fault(self.process, "no answer of the database", [0; 3]);
            Err(unavailable("no answer").into())
        })
    }

    async fn next_offsets(&self, incarnation: &str, partitions: &[i32]) -> Result<Vec<PartitionOffset>, StoreError> {
        self.world.gate(self.process).await;
        self.world.delay(5).await;
        self.reach()?;
        let offset = |state: &State, partition: i32| {
            let (next_offset, leader_epoch) = state.database.offset(incarnation, partition);
            PartitionOffset { partition, next_offset, leader_epoch }
        };
        let offsets = {
            let state = self.world.lock();
            partitions.iter().map(|partition| offset(&state, *partition)).collect()
        };
        self.world.delay(5).await;
        self.world.gate(self.process).await;
        Ok(offsets)
    }

    async fn find_recorded(&self, ids: &[Uuid]) -> Result<Vec<Purchase>, StoreError> {
        self.find_purchases(ids).await
    }

    async fn find_announced(&self, sendings: &[Sending]) -> Result<Vec<Sending>, StoreError> {
        self.world.gate(self.process).await;
        self.world.delay(5).await;
        self.reach()?;
        let state = self.world.lock();
        Ok(sendings.iter().filter(|sending| state.topic.was_sent_back(sending)).copied().collect())
    }
}

#[async_trait]
impl Reading for SimulatedStore {
    async fn find_purchases(&self, ids: &[Uuid]) -> Result<Vec<Purchase>, StoreError> {
        self.reach()?;
        let state = self.world.lock();
        Ok(ids.iter().filter_map(|id| state.database.rows.get(id).cloned()).collect())
    }

    async fn list_user_purchases(&self, _: &str, _: u32) -> Result<UserPurchases, StoreError> {
        not_asked()
    }

    async fn list_purchases(&self, _: &PageQuery) -> Result<PurchasePage, StoreError> {
        not_asked()
    }
}
