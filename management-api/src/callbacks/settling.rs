//! What became of callbacks, until it is written down: many together, and again if the database does not take it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::pending::PendingCallback;
use crate::store::{DeliveredCallback, FailedCallback, NextTry, Settlement, StoreError};

/// How soon it is written down, and how many are together at most.
const INTERVAL: Duration = Duration::from_millis(50);
const TOGETHER_MAX: usize = 500;
/// How soon it is tried again when the database does not take it.
const PAUSE: Duration = Duration::from_secs(1);

/// What is to be written down.
pub(super) struct Settling {
    settlement: Settlement,
    /// How many of each row of the outbox are not settled.
    batches: HashMap<Uuid, usize>,
    is_writing: bool,
    /// The database has not taken it: then nothing, however much it is, is written down before `due_at`.
    is_failing: bool,
    due_at: Instant,
}

impl Settling {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            settlement: Settlement::default(),
            batches: HashMap::new(),
            is_writing: false,
            is_failing: false,
            due_at: now,
        }
    }

    /// A row of the outbox was taken up.
    pub(super) fn expect(&mut self, batch_id: Uuid, purchases: usize) {
        self.batches.insert(batch_id, purchases);
        if purchases == 0 {
            self.release(Some(batch_id));
        }
    }

    /// One was delivered.
    pub(super) fn delivered(&mut self, callback: &PendingCallback) {
        if let Some(claimed_until) = callback.claimed_until {
            let purchase_id = callback.purchase.purchase_id;
            self.settlement.delivered.push(DeliveredCallback { purchase_id, claimed_until });
        }
        self.release(callback.batch_id);
    }

    /// One was not.
    pub(super) fn failed(&mut self, callback: &PendingCallback, attempts: u32, next: NextTry, outcome: String) {
        self.settlement.failed.push(FailedCallback {
            purchase_id: callback.purchase.purchase_id,
            host: callback.host.to_string(),
            recorded_at: callback.recorded_at(),
            attempts,
            tried_for: callback.tried_for(Instant::now()),
            next,
            outcome,
            claimed_until: callback.claimed_until,
        });
        self.release(callback.batch_id);
    }

    /// One of an outbox's row is settled; after the last one the row goes.
    fn release(&mut self, batch_id: Option<Uuid>) {
        let Some(batch_id) = batch_id else { return };
        let Some(left) = self.batches.get_mut(&batch_id) else { return };
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.batches.remove(&batch_id);
            self.settlement.finished_batches.push(batch_id);
        }
    }

    /// How many are not written down.
    pub(super) fn len(&self) -> usize {
        self.settlement.delivered.len() + self.settlement.failed.len() + self.settlement.finished_batches.len()
    }

    /// Whether something is being written down, or is to be.
    pub(super) fn is_busy(&self) -> bool {
        self.is_writing || !self.settlement.is_empty()
    }

    /// When something is to be written down.
    pub(super) fn due_at(&self) -> Option<Instant> {
        (!self.is_writing && !self.settlement.is_empty()).then_some(self.due_at)
    }

    /// What is to be written down now, all of it at the end; nothing else is until it comes back.
    pub(super) fn begin(&mut self, now: Instant, is_end: bool) -> Option<Settlement> {
        let is_much = !self.is_failing && (is_end || self.len() >= TOGETHER_MAX);
        if self.due_at()? > now && !is_much {
            return None;
        }
        self.is_writing = true;
        Some(std::mem::take(&mut self.settlement))
    }

    /// It came back.
    pub(super) fn end(&mut self, mut settlement: Settlement, written: Result<(), StoreError>, now: Instant) {
        self.is_writing = false;
        self.is_failing = written.is_err();
        self.due_at = now + INTERVAL;
        if let Err(error) = written {
            tracing::warn!(%error, "not written down what became of callbacks, trying again");
            self.due_at = now + PAUSE;
            // Before what came since: a row of the outbox must not go before what is left of it is kept.
            settlement.finished_batches.append(&mut self.settlement.finished_batches);
            settlement.delivered.append(&mut self.settlement.delivered);
            settlement.failed.append(&mut self.settlement.failed);
            self.settlement = settlement;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pending::tests::callback;
    use super::*;

    fn fail(settling: &mut Settling, count: usize) {
        for _ in 0..count {
            settling.failed(&callback("shop.example"), 1, NextTry::Never, String::new());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn much_is_written_down_at_once_and_little_is_waited_for() {
        let now = Instant::now();
        let mut settling = Settling::new(now + INTERVAL);
        fail(&mut settling, 1);
        assert!(settling.begin(now, false).is_none());
        fail(&mut settling, TOGETHER_MAX);
        let settlement = settling.begin(now, false).expect("it is much");
        assert!(settling.begin(now, true).is_none(), "one at a time");
        settling.end(settlement, Ok(()), now);
        assert!(!settling.is_busy());
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_is_away_is_left_alone_for_a_while_however_much_there_is() {
        let now = Instant::now();
        let mut settling = Settling::new(now);
        fail(&mut settling, 2 * TOGETHER_MAX);
        let settlement = settling.begin(now, false).expect("it is much");
        settling.end(settlement, Err(StoreError("away".to_owned())), now);
        assert!(settling.begin(now, false).is_none() && settling.begin(now, true).is_none());
        let again = settling.begin(now + PAUSE, false).expect("it is time");
        assert_eq!(again.failed.len(), 2 * TOGETHER_MAX);
    }
}
