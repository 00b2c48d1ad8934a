//! Callers that wait for a purchase to be recorded, by whichever replica.

mod config;
mod share;

use std::sync::Arc;
use std::time::Duration;

use shared::event::Purchase;
use shared::shutdown::Shutdown;
use uuid::Uuid;

pub use self::config::WaitersConfig;
use self::share::Share;
use crate::store::{Reading, Recorded};

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The buyer of what was just published: it comes soon.
    Buyer,
    /// Somebody who asks about a purchase that may never come.
    Reader,
}

/// Who waits for what. Buyers and readers wait apart: neither takes the other's places, nor its turn at the database.
pub struct Waiters {
    store: Arc<dyn Reading>,
    buyers: Share,
    readers: Share,
}

impl Waiters {
    /// Nobody waits.
    #[must_use]
    pub fn new(store: Arc<dyn Reading>, config: WaitersConfig) -> Arc<Self> {
        let [buyers, readers] = [config.buyers_max, config.readers_max].map(Share::new);
        Arc::new(Self { store, buyers, readers })
    }

    /// The purchases among `ids` that are recorded by the end of `wait`, or of the service; comes back as soon as all are.
    /// Nothing, at once, when there is no place to wait.
    pub async fn wait(&self, who: Waiting, ids: &[Uuid], wait: Duration) -> Option<Vec<Purchase>> {
        self.share(who).wait(ids, wait).await
    }

    /// A batch was committed here: whoever waits for one of its purchases gets it.
    pub fn wake(&self, purchases: &[Purchase], recorded: &Recorded) {
        self.buyers.wake(purchases, recorded);
        self.readers.wake(purchases, recorded);
    }

    /// Asks the database for what others recorded, once a tick while anybody waits, until the shutdown. Then nobody is
    /// kept waiting: whoever asks again finds another replica.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        tokio::select! {
            () = self.buyers.serve(&*self.store) => {}
            () = self.readers.serve(&*self.store) => {}
            () = shutdown.stopped() => {}
        }
        self.buyers.close();
        self.readers.close();
    }

    fn share(&self, who: Waiting) -> &Share {
        match who {
            Waiting::Buyer => &self.buyers,
            Waiting::Reader => &self.readers,
        }
    }
}
