//! What is recorded, told to who listens: management-api's log of commits is followed once, however many listen here.

mod config;
mod feed;
mod hub;
mod listeners;
mod places;

use std::sync::Arc;
use std::time::Duration;

use shared::commits::CommitPosition;
use shared::event::Purchase;
use shared::supervise::Supervisor;
use tokio::time::timeout;
use uuid::Uuid;

pub use self::config::EventsConfig;
use self::feed::Feed;
use self::hub::Hub;
use self::listeners::{Inbox, Listener, Topic};
use self::places::{Place, Places};
use crate::limits::CallerKey;
use crate::management_client::ManagementClient;
use crate::metrics::Metrics;

/// How long whoever listens waits until it is known where the log stands.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(2);

/// What a listener is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// A purchase was recorded; just after it, the log stands here.
    Recorded(Arc<Purchase>, Arc<CommitPosition>),
    /// Nothing was missed up to here.
    Reached(Arc<CommitPosition>),
    /// Something may have been missed before this position.
    Reset(Arc<CommitPosition>),
}

/// Everybody who listens.
pub struct Events {
    hub: Arc<Hub>,
    places: Arc<Places>,
    metrics: Arc<Metrics>,
}

/// Somebody listens, until this is dropped.
pub struct Subscription {
    events: Inbox,
    topic: Topic,
    number: u64,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    _place: Place,
}

/// Why nobody can listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotListen {
    /// Too many do, or this one does too often.
    Crowded,
    /// No replica of management-api says where the log stands.
    Unknown,
}

impl Events {
    /// Nobody listens yet; the log is followed while somebody does, until the service stops.
    pub fn start(
        config: &EventsConfig,
        management: &Arc<ManagementClient>,
        metrics: &Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Self {
        let hub = Arc::new(Hub::default());
        let feed = Arc::new(Feed { hub: Arc::clone(&hub), management: Arc::clone(management) });
        let shutdown = supervisor.shutdown().clone();
        // Who listens, and where the log stands, is kept beside the task.
        tokio::spawn(supervisor.restart("events", move || {
            let (feed, shutdown) = (Arc::clone(&feed), shutdown.clone());
            async move {
                tokio::select! {
                    () = feed.follow() => {}
                    () = feed.keep_catching_up() => {}
                    () = shutdown.stopped() => {}
                }
            }
        }));
        Self { hub, places: Places::new(*config), metrics: Arc::clone(metrics) }
    }

    /// Listens for one purchase from now on.
    ///
    /// # Errors
    /// See [`CannotListen`].
    pub async fn of_purchase(&self, caller: CallerKey, purchase_id: Uuid) -> Result<Subscription, CannotListen> {
        self.listen(caller, Topic::Purchase(purchase_id), None, None).await
    }

    /// Listens for a user's purchases: from now on, or from a position that was told before.
    ///
    /// # Errors
    /// See [`CannotListen`].
    pub async fn of_user(
        &self,
        caller: CallerKey,
        userid: &str,
        after: Option<CommitPosition>,
    ) -> Result<Subscription, CannotListen> {
        self.listen(caller, Topic::of_user(userid), Some(userid.into()), after).await
    }

    async fn listen(
        &self,
        caller: CallerKey,
        topic: Topic,
        userid: Option<Box<str>>,
        after: Option<CommitPosition>,
    ) -> Result<Subscription, CannotListen> {
        let place = self.places.take(caller).ok_or(CannotListen::Crowded)?;
        let number = self.hub.next_number();
        let (listener, events) = Listener::new(number, userid);
        let entering = self.hub.enter(topic, listener, after);
        timeout(BEGIN_TIMEOUT, entering).await.map_err(|_| CannotListen::Unknown)?;
        let (hub, metrics) = (Arc::clone(&self.hub), Arc::clone(&self.metrics));
        metrics.events.streams.increment(1.0);
        Ok(Subscription { events, topic, number, hub, metrics, _place: place })
    }
}

impl Subscription {
    /// What it is told next; nothing when it was too slow, and is told no more.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.next().await
    }

    /// Whether it is told no more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.events.is_closed()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(self.topic, self.number);
        self.metrics.events.streams.decrement(1.0);
    }
}
