//! Takes up what is due, delivers it, and sees to it that what became of it is written down. All that it knows is in the database too:
//! whatever happens to it, somebody takes up the rest when its claims end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::callbacks::FailingHost;
use shared::shutdown::Shutdown;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};
use uuid::Uuid;

use super::Callbacks;
use super::breaker::Verdict;
use super::failing::{self, FailingHosts};
use super::hosts::{Hosts, Refused};
use super::pending::PendingCallback;
use super::schedule::Next;
use super::sending::AttemptOutcome;
use super::settling::Settling;
use crate::metrics::CallbackFate;
use crate::store::{CallbackBatch, Claim, Claimed, NextTry, Settlement, StoreError};

/// How often the database is asked for what is due.
const CLAIM_INTERVAL: Duration = Duration::from_secs(1);
/// The most callbacks that are taken up at once.
const CLAIM_MAX: u32 = 1_000;
/// How often late ones are looked for.
const TICK: Duration = Duration::from_millis(500);
/// How long the end may take once nothing more is recorded: others take over what is left.
const END_MAX: Duration = Duration::from_secs(2);
/// How often it is looked, at the end, whether more has come.
const END_INTERVAL: Duration = Duration::from_millis(10);
/// The longest time for which a host that asks for it is left alone.
const HOLD_MAX: Duration = Duration::from_hours(1);

/// Something has ended.
enum Event {
    Attempt(Uuid, AttemptOutcome),
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
    settling: Settling,
    in_flight: HashMap<Uuid, Arc<PendingCallback>>,
    running: JoinSet<Event>,
    is_claiming: bool,
    claim_at: Instant,
}

impl<'a> Dispatcher<'a> {
    pub(super) fn new(callbacks: &'a Callbacks) -> Self {
        let now = Instant::now();
        Self {
            callbacks,
            hosts: Hosts::new(callbacks.config.in_flight_max, callbacks.config.in_flight_per_host_max),
            failing: FailingHosts::default(),
            settling: Settling::new(now),
            in_flight: HashMap::new(),
            running: JoinSet::new(),
            is_claiming: false,
            claim_at: now,
        }
    }

