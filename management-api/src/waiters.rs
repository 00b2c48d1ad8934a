//! Callers that wait for a purchase to be recorded, by whichever replica.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::event::Purchase;
use shared::shutdown::Shutdown;
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use crate::store::{Recorded, Store};

/// How often the database is asked for purchases that another replica may have recorded.
const TICK: Duration = Duration::from_millis(50);
/// Purchases asked for in one query; more wait for the next tick.
const QUERY_MAX: usize = 1000;

/// Who waits for what. The cost of a tick is one query, however many wait.
pub struct Waiters {
    store: Arc<dyn Store>,
    waiting: Mutex<Waiting>,
    look: Notify,
}

#[derive(Default)]
struct Waiting {
    by_id: HashMap<Uuid, Vec<Waiter>>,
    /// Nobody is served any more.
    closed: bool,
}

type Waiter = mpsc::UnboundedSender<Purchase>;

impl Waiters {
    /// Nobody waits.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { store, waiting: Mutex::default(), look: Notify::new() })
    }

    /// The purchases among `ids` that are recorded by the end of `wait`, or of the service; comes back as soon as all are.
    pub async fn wait(&self, ids: &[Uuid], wait: Duration) -> Vec<Purchase> {
        let deadline = tokio::time::Instant::now() + wait;
        let mut registration = self.register(ids);
        let mut found = Vec::with_capacity(registration.ids.len());
        while found.len() < registration.ids.len() {
            match tokio::time::timeout_at(deadline, registration.answers.recv()).await {
                Ok(Some(purchase)) => found.push(purchase),
                Ok(None) | Err(_) => break,
            }
        }
        found
    }

    fn register(&self, ids: &[Uuid]) -> Registration<'_> {
        let (sender, answers) = mpsc::unbounded_channel();
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let mut waiting = self.lock();
        if !waiting.closed {
            for id in &ids {
                waiting.by_id.entry(*id).or_default().push(sender.clone());
            }
        }
        self.look.notify_one();
        Registration { waiters: self, ids, answers }
    }

    /// A batch was committed here: whoever waits for one of its purchases gets it.
    pub fn wake(&self, purchases: &[Purchase], recorded: &Recorded) {
        let mut waiting = self.lock();
        if waiting.by_id.is_empty() {
            return;
        }
        if recorded.duplicates > 0 {
            // The first recorded stays: what is stored may have another timestamp than what was in the batch.
            self.look.notify_one();
            return;
        }
        for purchase in purchases {
            if let Some(waiters) = waiting.by_id.remove(&purchase.purchase_id) {
                let purchase = Purchase { recorded_at: Some(recorded.recorded_at), ..purchase.clone() };
                answer(waiters, &purchase);
            }
        }
    }

    /// Asks the database for what others recorded, once a tick while anybody waits, until the shutdown. Then nobody is
    /// kept waiting: whoever asks again finds another replica.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        tokio::select! { () = self.serve() => {}, () = shutdown.stopped() => {} }
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.by_id.clear();
    }

    async fn serve(&self) {
        let mut last = Uuid::nil();
        loop {
            let began = Instant::now();
            let ids = self.next_ids(last);
            match ids.last() {
                None => self.look.notified().await,
                Some(id) => {
                    last = if ids.len() < QUERY_MAX { Uuid::nil() } else { *id };
                    self.look_up(&ids).await;
                }
            }
            tokio::time::sleep(TICK.saturating_sub(began.elapsed())).await;
        }
    }

    /// The next ids to ask for, in turn, so that none starves.
    fn next_ids(&self, after: Uuid) -> Vec<Uuid> {
        let mut ids: Vec<Uuid> = self.lock().by_id.keys().copied().filter(|id| *id > after).collect();
        ids.sort_unstable();
        ids.truncate(QUERY_MAX);
        ids
    }

    async fn look_up(&self, ids: &[Uuid]) {
        match self.store.find_purchases(ids).await {
            Ok(purchases) => {
                let mut waiting = self.lock();
                for purchase in &purchases {
                    if let Some(waiters) = waiting.by_id.remove(&purchase.purchase_id) {
                        answer(waiters, purchase);
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "waiters cannot be served yet"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(waiters: Vec<Waiter>, purchase: &Purchase) {
    for waiter in waiters {
        // A waiter that is gone has passed its deadline.
        let _ = waiter.send(purchase.clone());
    }
}

/// Takes a caller's entries away when it stops waiting.
struct Registration<'a> {
    waiters: &'a Waiters,
    ids: Vec<Uuid>,
    answers: mpsc::UnboundedReceiver<Purchase>,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.answers.close();
        let mut waiting = self.waiters.lock();
        for id in &self.ids {
            if let Some(waiters) = waiting.by_id.get_mut(id) {
                waiters.retain(|waiter| !waiter.is_closed());
                if waiters.is_empty() {
                    waiting.by_id.remove(id);
                }
            }
        }
    }
}
