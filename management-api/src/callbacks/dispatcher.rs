//! Takes up what is due, delivers it, and writes down what became of it. All that it knows is in the database too: whatever happens
//! to it, somebody takes up the rest when its claims end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::callbacks::FailingHost;
use shared::event::Timestamp;
use shared::shutdown::Shutdown;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};
use uuid::Uuid;

use super::Callbacks;
use super::breaker::Verdict;
use super::failing::{self, FailingHosts};
use super::hosts::{Hosts, Refused};
use super::pending::PendingCallback;
use super::schedule::Next;
use super::sending::AttemptOutcome;
use crate::metrics::CallbackFate;
use crate::store::{CallbackBatch, Claim, Claimed, FailedCallback, NextTry, RetriedCallback, Settlement, StoreError};

/// How often the database is asked for what is due.
const CLAIM_INTERVAL: Duration = Duration::from_secs(1);
/// The most callbacks that are taken up at once.
const CLAIM_MAX: u32 = 1_000;
/// How soon what became of callbacks is written down, many together, and how many that are at most.
const SETTLE_INTERVAL: Duration = Duration::from_millis(50);
const SETTLE_MAX: usize = 500;
/// How soon it is tried again when the database does not take it.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);
/// How often late ones are looked for.
const TICK: Duration = Duration::from_millis(500);
/// How long the end may take: what is on its way still is taken up by others when its claim ends.
const END_MAX: Duration = Duration::from_secs(2);
/// When a callback is due again for whose host too many wait.
const CROWDED_PAUSE: Duration = Duration::from_secs(5);

/// Something has ended.
enum Event {
    Attempt(Box<PendingCallback>, AttemptOutcome, Duration),
    Claim(Result<Claimed, StoreError>),
    Settlement(Settlement, Result<(), StoreError>),
    Failing(Result<FailingHost, StoreError>),
    Hosts(Result<Vec<FailingHost>, StoreError>),
    Done,
}

/// Callbacks from their claim until what became of them is written down.
pub(super) struct Dispatcher<'a> {
    callbacks: &'a Callbacks,
    hosts: Hosts,
    failing: FailingHosts,
    running: JoinSet<Event>,
    /// How many of each row of the outbox are not settled.
    batches: HashMap<Uuid, usize>,
    settlement: Settlement,
    is_settling: bool,
    settle_at: Instant,
    is_claiming: bool,
    claim_at: Instant,
}

impl<'a> Dispatcher<'a> {
    pub(super) fn new(callbacks: &'a Callbacks) -> Self {
        let now = Instant::now();
        Self {
            callbacks,
            hosts: Hosts::new(callbacks.config.in_flight_per_host_max),
            failing: FailingHosts::default(),
            running: JoinSet::new(),
            batches: HashMap::new(),
            settlement: Settlement::default(),
            is_settling: false,
            settle_at: now,
            is_claiming: false,
            claim_at: now,
        }
    }

