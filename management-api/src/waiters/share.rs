//! One share of those who wait: its places, and who waits for which purchase.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::event::Purchase;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc};
use uuid::Uuid;

use crate::store::{Reading, Recorded};

/// How often the database is asked for purchases that another replica may have recorded.
const TICK: Duration = Duration::from_millis(50);
/// Purchases asked for in one query; more wait for the next tick.
const QUERY_MAX: usize = 1000;

/// A waiter holds its ids and, for a moment, their purchases; places bound both. The cost of a tick is one query, however many
/// wait.
pub(super) struct Share {
    /// One for each purchase that somebody waits for.
    places: Semaphore,
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

impl Share {
    /// With so many places.
    pub(super) fn new(places: usize) -> Self {
        Self { places: Semaphore::new(places), waiting: Mutex::default(), look: Notify::new() }
    }

    /// The purchases among `ids` that are recorded by the end of `wait`; nothing when there are not as many places.
    pub(super) async fn wait(&self, ids: &[Uuid], wait: Duration) -> Option<Vec<Purchase>> {
        let deadline = tokio::time::Instant::now() + wait;
        let mut registration = self.register(ids)?;
        let mut found = Vec::with_capacity(registration.ids.len());
        while found.len() < registration.ids.len() {
            match tokio::time::timeout_at(deadline, registration.answers.recv()).await {
                Ok(Some(purchase)) => found.push(purchase),
                Ok(None) | Err(_) => break,
            }
        }
        Some(found)
    }

    fn register(&self, ids: &[Uuid]) -> Option<Registration<'_>> {
        let (sender, answers) = mpsc::unbounded_channel();
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let places = self.places.try_acquire_many(u32::try_from(ids.len()).ok()?).ok()?;
        let mut waiting = self.lock();
        if !waiting.closed {
            for id in &ids {
                waiting.by_id.entry(*id).or_default().push(sender.clone());
            }
        }
        self.look.notify_one();
        Some(Registration { share: self, ids, answers, _places: places })
    }

    /// A batch was committed here: whoever waits for one of its purchases gets it.
    pub(super) fn wake(&self, purchases: &[Purchase], recorded: &Recorded) {
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

    /// Looks up what others recorded, for ever.
    pub(super) async fn serve(&self, store: &dyn Reading) {
        let mut last = Uuid::nil();
        loop {
            let began = Instant::now();
            let ids = self.next_ids(last);
            match ids.last() {
                None => self.look.notified().await,
                Some(id) => {
                    last = if ids.len() < QUERY_MAX { Uuid::nil() } else { *id };
                    self.look_up(store, &ids).await;
                }
            }
            tokio::time::sleep(TICK.saturating_sub(began.elapsed())).await;
        }
    }

    /// Ends every wait; nobody is kept waiting from now on.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.by_id.clear();
    }

    /// The next ids to ask for, in turn, so that none starves.
    fn next_ids(&self, after: Uuid) -> Vec<Uuid> {
        let mut ids: Vec<Uuid> = self.lock().by_id.keys().copied().filter(|id| *id > after).collect();
        ids.sort_unstable();
        ids.truncate(QUERY_MAX);
        ids
    }

    async fn look_up(&self, store: &dyn Reading, ids: &[Uuid]) {
        match store.find_purchases(ids).await {
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
    share: &'a Share,
    ids: Vec<Uuid>,
    answers: mpsc::UnboundedReceiver<Purchase>,
    _places: SemaphorePermit<'a>,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.answers.close();
        let mut waiting = self.share.lock();
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
