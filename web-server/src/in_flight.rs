//! How many requests are handled at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use shared::config::Settings;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many requests are handled at once; more are refused.
#[derive(Clone, Copy, Debug)]
pub struct InFlightConfig {
    /// Purchases.
    pub purchases: usize,
    /// Batches; each may hold 8 MiB.
    pub batches: usize,
}

impl InFlightConfig {
    /// Reads the settings; mistakes are kept in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        Self {
            purchases: settings.size("IN_FLIGHT_MAX", 4096, 1..=1_000_000, "purchase requests handled at once"),
            batches: settings.size("BATCHES_IN_FLIGHT_MAX", 32, 1..=10_000, "batch requests handled at once"),
        }
    }
}

/// A limit that refuses instead of letting wait. Clones share one count.
#[derive(Clone, Debug)]
pub struct InFlightLimit(Arc<Semaphore>);

/// One place under the limit, given back on drop.
#[derive(Debug)]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
}

/// Work under way, and the place that it takes until it has ended. If nobody waits for it any more it goes on by itself: what
/// was begun is in flight, and its outcome counts, whether or not the caller has hung up.
pub struct Held<T: Send + 'static>(Option<(BoxFuture<'static, T>, Slot)>);

impl InFlightLimit {
    /// At most `max` at once.
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Semaphore::new(max)))
    }

    /// Whether a place is free now. It may be gone a moment later.
    pub fn has_room(&self) -> bool {
        self.0.available_permits() > 0
    }

    /// Takes a place, if there is one.
    pub fn enter(&self) -> Option<Slot> {
        Some(Slot { _permit: Arc::clone(&self.0).try_acquire_owned().ok()? })
    }
}

impl Slot {
    /// Keeps the place until `work` has ended, and gives both back then.
    pub fn hold<T: Send + 'static>(self, work: BoxFuture<'static, T>) -> Held<T> {
        Held(Some((work, self)))
    }
}

impl<T: Send + 'static> Future for Held<T> {
    type Output = (T, Slot);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<(T, Slot)> {
        let Some((work, _)) = &mut self.0 else { return Poll::Pending };
        let output = ready!(work.poll_unpin(context));
        self.0.take().map_or(Poll::Pending, |(_, slot)| Poll::Ready((output, slot)))
    }
}

impl<T: Send + 'static> Drop for Held<T> {
    fn drop(&mut self) {
        if let (Some((work, slot)), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(async move {
                work.await;
                drop(slot);
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
        let limit = InFlightLimit::new(1);
        let slot = limit.enter();
        assert!(slot.is_some());
        assert!(!limit.has_room() && limit.enter().is_none());
        drop(slot);
        assert!(limit.has_room() && limit.enter().is_some());
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_goes_on_and_keeps_its_place() {
        let limit = InFlightLimit::new(1);
        let ((report, reported), (end, ended)) = (oneshot::channel(), oneshot::channel());
        let work = async move {
            let _ = reported.await;
            let _ = end.send(());
        };
        let held = limit.enter().map(|slot| slot.hold(Box::pin(work)));
        drop(held);
        assert!(limit.enter().is_none(), "still in flight");
        report.send(()).unwrap();
        ended.await.unwrap();
        while limit.enter().is_none() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_waits_gets_the_outcome_and_the_place() {
        let limit = InFlightLimit::new(1);
        let (outcome, slot) = limit.enter().unwrap().hold(Box::pin(async { 7 })).await;
        assert_eq!(outcome, 7);
        assert!(limit.enter().is_none());
        drop(slot);
        assert!(limit.enter().is_some());
    }
}
