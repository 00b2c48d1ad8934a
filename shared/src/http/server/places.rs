//! The connections that are open, and who must go when another comes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::activity::{Activity, Order};
use crate::http::budget::{ByteBudget, BytePermit, Purpose};
use crate::metrics::Gauge;

/// What an idle connection costs: its task, its place here, and the kernel's part, which counts against a pod's limit too.
const IDLE_BYTES: usize = 4 * 1024;
/// A connection that was used a moment ago is not closed for another: its next request may be on its way.
const UNUSED_MIN: Duration = Duration::from_millis(250);
/// How often one who waits for a place looks again, if nobody leaves.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Every open connection of a listener.
pub(super) struct Places {
    start: Instant,
    max: usize,
    budget: ByteBudget,
    open: Mutex<HashMap<u64, Arc<Activity>>>,
    next: AtomicU64,
    gauge: Gauge,
    left: Notify,
}

/// One connection's place, given back on drop.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    pub(super) activity: Arc<Activity>,
    _permit: BytePermit,
}

impl Places {
    pub(super) fn new(max: usize, budget: ByteBudget, gauge: Gauge) -> Arc<Self> {
        let (open, next, left) = (Mutex::default(), AtomicU64::new(0), Notify::new());
        Arc::new(Self { start: Instant::now(), max, budget, open, next, gauge, left })
    }

    /// A place for a new connection. When there is none, the connection that has been of no use for the longest time makes room;
    /// when all are of use, this waits.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        loop {
            // Before the look, so that nobody leaves unnoticed between it and the wait.
            let left = self.left.notified();
            if let Some(place) = self.try_take() {
                return place;
            }
            self.make_room();
            let _ = tokio::time::timeout(LOOK_AGAIN, left).await;
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Place> {
        let mut open = self.open();
        if open.len() >= self.max {
            return None;
        }
        let permit = self.budget.take_for(Purpose::Connection, IDLE_BYTES)?;
        let activity = Arc::new(Activity::new(self.start));
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        open.insert(number, Arc::clone(&activity));
        drop(open);
        self.gauge.increment(1.0);
        Some(Place { places: Arc::clone(self), number, activity, _permit: permit })
    }

    /// Has the connection closed that has been of no use for the longest time.
    pub(super) fn make_room(&self) {
        let open = self.open();
        let unused = open.values().filter(|activity| activity.order() == Order::None);
        let unused = unused.filter_map(|activity| Some((activity.unused_since()?, activity)));
        let Some((since, longest)) = unused.min_by_key(|(since, _)| *since) else { return };
        if longest.age(since) >= UNUSED_MIN {
            longest.tell(Order::MakeRoom);
        }
    }

    /// Tells all connections something.
    pub(super) fn tell_all(&self, order: Order) {
        self.open().values().for_each(|activity| activity.tell(order));
    }

    /// Waits until no connection is open.
    pub(super) async fn all_left(&self) {
        loop {
            let left = self.left.notified();
            if self.open().is_empty() {
                return;
            }
            left.await;
        }
    }

    /// How many requests are being answered. An answer that the caller does not read is its own affair.
    pub(super) fn serving(&self) -> usize {
        let serving = |activity: &&Arc<Activity>| activity.unused_since().is_none() && activity.blocked_for().is_none();
        self.open().values().filter(serving).count()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Activity>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Asks for room, as a new connection does.
    pub(super) fn make_room(&self) {
        self.places.make_room();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.open().remove(&self.number);
        self.places.gauge.decrement(1.0);
        self.places.left.notify_waiters();
    }
}
