//! Calls under way, each of which serves all who want the same.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::body::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use super::{NotRead, UserRead};

/// What came of a call.
#[derive(Clone)]
pub(super) struct Outcome {
    /// The answer is no older than this.
    pub(super) asked_at: Instant,
    pub(super) result: Result<Bytes, NotRead>,
}

/// A call that goes on as long as anybody waits for it.
type Flight = Shared<BoxFuture<'static, Outcome>>;

/// The calls under way.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<UserRead, WeakShared<BoxFuture<'static, Outcome>>>>);

/// A caller who waits for a call: the last one takes it off the list.
struct Seat<'a> {
    flights: &'a Flights,
    read: &'a UserRead,
    flight: Option<Flight>,
}

impl Flights {
    /// What comes of the call for `read` that is under way, or of the one that begins now.
    pub(super) async fn join(&self, read: &UserRead, begin: impl FnOnce() -> BoxFuture<'static, Outcome>) -> Outcome {
        let flight = self.find_or_begin(read, begin);
        let _seat = Seat { flights: self, read, flight: Some(flight.clone()) };
        flight.await
    }

    fn find_or_begin(&self, read: &UserRead, begin: impl FnOnce() -> BoxFuture<'static, Outcome>) -> Flight {
        let mut flights = self.lock();
        let found = flights.get(read).and_then(WeakShared::upgrade);
        // One that has ended is nothing to wait for: only some who did have not left yet.
        if let Some(flight) = found.filter(|flight| flight.peek().is_none()) {
            return flight;
        }
        let flight = begin().shared();
        flights.extend(flight.downgrade().map(|flight| (read.clone(), flight)));
        flight
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserRead, WeakShared<BoxFuture<'static, Outcome>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        drop(self.flight.take());
        let mut flights = self.flights.lock();
        if flights.get(self.read).is_some_and(|flight| flight.upgrade().is_none()) {
            flights.remove(self.read);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::future::{join_all, pending};
    use tokio::sync::{Notify, oneshot};

    use super::*;

    fn read() -> UserRead {
        UserRead { userid: "u".to_owned(), limit: 1, timeout: Duration::from_secs(1) }
    }

    fn outcome() -> Outcome {
        Outcome { asked_at: Instant::now(), result: Err(NotRead::NoPlace) }
    }

    #[tokio::test]
    async fn all_share_a_call_and_the_next_ones_begin_another() {
        let (flights, read) = (Flights::default(), read());
        let (begun, answer) = (Mutex::new(0), Arc::new(Notify::new()));
        let begin = || {
            *begun.lock().unwrap() += 1;
            let answer = Arc::clone(&answer);
            async move {
                answer.notified().await;
                outcome()
            }
            .boxed()
        };
        for count in [1, 2] {
            let all = join_all((0..100).map(|_| flights.join(&read, begin)));
            tokio::join!(all, async { answer.notify_one() });
            assert_eq!(*begun.lock().unwrap(), count);
            assert!(flights.lock().is_empty());
        }
    }

    #[tokio::test]
    async fn a_call_goes_on_when_who_began_it_leaves_and_ends_with_the_last_who_waits() {
        let flights = Arc::new(Flights::default());
        let (held, mut ended) = oneshot::channel::<()>();
        let begin = move || {
            async move {
                let _held = held;
                pending::<Outcome>().await
            }
            .boxed()
        };
        let wait = |begin: Box<dyn FnOnce() -> BoxFuture<'static, Outcome> + Send>| {
            let flights = Arc::clone(&flights);
            tokio::spawn(async move { flights.join(&read(), begin).await })
        };
        let first = wait(Box::new(begin));
        tokio::task::yield_now().await;
        let second = wait(Box::new(|| panic!("one is under way")));
        tokio::task::yield_now().await;
        first.abort();
        assert!(first.await.is_err_and(|error| error.is_cancelled()));
        assert!(ended.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty), "it goes on");
        second.abort();
        assert!(second.await.is_err_and(|error| error.is_cancelled()));
        assert!(ended.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed), "it has ended");
        assert!(flights.lock().is_empty());
    }
}