    /// Delivers until the shutdown; then what is on its way ends, and the rest is given back.
    pub(super) async fn run(&mut self, inbox: &mut UnboundedReceiver<CallbackBatch>, shutdown: &Shutdown) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !shutdown.is_stopped() {
            self.begin_attempts();
            self.callbacks.held.store(self.held(), Ordering::Relaxed);
            self.begin_claim();
            self.begin_settlement();
            tokio::select! {
                Some(ended) = self.running.join_next() => self.take(ended.unwrap_or(Event::Done)),
                Some(batch) = inbox.recv() => self.take_new(batch),
                () = sleep_until(self.settle_at), if !self.settlement.is_empty() && !self.is_settling => {}
                _ = tick.tick() => self.tick(),
                () = shutdown.stopped() => {}
            }
        }
        self.end().await;
    }

    /// What waits is due at once, for others; what is on its way has some time left.
    async fn end(&mut self) {
        let until = Instant::now() + END_MAX;
        loop {
            for callback in self.hosts.take_all() {
                self.put_off(&callback, Duration::ZERO);
            }
            self.settle_at = Instant::now();
            self.begin_settlement();
            if self.hosts.in_flight() == 0 && !self.is_settling && !self.is_claiming {
                return;
            }
            let Ok(Some(ended)) = timeout_at(until, self.running.join_next()).await else { return };
            self.take(ended.unwrap_or(Event::Done));
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        for callback in self.hosts.take_late(now) {
            self.put_off(&callback, Duration::ZERO);
        }
        self.callbacks.metrics.set_in_flight(self.hosts.in_flight());
        if self.failing.begins_refresh(now) {
            let store = Arc::clone(&self.callbacks.store);
            self.running.spawn(async move { Event::Hosts(failing::list(&*store).await) });
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Attempt(callback, outcome, took) => self.finish(*callback, outcome, took),
            Event::Claim(claimed) => self.take_claimed(claimed),
            Event::Settlement(settlement, written) => self.take_settled(settlement, written),
            Event::Failing(Ok(host)) => self.failing.note(&host),
            Event::Failing(Err(error)) => tracing::debug!(%error, "not noted that a host of callbacks fails"),
            Event::Hosts(hosts) => self.failing.refresh(hosts),
            Event::Done => {}
        }
    }

    // Claims.

    fn begin_claim(&mut self) {
        let now = Instant::now();
        if self.is_claiming
            || !self.failing.is_known()
            || now < self.claim_at
            || self.callbacks.room() < CLAIM_MAX as usize
        {
            return;
        }
        self.is_claiming = true;
        self.claim_at = now + CLAIM_INTERVAL;
        let store = Arc::clone(&self.callbacks.store);
        let claim = Claim { lease: self.callbacks.config.lease(), limit: CLAIM_MAX };
        self.running.spawn(async move { Event::Claim(store.claim_callbacks(claim).await) });
    }

    fn take_claimed(&mut self, claimed: Result<Claimed, StoreError>) {
        self.is_claiming = false;
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(%error, "not known which callbacks are due");
                return;
            }
        };
        if claimed.is_full {
            self.claim_at = Instant::now();
        }
        for batch in claimed.batches {
            self.take_batch(batch);
        }
        for retry in claimed.retries {
            self.take_up(retry, None);
        }
    }

    /// What was recorded here just now.
    fn take_new(&mut self, batch: CallbackBatch) {
        self.callbacks.in_inbox.fetch_sub(batch.purchases.len(), Ordering::Relaxed);
        self.take_batch(batch);
    }

    fn take_batch(&mut self, CallbackBatch { batch_id, purchases }: CallbackBatch) {
        self.batches.insert(batch_id, purchases.len());
        for purchase in purchases {
            let tried_for = Timestamp::now().since(purchase.recorded_at.unwrap_or(purchase.timestamp));
            self.take_up(RetriedCallback { purchase, attempts: 0, tried_for, is_trial: false }, Some(batch_id));
        }
    }

    fn take_up(&mut self, taken: RetriedCallback, batch_id: Option<Uuid>) {
        let RetriedCallback { purchase, attempts, tried_for: tried_before, is_trial } = taken;
        let Some(host) = purchase.callback_url.as_ref().map(|url| Arc::from(url.host())) else {
            return self.release(batch_id);
        };
        let now = Instant::now();
        let begin_by = now + self.callbacks.config.begin_within();
        let callback =
            PendingCallback { purchase, host, attempts, tried_before, claimed_at: now, begin_by, is_trial, batch_id };
        if self.failing.is_switched_off(&callback.host) {
            return self.give_up(&callback, "its host is switched off");
        }
        match self.hosts.add(callback, now) {
            Ok(()) => {}
            Err((callback, Refused::HostFails)) => self.park(&callback),
            Err((callback, Refused::Crowded)) => self.put_off(&callback, CROWDED_PAUSE),
        }
    }

    // Attempts.

    fn begin_attempts(&mut self) {
        while self.hosts.in_flight() < self.callbacks.config.in_flight_max
            && let Some(callback) = self.hosts.next(Instant::now())
        {
            let (courier, metrics) = (Arc::clone(&self.callbacks.courier), Arc::clone(&self.callbacks.metrics));
            self.running.spawn(async move {
                let begun = Instant::now();
                let outcome = courier.deliver(&callback).await;
                let took = begun.elapsed();
                metrics.attempted(outcome.label(), took);
                Event::Attempt(Box::new(callback), outcome, took)
            });
        }
    }

    fn finish(&mut self, callback: PendingCallback, outcome: AttemptOutcome, took: Duration) {
        let now = Instant::now();
        let verdict = if outcome.is_host_at_fault() { Verdict::Failed } else { Verdict::Well };
        if let Some(waiting) = self.hosts.finish(&callback.host, verdict, now) {
            tracing::warn!(host = %callback.host, outcome = %outcome, waiting = waiting.len(), "a host of callbacks is left alone");
            waiting.iter().for_each(|one| self.park(one));
        }
        self.note_host(&callback.host, outcome, now);
        let attempts = callback.attempts + 1;
        match self.callbacks.config.schedule.after(outcome, attempts, callback.tried_for(now)) {
            Next::Delivered => {
                self.callbacks.metrics.delivered(Timestamp::now().since(callback.recorded_at()));
                if callback.batch_id.is_none() {
                    self.settlement.delivered.push(callback.purchase.purchase_id);
                }
                self.release(callback.batch_id);
            }
            Next::Retry(pause) => {
                tracing::debug!(purchase_id = %callback.purchase.purchase_id, host = %callback.host, outcome = %outcome, attempts, ?took, "callback not delivered");
                self.keep(&callback, attempts, NextTry::After(pause), outcome.to_string(), CallbackFate::Retried);
            }
            Next::Dead => {
                tracing::warn!(purchase_id = %callback.purchase.purchase_id, host = %callback.host, outcome = %outcome, attempts, "callback given up");
                self.keep(&callback, attempts, NextTry::Never, outcome.to_string(), CallbackFate::Dead);
            }
        }
    }

    fn note_host(&mut self, host: &Arc<str>, outcome: AttemptOutcome, now: Instant) {
        let store = Arc::clone(&self.callbacks.store);
        let (name, patience) = (Arc::clone(host), self.callbacks.config.schedule.patience);
        if outcome == AttemptOutcome::Delivered {
            if self.failing.note_well(host) {
                self.running.spawn(async move {
                    // If it is not written down now, another delivery does it, after the next look.
                    let _ = store.note_host_well(&name).await;
                    Event::Done
                });
            }
        } else if outcome.counts_against_host() && self.failing.is_to_be_noted(host, now) {
            let outcome = outcome.to_string();
            self.running.spawn(async move { Event::Failing(store.note_host_failed(&name, &outcome, patience).await) });
        }
    }

    /// One that was not tried is due again after `pause`.
    fn put_off(&mut self, callback: &PendingCallback, pause: Duration) {
        match self.callbacks.config.schedule.retry(pause, callback.tried_for(Instant::now())) {
            Next::Retry(pause) => self.defer(callback, NextTry::After(pause), "others wait for its host"),
            _ => self.give_up(callback, "its host did not take it in all the time"),
        }
    }

    /// One whose host fails waits until it is well.
    fn park(&mut self, callback: &PendingCallback) {
        match self.callbacks.config.schedule.left(callback.tried_for(Instant::now())) {
            Some(left) => self.defer(callback, NextTry::WhenHostIsWell(left), "its host fails"),
            None => self.give_up(callback, "its host failed in all the time"),
        }
    }

    fn defer(&mut self, callback: &PendingCallback, next: NextTry, reason: &str) {
        self.keep(callback, callback.attempts, next, reason.to_owned(), CallbackFate::Deferred);
    }

    fn give_up(&mut self, callback: &PendingCallback, reason: &str) {
        self.keep(callback, callback.attempts, NextTry::Never, reason.to_owned(), CallbackFate::Dead);
    }

    // Settlement.

    fn keep(&mut self, callback: &PendingCallback, attempts: u32, next: NextTry, outcome: String, fate: CallbackFate) {
        self.callbacks.metrics.settled(fate);
        self.settlement.failed.push(FailedCallback {
            purchase_id: callback.purchase.purchase_id,
            host: callback.host.to_string(),
            recorded_at: callback.recorded_at(),
            attempts,
            tried_for: callback.tried_for(Instant::now()),
            next,
            outcome,
        });
        self.release(callback.batch_id);
    }

    /// One of an outbox's row is settled; after the last one the row goes.
    fn release(&mut self, batch_id: Option<Uuid>) {
        let Some(batch_id) = batch_id else { return };
        if let Some(left) = self.batches.get_mut(&batch_id) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.batches.remove(&batch_id);
                self.settlement.finished_batches.push(batch_id);
            }
        }
    }

    fn begin_settlement(&mut self) {
        let now = Instant::now();
        let is_much = unsettled(&self.settlement) >= SETTLE_MAX;
        if self.settlement.is_empty() || self.is_settling || (now < self.settle_at && !is_much) {
            return;
        }
        self.is_settling = true;
        self.settle_at = now + SETTLE_INTERVAL;
        let (store, settlement) = (Arc::clone(&self.callbacks.store), std::mem::take(&mut self.settlement));
        self.running.spawn(async move {
            let written = store.settle_callbacks(&settlement).await;
            if written.is_err() {
                tokio::time::sleep(SETTLE_PAUSE).await;
            }
            Event::Settlement(settlement, written)
        });
    }

    fn take_settled(&mut self, mut settlement: Settlement, written: Result<(), StoreError>) {
        self.is_settling = false;
        if let Err(error) = written {
            tracing::warn!(%error, "not written down what became of callbacks, trying again");
            // Before what came since: a row of the outbox must not go before what is left of it is kept.
            settlement.finished_batches.append(&mut self.settlement.finished_batches);
            settlement.delivered.append(&mut self.settlement.delivered);
            settlement.failed.append(&mut self.settlement.failed);
            self.settlement = settlement;
        }
    }

    fn held(&self) -> usize {
        self.hosts.len() + unsettled(&self.settlement)
    }
}

fn unsettled(settlement: &Settlement) -> usize {
    settlement.delivered.len() + settlement.failed.len() + settlement.finished_batches.len()
}