    /// Delivers until the shutdown; then what is on its way may end, and the rest is given back.
    pub(super) async fn run(&mut self, inbox: &mut UnboundedReceiver<CallbackBatch>, shutdown: &Shutdown) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !shutdown.is_stopped() {
            self.begin_attempts();
            self.callbacks.held.store(self.hosts.len() + self.settling.len(), Ordering::Relaxed);
            self.begin_claim();
            self.begin_settlement(false);
            let settle_at = self.settling.due_at();
            tokio::select! {
                Some(ended) = self.running.join_next() => self.take(ended),
                Some(batch) = inbox.recv() => self.take_new(batch),
                () = sleep_until(settle_at.unwrap_or_else(Instant::now)), if settle_at.is_some() => {}
                _ = tick.tick() => self.tick(),
                () = shutdown.stopped() => {}
            }
        }
        self.end(inbox).await;
    }

    /// What waits, and what is still recorded, is due at once, for others.
    async fn end(&mut self, inbox: &mut UnboundedReceiver<CallbackBatch>) {
        let mut until = None;
        loop {
            while let Ok(batch) = inbox.try_recv() {
                self.take_new(batch);
            }
            for callback in self.hosts.take_all() {
                self.put_off(&callback, Duration::ZERO);
            }
            if self.callbacks.is_closed.is_cancelled() && until.is_none() {
                until = Some(Instant::now() + END_MAX);
            }
            if until.is_some_and(|until| until <= Instant::now()) {
                self.leave_to_others();
            }
            self.begin_settlement(true);
            if until.is_some() && self.in_flight.is_empty() && !self.settling.is_busy() {
                return;
            }
            let deadline = until.unwrap_or_else(|| Instant::now() + TICK);
            match timeout_at(deadline, self.running.join_next()).await {
                Ok(Some(ended)) => self.take(ended),
                // Nothing runs: it is waited for what is still recorded, or for the database.
                Ok(None) => tokio::time::sleep(END_INTERVAL).await,
                Err(_) => {}
            }
        }
    }

    /// What is on its way still is tried again by others, once its attempt here is certainly over.
    fn leave_to_others(&mut self) {
        let pause = self.callbacks.config.attempt_timeout;
        for callback in std::mem::take(&mut self.in_flight).into_values() {
            self.put_off(&callback, pause);
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        for callback in self.hosts.take_late(now) {
            self.put_off(&callback, Duration::ZERO);
        }
        self.callbacks.metrics.set_in_flight(self.in_flight.len());
        if self.failing.begins_refresh(now) {
            let store = Arc::clone(&self.callbacks.store);
            self.running.spawn(async move { Event::Hosts(failing::list(&*store).await) });
        }
    }

    fn take(&mut self, ended: Result<Event, JoinError>) {
        let event = match ended {
            Ok(event) => event,
            // Whoever looks after this task begins it anew; the claims end, and nothing is lost.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return,
        };
        match event {
            Event::Attempt(purchase_id, outcome) => {
                if let Some(callback) = self.in_flight.remove(&purchase_id) {
                    self.finish(&callback, outcome);
                }
            }
            Event::Claim(claimed) => self.take_claimed(claimed),
            Event::Settlement(settlement, written) => self.settling.end(settlement, written, Instant::now()),
            Event::Failing(Ok(host)) => self.failing.note(&host),
            Event::Failing(Err(error)) => tracing::debug!(%error, "not noted that a host of callbacks fails"),
            Event::Hosts(hosts) => self.failing.refresh(hosts),
            Event::Done => {}
        }
    }

    fn begin_claim(&mut self) {
        let now = Instant::now();
        let has_room = self.callbacks.room() >= CLAIM_MAX as usize;
        if self.is_claiming || !self.failing.is_known() || now < self.claim_at || !has_room {
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
            let is_off = retry.is_host_off;
            let callback = PendingCallback::again(retry, self.callbacks.config.begin_within());
            if is_off {
                self.give_up(&callback, "its host is switched off");
            } else {
                // What is known here may be older than what the database has just said.
                self.failing.note_on(&callback.host);
                self.take_up(callback);
            }
        }
    }

    /// What was recorded here just now.
    fn take_new(&mut self, batch: CallbackBatch) {
        self.callbacks.in_inbox.fetch_sub(batch.purchases.len(), Ordering::Relaxed);
        self.take_batch(batch);
    }

    fn take_batch(&mut self, CallbackBatch { batch_id, purchases }: CallbackBatch) {
        self.settling.expect(batch_id, purchases.len());
        for purchase in purchases {
            let callback = PendingCallback::new(purchase, batch_id, self.callbacks.config.begin_within());
            if self.failing.is_switched_off(&callback.host) {
                // Maybe not any more: whoever takes it from the database is told.
                self.defer(&callback, NextTry::After(Duration::ZERO), "its host was switched off");
            } else {
                self.take_up(callback);
            }
        }
    }

    fn take_up(&mut self, callback: PendingCallback) {
        match self.hosts.add(callback, Instant::now()) {
            Ok(()) => {}
            Err(refused) => self.park(&refused.0, refused.1),
        }
    }

    fn begin_attempts(&mut self) {
        while let Some(callback) = self.hosts.next(Instant::now()) {
            let callback = Arc::new(callback);
            self.in_flight.insert(callback.purchase.purchase_id, Arc::clone(&callback));
            let (courier, metrics) = (Arc::clone(&self.callbacks.courier), Arc::clone(&self.callbacks.metrics));
            self.running.spawn(async move {
                let begun = Instant::now();
                let outcome = courier.deliver(&callback).await;
                metrics.attempted(outcome.label(), begun.elapsed());
                Event::Attempt(callback.purchase.purchase_id, outcome)
            });
        }
    }

    fn finish(&mut self, callback: &PendingCallback, outcome: AttemptOutcome) {
        let now = Instant::now();
        let hold = outcome.retry_after().map(|pause| pause.min(HOLD_MAX));
        let verdict = match hold {
            Some(hold) if outcome.is_host_at_fault() => Verdict::Hold(hold),
            None if outcome.is_host_at_fault() => Verdict::Failed,
            _ if outcome.is_answer() => Verdict::Well,
            _ => Verdict::Unknown,
        };
        if let Some(waiting) = self.hosts.finish(&callback.host, verdict, now) {
            tracing::warn!(host = %callback.host, outcome = %outcome, waiting = waiting.len(), "a host of callbacks is left alone");
            for one in &waiting {
                self.park(one, Refused::HostFails);
            }
        }
        self.note_host(callback, outcome, hold, now);
        let attempts = callback.attempts + 1;
        let next = self.callbacks.config.schedule.after(outcome, attempts, callback.tried_for(now));
        if next == Next::Delivered {
            self.callbacks.metrics.delivered(callback.since_recorded());
            return self.settling.delivered(callback);
        }
        let (id, host) = (callback.purchase.purchase_id, &callback.host);
        let (next, fate) = match next {
            Next::Retry(pause) => (NextTry::After(pause), CallbackFate::Retried),
            Next::Delivered | Next::Dead => (NextTry::Never, CallbackFate::Dead),
        };
        tracing::debug!(purchase_id = %id, %host, outcome = %outcome, attempts, fate = ?fate, "callback not delivered");
        self.callbacks.metrics.settled(fate);
        self.settling.failed(callback, attempts, next, outcome.to_string());
    }

    fn note_host(&mut self, callback: &PendingCallback, outcome: AttemptOutcome, hold: Option<Duration>, now: Instant) {
        let (store, name) = (Arc::clone(&self.callbacks.store), Arc::clone(&callback.host));
        if outcome == AttemptOutcome::Delivered {
            // Another replica may have seen it fail: then this one was tried before.
            if self.failing.note_well(&callback.host) || callback.attempts > 0 || callback.is_host_known {
                self.running.spawn(async move {
                    // If it is not written down now, another delivery does it, after the next look.
                    let _ = store.note_host_well(&name).await;
                    Event::Done
                });
            }
        } else if outcome.counts_against_host() && (hold.is_some() || self.failing.is_to_be_noted(&callback.host, now))
        {
            let (outcome, patience) = (outcome.to_string(), self.callbacks.config.schedule.patience);
            let hold = hold.unwrap_or_default();
            self.running
                .spawn(async move { Event::Failing(store.note_host_failed(&name, &outcome, patience, hold).await) });
        }
    }

    /// One that was not tried is due again after `pause`.
    fn put_off(&mut self, callback: &PendingCallback, pause: Duration) {
        self.defer(callback, NextTry::After(pause), "others wait for its host");
    }

    /// One that its host cannot take now waits until it can.
    fn park(&mut self, callback: &PendingCallback, reason: Refused) {
        match self.callbacks.config.schedule.left(callback.tried_for(Instant::now())) {
            Some(left) => {
                let next = NextTry::WhenHostIsWell { for_at_most: left, is_well: reason == Refused::Crowded };
                self.defer(callback, next, reason.text());
            }
            None => self.give_up(callback, "its host did not take it in all the time"),
        }
    }

    fn defer(&mut self, callback: &PendingCallback, next: NextTry, reason: &str) {
        self.callbacks.metrics.settled(CallbackFate::Deferred);
        self.settling.failed(callback, callback.attempts, next, reason.to_owned());
    }

    fn give_up(&mut self, callback: &PendingCallback, reason: &str) {
        self.callbacks.metrics.settled(CallbackFate::Dead);
        self.settling.failed(callback, callback.attempts, NextTry::Never, reason.to_owned());
    }

    fn begin_settlement(&mut self, is_end: bool) {
        if let Some(settlement) = self.settling.begin(Instant::now(), is_end) {
            let store = Arc::clone(&self.callbacks.store);
            self.running.spawn(async move {
                let written = store.settle_callbacks(&settlement).await;
                Event::Settlement(settlement, written)
            });
        }
    }
}
