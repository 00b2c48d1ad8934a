//! The places of one kind of work: who has one is in flight, who finds none is refused.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

/// As many places as the limit says now. Clones share them.
#[derive(Clone, Debug)]
pub struct Places(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    max: usize,
    limit: AtomicUsize,
    taken: AtomicUsize,
    /// Of those taken, whose work is not done yet.
    at_work: AtomicUsize,
    served: AtomicU64,
    /// How long those took together, in microseconds.
    took_us: AtomicU64,
    shed: AtomicU64,
}

/// What became of work since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// How many were served.
    pub served: u64,
    /// How long those took together.
    pub took: Duration,
    /// How many were refused.
    pub shed: u64,
}

/// One place, given back on drop.
#[derive(Debug)]
pub struct Slot {
    counts: Arc<Counts>,
    taken_at: Instant,
    is_at_work: bool,
}

/// Work under way, and the place that it takes until it has ended. If nobody waits for it any more it goes on by itself: what
/// was begun is in flight, and its outcome counts, whether or not the caller has hung up.
pub struct Held<T: Send + 'static>(Option<(BoxFuture<'static, T>, Slot)>, fn(&T) -> bool);

impl Places {
    /// So many, until something else is said.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let none = || AtomicUsize::new(0);
        let [served, took_us, shed] = [(); 3].map(|()| AtomicU64::new(0));
        let (limit, taken, at_work) = (AtomicUsize::new(max), none(), none());
        Self(Arc::new(Counts { max, limit, taken, at_work, served, took_us, shed }))
    }

    /// Whether a place is free now. It may be gone a moment later.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.0.taken.load(Ordering::Relaxed) < self.limit()
    }

    /// Takes a place, if there is one.
    #[must_use]
    pub fn enter(&self) -> Option<Slot> {
        let limit = self.limit();
        let more = |taken| (taken < limit).then_some(taken + 1);
        self.0.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        self.0.at_work.fetch_add(1, Ordering::Relaxed);
        Some(Slot { counts: Arc::clone(&self.0), taken_at: Instant::now(), is_at_work: true })
    }

    /// Counts who was refused.
    pub fn count_shed(&self) {
        self.0.shed.fetch_add(1, Ordering::Relaxed);
    }

    /// Says how many there are from now on. Who has a place keeps it.
    pub fn set_limit(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// How many there are.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit.load(Ordering::Relaxed)
    }

    /// Whether there are fewer than there could be.
    #[must_use]
    pub fn is_lowered(&self) -> bool {
        self.limit() < self.0.max
    }

    /// How many do their work now.
    #[must_use]
    pub fn at_work(&self) -> usize {
        self.0.at_work.load(Ordering::Relaxed)
    }

    /// What was done since the last time that was asked.
    #[must_use]
    pub fn take_done(&self) -> Done {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let (served, took) = (take(&self.0.served), Duration::from_micros(take(&self.0.took_us)));
        Done { served, took, shed: take(&self.0.shed) }
    }
}

impl Slot {
    /// Keeps the place until `work` has ended; `is_served` says of its outcome whether it counts as served.
    pub fn hold<T: Send + 'static>(self, work: BoxFuture<'static, T>, is_served: fn(&T) -> bool) -> Held<T> {
        Held(Some((work, self)), is_served)
    }

    /// The work is done, well or not: what the place is kept for from now on takes no time of it.
    pub fn end_work(&mut self, is_served: bool) {
        if !self.is_at_work {
            return;
        }
        self.is_at_work = false;
        self.counts.at_work.fetch_sub(1, Ordering::Relaxed);
        if is_served {
            let took_us = u64::try_from(self.taken_at.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.counts.took_us.fetch_add(took_us, Ordering::Relaxed);
            self.counts.served.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.end_work(false);
        self.counts.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: Send + 'static> Future for Held<T> {
    type Output = (T, Slot);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<(T, Slot)> {
        let Some((work, _)) = &mut self.0 else { return Poll::Pending };
        let output = ready!(work.poll_unpin(context));
        let is_served = self.1(&output);
        let Some((_, mut slot)) = self.0.take() else { return Poll::Pending };
        slot.end_work(is_served);
        Poll::Ready((output, slot))
    }
}

impl<T: Send + 'static> Drop for Held<T> {
    fn drop(&mut self) {
        let is_served = self.1;
        if let (Some((work, mut slot)), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(async move {
                let output = work.await;
                slot.end_work(is_served(&output));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn a_place_that_is_given_back_is_free_again() {
        let places = Places::new(1);
        let slot = places.enter();
        assert!(slot.is_some());
        assert!(!places.has_room() && places.enter().is_none());
        drop(slot);
        assert!(places.has_room() && places.enter().is_some());
        assert_eq!(places.take_done(), Done::default(), "nobody said that anything was served");
    }

    #[test]
    fn who_has_a_place_keeps_it_when_there_are_fewer() {
        let places = Places::new(3);
        let mut slots: Vec<_> = std::iter::from_fn(|| places.enter()).collect();
        assert_eq!(slots.len(), 3);
        places.set_limit(1);
        assert!(places.is_lowered());
        for left in [2, 1] {
            assert!(places.enter().is_none());
            slots.pop();
            assert_eq!(places.at_work(), left);
        }
        slots.pop();
        assert!(places.enter().is_some());
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_goes_on_and_keeps_its_place() {
        let places = Places::new(1);
        let ((report, reported), (end, ended)) = (oneshot::channel(), oneshot::channel());
        let work = async move {
            let _ = reported.await;
            let _ = end.send(());
        };
        let held = places.enter().map(|slot| slot.hold(Box::pin(work), |()| true));
        drop(held);
        assert!(places.enter().is_none(), "still in flight");
        report.send(()).unwrap();
        ended.await.unwrap();
        while places.enter().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(places.take_done().served, 1);
    }

    #[tokio::test]
    async fn what_was_served_is_told_with_its_time_and_once() {
        let places = Places::new(2);
        let work = |seconds| async move { tokio::time::sleep(Duration::from_millis(seconds)).await };
        for is_served in [(|()| true) as fn(&()) -> bool, |()| false] {
            places.enter().unwrap().hold(Box::pin(work(30)), is_served).await;
        }
        places.count_shed();
        let Done { served, took, shed } = places.take_done();
        assert_eq!((served, shed), (1, 1));
        assert!(took >= Duration::from_millis(30), "{took:?}");
        assert_eq!(places.take_done(), Done::default());
    }

    #[tokio::test]
    async fn who_waits_gets_the_outcome_and_the_place() {
        let places = Places::new(1);
        let (outcome, slot) = places.enter().unwrap().hold(Box::pin(async { 7 }), |outcome| *outcome == 7).await;
        assert_eq!(outcome, 7);
        assert_eq!((places.at_work(), places.take_done().served), (0, 1), "what it is kept for now is no work");
        assert!(places.enter().is_none());
        drop(slot);
        assert!(places.enter().is_some());
    }
}
