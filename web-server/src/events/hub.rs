//! All who listen, and until where in the log they have been told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::commits::{CommitPage, CommitPosition};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::Event;
use super::listeners::{Found, Listener, Listeners, Topic};

/// All who listen.
pub(super) struct Hub {
    state: Mutex<State>,
    /// Somebody wants to listen.
    pub(super) wanted: Notify,
    /// Somebody comes back.
    pub(super) returned: Notify,
    /// Changes when it becomes known where the log stands.
    begun: watch::Sender<()>,
    numbers: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Until where all who listen have been told; nothing while nobody does.
    position: Option<CommitPosition>,
    listeners: Listeners,
    returning: Vec<Returning>,
    /// Who wants to listen, or to be told what it has missed, and is not among the others yet.
    pending: usize,
}

/// Somebody who comes back with the position until which it was told, to be told what came after that.
pub(super) struct Returning {
    pub(super) topic: Topic,
    pub(super) position: CommitPosition,
    pub(super) listener: Listener,
}

/// Has the log followed for somebody who does not listen yet, as long as it is there.
pub(super) struct Pending<'a>(&'a Hub);

impl Default for Hub {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            wanted: Notify::new(),
            returned: Notify::new(),
            begun: watch::channel(()).0,
            numbers: AtomicU64::new(0),
        }
    }
}

impl Hub {
    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets somebody listen as soon as it is known where the log stands.
    pub(super) async fn enter(&self, topic: Topic, mut listener: Listener, after: Option<CommitPosition>) {
        let mut begun = self.begun.subscribe();
        let _pending = self.pend();
        while self.lock().position.is_none() {
            self.wanted.notify_one();
            // The sender is here: it cannot be gone.
            let _ = begun.changed().await;
        }
        let mut state = self.lock();
        let Some(position) = &state.position else { return };
        if let Some(position) = after {
            state.returning.push(Returning { topic, position, listener });
            self.returned.notify_one();
        } else {
            listener.tell(Event::Reached(Arc::new(position.clone())));
            state.listeners.add(topic, listener);
        }
    }

    /// Somebody listens no more.
    pub(super) fn leave(&self, topic: Topic, number: u64) {
        let mut state = self.lock();
        state.listeners.remove(topic, number);
        state.returning.retain(|returning| returning.listener.number != number);
    }

    /// Keeps the log followed.
    pub(super) fn pend(&self) -> Pending<'_> {
        self.lock().pending += 1;
        Pending(self)
    }

    /// Whether anybody listens. If nobody does, it need not be known any more where the log stands.
    pub(super) fn is_wanted(&self) -> bool {
        let mut state = self.lock();
        let is_wanted = state.pending > 0 || !state.returning.is_empty() || !state.listeners.is_empty();
        if !is_wanted {
            state.position = None;
        }
        is_wanted
    }

    /// Until where all have been told; nothing while that is not known.
    pub(super) fn position(&self) -> Option<CommitPosition> {
        self.lock().position.clone()
    }

    /// It has become known where the log stands.
    pub(super) fn begin(&self, position: CommitPosition) {
        self.lock().position.get_or_insert(position);
        self.begun.send_replace(());
    }

    /// Tells all who listen what comes next, if all that they want of it is `found`; else gives what is wanted besides.
    pub(super) fn tell(&self, page: &CommitPage, found: &Found) -> Result<(), Vec<Uuid>> {
        let mut state = self.lock();
        let State { position, listeners, .. } = &mut *state;
        let wanted = listeners.wanted(page, found);
        let Some(position) = position.as_mut().filter(|_| wanted.is_empty()) else { return Err(wanted) };
        listeners.tell(page, found, position);
        Ok(())
    }

    /// Tells all who listen until where nothing was missed: who hears of nothing else for long would come from a position that is
    /// no longer served.
    pub(super) fn tell_position(&self) {
        let mut state = self.lock();
        let State { position: Some(position), listeners, .. } = &mut *state else { return };
        listeners.tell_position(position);
    }

    /// Those who come back.
    pub(super) fn take_returning(&self) -> Vec<Returning> {
        std::mem::take(&mut self.lock().returning)
    }

    /// Lets those who have been told until `position` listen with the others, if the others have not been told more. Gives those of
    /// several who say that they have been told more than that: whether there is so much is to be looked at for each.
    pub(super) fn merge(&self, returned: &mut Listeners, position: &CommitPosition) -> Option<Vec<Returning>> {
        let mut state = self.lock();
        if !state.position.as_ref().is_some_and(|all| all.is_reached_by(position)) {
            return None;
        }
        let (mut doubtful, is_alone) = (Vec::new(), returned.len() == 1);
        for (topic, mut listener) in returned.drain() {
            let own = listener.position(position);
            if !is_alone && !own.is_reached_by(position) {
                doubtful.push(Returning { topic, position: own, listener });
            } else if listener.tell(Event::Reached(Arc::new(own.clone()))) {
                listener.ahead = Some(Box::new(own));
                state.listeners.add(topic, listener);
            }
        }
        Some(doubtful)
    }

    /// Lets those who come from another log listen with the others, and tells them so.
    pub(super) fn reset(&self, returning: Vec<Returning>) {
        let mut state = self.lock();
        let State { position: Some(position), listeners, .. } = &mut *state else { return };
        let position = Arc::new(position.clone());
        for Returning { topic, mut listener, .. } in returning {
            if listener.tell(Event::Reset(Arc::clone(&position))) {
                listeners.add(topic, listener);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.lock().pending -= 1;
    }
}
