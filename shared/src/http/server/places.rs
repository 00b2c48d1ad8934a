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
/// What TLS adds to it: its keys and its state.
const TLS_IDLE_BYTES: usize = 12 * 1024;
/// A connection that was used a moment ago is not closed for another: its next request may be on its way.
const UNUSED_MIN: Duration = Duration::from_millis(250);
/// How often one who waits for a place asks for it again.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long is waited for connections of no use to make room. Then there is none.
pub(super) const LEAVE_TIME: Duration = Duration::from_millis(400);

/// Every open connection of a listener.
pub(super) struct Places {
    start: Instant,
    max: usize,
    /// What each costs while it is idle.
    idle_bytes: usize,
    budget: ByteBudget,
    open: Mutex<Open>,
    next: AtomicU64,
    gauge: Gauge,
    left: Notify,
}

/// The connections, by number.
#[derive(Default)]
struct Open {
    /// Those that are served.
    served: HashMap<u64, Arc<Activity>>,
    /// Those that are refused: they take nobody's place.
    refused: HashMap<u64, Arc<Activity>>,
}

impl Open {
    fn all(&self) -> impl Iterator<Item = &Arc<Activity>> {
        self.served.values().chain(self.refused.values())
    }
}

/// One connection's place, given back on drop.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    pub(super) activity: Arc<Activity>,
    /// Taken from the reserve: there is no room for its requests, but to refuse them.
    pub(super) is_crowded: bool,
    permit: Option<BytePermit>,
}

impl Places {
    pub(super) fn new(max: usize, encrypted: bool, budget: ByteBudget, gauge: Gauge) -> Arc<Self> {
        let idle_bytes = IDLE_BYTES + if encrypted { TLS_IDLE_BYTES } else { 0 };
        let (open, next, left) = (Mutex::default(), AtomicU64::new(0), Notify::new());
        Arc::new(Self { start: Instant::now(), max, idle_bytes, budget, open, next, gauge, left })
    }

    /// A place for a new connection, if there is one.
    pub(super) fn try_take(self: &Arc<Self>) -> Option<Place> {
        self.take_of(Purpose::Connection)
    }

    /// A place for a new connection. When there is none, the connection that has been of no use for the longest time makes room;
    /// when all are of use, it is one to be refused at; when there is not even that, this waits.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        let (began, mut asked) = (Instant::now(), None::<Instant>);
        let mut may_leave = true;
        loop {
            // Before the look, so that nobody leaves unnoticed between it and the wait.
            let left = self.left.notified();
            if let Some(place) = self.try_take() {
                return place;
            }
            // Not at each leave: others wait too, and each asks for one.
            if asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN) {
                may_leave = self.make_room(self.idle_bytes, None);
                asked = Some(Instant::now());
            }
            if (!may_leave || began.elapsed() >= LEAVE_TIME)
                && let Some(place) = self.take_of(Purpose::Reserve)
            {
                return place;
            }
            let _ = tokio::time::timeout(ASK_AGAIN, left).await;
        }
    }

    fn take_of(self: &Arc<Self>, purpose: Purpose) -> Option<Place> {
        let is_crowded = purpose == Purpose::Reserve;
        let mut open = self.open();
        if open.served.len() >= self.max && !is_crowded {
            return None;
        }
        let permit = Some(self.budget.take_for(purpose, self.idle_bytes)?);
        let activity = Arc::new(Activity::new(self.start));
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let places = if is_crowded { &mut open.refused } else { &mut open.served };
        places.insert(number, Arc::clone(&activity));
        drop(open);
        self.gauge.increment(1.0);
        Some(Place { places: Arc::clone(self), number, activity, is_crowded, permit })
    }

    /// Has those connections closed that have been of no use for the longest time, as many as hold so many bytes, but for one
    /// that asks for itself. Says whether any is of no use, now or in a moment.
    pub(super) fn make_room(&self, bytes: usize, but: Option<u64>) -> bool {
        let open = self.open();
        let others = open.served.iter().filter(|(number, _)| Some(**number) != but);
        let unused: Vec<_> = others.filter_map(|(_, activity)| Some((activity.unused_since()?, activity))).collect();
        let may_leave = |(since, activity): &&(u64, &Arc<Activity>)| {
            activity.order() == Order::None && activity.age(*since) >= UNUSED_MIN
        };
        let mut longest: Vec<_> = unused.iter().filter(may_leave).collect();
        let wanted = bytes.div_ceil(self.idle_bytes).min(longest.len());
        if wanted < longest.len() {
            longest.select_nth_unstable_by_key(wanted, |(since, _)| *since);
        }
        longest[..wanted].iter().for_each(|(_, activity)| activity.tell(Order::MakeRoom));
        !unused.is_empty()
    }

    /// Waits until somebody leaves, at most until it is time to look again.
    async fn somebody_left(&self) {
        let _ = tokio::time::timeout(ASK_AGAIN, self.left.notified()).await;
    }

    /// Tells all connections something.
    pub(super) fn tell_all(&self, order: Order) {
        self.open().all().for_each(|activity| activity.tell(order));
    }

    /// Waits until no connection is open.
    pub(super) async fn all_left(&self) {
        loop {
            let left = self.left.notified();
            if self.open().all().next().is_none() {
                return;
            }
            left.await;
        }
    }

    /// How many requests are being answered. An answer that the caller does not read is its own affair.
    pub(super) fn serving(&self) -> usize {
        let serving = |activity: &&Arc<Activity>| activity.unused_since().is_none() && activity.blocked_for().is_none();
        self.open().all().filter(serving).count()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Asks others for room of so many bytes; says whether any may leave for it.
    pub(super) fn make_room(&self, bytes: usize) -> bool {
        self.places.make_room(bytes, Some(self.number))
    }

    /// Waits until somebody leaves, at most until it is time to look again.
    pub(super) async fn somebody_left(&self) {
        self.places.somebody_left().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.open();
        let places = if self.is_crowded { &mut open.refused } else { &mut open.served };
        places.remove(&self.number);
        drop(open);
        // Before anybody is told: who is woken finds the room.
        self.permit = None;
        self.places.gauge.decrement(1.0);
        self.places.left.notify_waiters();
    }
}
