//! A database in memory that fails when a test says so.

mod accounts;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use management_api::letter::{DeadLetter, Sending};
use management_api::store::{
    Batch, Connections, KeptLetter, Mending, OffsetMove, PageQuery, PartitionOffset, Reading, RecordError, Recorded,
    Recording, Redriven, Redrives, Skipped, Store, StoreError, Unfit,
};
use shared::event::{Purchase, PurchasePage, Timestamp, UserPurchases};
use shared::price::Amount;
use uuid::Uuid;

/// Keeps the rules of a store, without SQL.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    /// Every call fails.
    pub away: AtomicBool,
    /// Batches of this partition take until it is another one; -1 for none.
    pub held: AtomicI32,
    /// Batches of this partition fail until it is another one; -1 for none.
    pub failing: AtomicI32,
    /// Nothing can be announced.
    pub announces_nothing: AtomicBool,
    /// How many attempts to record have failed.
    pub failed: AtomicUsize,
    /// Rows of this userid are refused.
    pub refuses: Mutex<Option<String>>,
}

#[derive(Default)]
struct State {
    rows: HashMap<Uuid, Purchase>,
    offsets: HashMap<(String, i32), i64>,
    epochs: HashMap<(String, i32), Option<i32>>,
    letters: HashMap<Uuid, KeptLetter>,
    announced: HashSet<Sending>,
    skipped: Vec<Skipped>,
}

impl State {
    fn keep(&mut self, letters: &[DeadLetter], kept_at: Timestamp) {
        for letter in letters {
            let id = letter.original.id();
            let number = i64::try_from(self.letters.len()).unwrap() + 1;
            let redrives = Redrives { returned: letter.redrive, kept: true, ..Redrives::none(id) };
            let kept = KeptLetter { number, letter: letter.clone(), kept_at, redrives };
            self.letters.entry(id).or_insert(kept).redrives.returned = letter.redrive;
        }
    }
}

impl MemoryStore {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { held: AtomicI32::new(-1), failing: AtomicI32::new(-1), ..Self::default() })
    }

    /// Moves an offset as another consumer would.
    pub fn steal(&self, partition: i32, next: i64) {
        for ((_, other), offset) in &mut self.state.lock().unwrap().offsets {
            if *other == partition {
                *offset = next;
            }
        }
    }

    /// What is recorded of a partition.
    pub fn next_offset(&self, partition: i32) -> i64 {
        let state = self.state.lock().unwrap();
        state.offsets.iter().find(|((_, other), _)| *other == partition).map_or(0, |(_, offset)| *offset)
    }

    fn reach(&self) -> Result<(), StoreError> {
        if self.away.load(Ordering::Relaxed) { Err(StoreError("away".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl Recording for MemoryStore {
    async fn migrate(&self) -> Result<(), StoreError> {
        self.reach()
    }

    async fn record(&self, batch: &Batch) -> Result<Recorded, RecordError> {
        let is_of =
            |partition: &AtomicI32| batch.moves.iter().any(|step| step.partition == partition.load(Ordering::Relaxed));
        while is_of(&self.held) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let fails = if is_of(&self.failing) { Err(StoreError("a test says so".to_owned())) } else { self.reach() };
        if let Err(error) = fails {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return Err(error.into());
        }
        let mut state = self.state.lock().unwrap();
        let key = |partition: i32| (batch.incarnation.to_string(), partition);
        let held = |partition: i32| state.offsets.get(&key(partition)).copied().unwrap_or(0);
        let epoch = |partition: i32| state.epochs.get(&key(partition)).copied().flatten();
        let is_other = |a: Option<i32>, b: Option<i32>| a.zip(b).is_some_and(|(a, b)| a != b);
        let fenced = |step: &OffsetMove| {
            held(step.partition) != step.expected || is_other(epoch(step.partition), step.expected_epoch)
        };
        if batch.moves.iter().any(fenced) {
            return Err(RecordError::Fenced);
        }
        let refused = self.refuses.lock().unwrap().clone();
        if batch.rows.iter().any(|row| Some(&row.userid) == refused.as_ref()) {
            return Err(RecordError::Rejected("a test refuses this user".to_owned()));
        }
        let stored = |index: &usize| state.rows.get(&batch.rows[*index].purchase_id);
        let known: Vec<usize> = (0..batch.rows.len()).filter(|index| stored(index).is_some()).collect();
        let differs = |index: &&usize| !stored(index).is_some_and(|row| row.same_content(&batch.rows[**index]));
        let conflicts: Vec<usize> = known.iter().filter(differs).copied().collect();
        if !conflicts.is_empty() {
            return Err(RecordError::Conflict(conflicts));
        }
        let recorded_at = Timestamp::now();
        for row in &batch.rows {
            let stored = Purchase { recorded_at: Some(recorded_at), ..row.clone() };
            state.rows.entry(stored.purchase_id).or_insert(stored);
        }
        for step in &batch.moves {
            state.offsets.insert(key(step.partition), step.next);
            state.epochs.insert(key(step.partition), step.leader_epoch);
        }
        state.keep(&batch.dead_letters, recorded_at);
        let inserted = batch.rows.len() - known.len();
        Ok(Recorded { inserted, duplicates: known.len(), recorded_at, callbacks: Vec::new() })
    }

    async fn next_offsets(&self, incarnation: &str, partitions: &[i32]) -> Result<Vec<PartitionOffset>, StoreError> {
        self.reach()?;
        let state = self.state.lock().unwrap();
        let held = |partition: i32| state.offsets.get(&(incarnation.to_owned(), partition)).copied().unwrap_or(0);
        let epoch = |partition: i32| state.epochs.get(&(incarnation.to_owned(), partition)).copied().flatten();
        let offset = |p: &i32| PartitionOffset { partition: *p, next_offset: held(*p), leader_epoch: epoch(*p) };
        Ok(partitions.iter().map(offset).collect())
    }

    async fn find_recorded(&self, ids: &[Uuid]) -> Result<Vec<Purchase>, StoreError> {
        self.find_purchases(ids).await
    }

    async fn find_announced(&self, sendings: &[Sending]) -> Result<Vec<Sending>, StoreError> {
        self.reach()?;
        let state = self.state.lock().unwrap();
        Ok(sendings.iter().filter(|sending| state.announced.contains(sending)).copied().collect())
    }
}

#[async_trait]
impl Reading for MemoryStore {
    async fn find_purchases(&self, ids: &[Uuid]) -> Result<Vec<Purchase>, StoreError> {
        self.reach()?;
        let state = self.state.lock().unwrap();
        Ok(ids.iter().filter_map(|id| state.rows.get(id).cloned()).collect())
    }

    async fn list_user_purchases(&self, userid: &str, limit: u32) -> Result<UserPurchases, StoreError> {
        self.reach()?;
        let mut purchases: Vec<Purchase> =
            self.state.lock().unwrap().rows.values().filter(|row| row.userid == userid).cloned().collect();
        purchases.sort_by_key(|row| std::cmp::Reverse((row.timestamp, row.purchase_id)));
        let total = purchases.iter().map(|row| row.price.decimal()).sum();
        let count = purchases.len() as u64;
        purchases.truncate(limit as usize);
        Ok(UserPurchases { userid: userid.to_owned(), purchases, count, total_spent: Amount::new(total) })
    }

    async fn list_purchases(&self, _: &PageQuery) -> Result<PurchasePage, StoreError> {
        Err(StoreError("not part of these tests".to_owned()))
    }
}

#[async_trait]
impl Mending for MemoryStore {
    async fn skip(&self, incarnation: &str, step: &OffsetMove, reason: &str) -> Result<(), RecordError> {
        self.record(&Batch { incarnation: incarnation.into(), moves: vec![*step], ..Batch::default() }).await?;
        let (incarnation, reason, skipped_at) = (incarnation.to_owned(), reason.to_owned(), Timestamp::now());
        let OffsetMove { partition, expected: from_offset, next: to_offset, .. } = *step;
        let skipped = Skipped { incarnation, partition, from_offset, to_offset, reason, skipped_at };
        self.state.lock().unwrap().skipped.insert(0, skipped);
        Ok(())
    }

    async fn list_skipped(&self) -> Result<Vec<Skipped>, StoreError> {
        self.reach()?;
        Ok(self.state.lock().unwrap().skipped.clone())
    }

    async fn list_dead_letters(&self, after: i64) -> Result<Vec<KeptLetter>, StoreError> {
        self.reach()?;
        let mut letters: Vec<_> = self.state.lock().unwrap().letters.values().cloned().collect();
        letters.retain(|letter| letter.number > after);
        letters.sort_by_key(|letter| letter.number);
        Ok(letters)
    }

    async fn find_redrives(&self, ids: &[Uuid]) -> Result<Vec<Redrives>, StoreError> {
        self.reach()?;
        let state = self.state.lock().unwrap();
        Ok(ids.iter().filter_map(|id| Some(state.letters.get(id)?.redrives.clone())).collect())
    }

    async fn keep(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        self.reach()?;
        self.state.lock().unwrap().keep(std::slice::from_ref(letter), Timestamp::now());
        Ok(())
    }

    async fn announce(&self, sendings: &[Sending]) -> Result<(), StoreError> {
        self.reach()?;
        if self.announces_nothing.load(Ordering::Relaxed) {
            return Err(StoreError("a test says so".to_owned()));
        }
        self.state.lock().unwrap().announced.extend(sendings);
        Ok(())
    }

    async fn mark_redriven(&self, _: &[Redriven]) -> Result<(), StoreError> {
        Err(StoreError("not part of these tests".to_owned()))
    }

    async fn count_dead_letters(&self) -> Result<u64, StoreError> {
        self.reach()?;
        Ok(self.state.lock().unwrap().letters.values().filter(|letter| !letter.redrives.is_redriven()).count() as u64)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn check(&self) -> Result<(), Unfit> {
        Ok(self.reach()?)
    }

    fn connections(&self) -> Connections {
        Connections { idle: 0, used: 0 }
    }

    async fn close(&self) {}
}
