//! Follows the log of commits for all who listen.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use shared::commits::{CommitPage, CommitPosition};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::hub::{Hub, Returning};
use super::listeners::{Found, Listeners};
use crate::management_client::ManagementClient;

/// How long a replica waits for something to tell.
const WAIT: Duration = Duration::from_secs(10);
/// How often all who listen are told where they are.
const POSITION_INTERVAL: Duration = Duration::from_mins(1);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_millis(200);
/// Purchases asked for at once.
const FETCH_MAX: usize = 500;
/// Answers that are read to catch up, at most: who has missed more is let go of where it is, and comes again.
const PAGES_MAX: usize = 250;
/// How many are caught up with at once, all that come back at one moment together: who has missed much holds up nobody.
const PASSES_MAX: usize = 4;
/// How long who has been told much is waited for, and how often is looked.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(10));

/// The way from the log to those who listen.
pub(super) struct Feed {
    pub(super) hub: Arc<Hub>,
    pub(super) management: Arc<ManagementClient>,
}

impl Feed {
    /// Tells all who listen what is recorded, for ever.
    pub(super) async fn follow(&self) {
        let mut told_at = Instant::now();
        loop {
            if told_at.elapsed() >= POSITION_INTERVAL {
                told_at = Instant::now();
                self.hub.tell_position();
            }
            if !self.hub.is_wanted() {
                self.hub.wanted.notified().await;
                continue;
            }
            let position = self.hub.position();
            match self.management.commits(position.as_ref(), WAIT).await {
                Ok(page) if position.is_none() => self.hub.begin(page.position),
                Ok(page) => self.tell(&page).await,
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    async fn tell(&self, page: &CommitPage) {
        let mut found = Found::new();
        // Who begins to listen meanwhile may want more of it.
        while let Err(wanted) = self.hub.tell(page, &found) {
            if wanted.is_empty() {
                return;
            }
            self.find(&wanted, &mut found).await;
        }
    }

    /// Tells those who come back what they have missed, all of one moment together, for ever.
    pub(super) async fn keep_catching_up(&self) {
        let mut passes = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = self.hub.returned.notified(), if passes.len() < PASSES_MAX => {
                    passes.push(self.catch_up_with(self.hub.take_returning()));
                }
                Some(()) = passes.next(), if !passes.is_empty() => {}
            }
        }
    }

    async fn catch_up_with(&self, returning: Vec<Returning>) {
        let _pending = self.hub.pend();
        let known_log = self.hub.position().map(|position| position.log_id);
        let is_known = |one: &Returning| Some(one.position.log_id) == known_log;
        let (together, alone): (Vec<_>, Vec<_>) = returning.into_iter().partition(is_known);
        for one in self.catch_up(together).await.into_iter().chain(alone) {
            self.catch_up(vec![one]).await;
        }
    }

    /// Gives them back if one of them comes from where nothing is served any more: then each is told alone.
    async fn catch_up(&self, mut returning: Vec<Returning>) -> Vec<Returning> {
        returning.retain(|one| !one.listener.is_gone());
        let start = returning.iter().map(|one| one.position.clone()).reduce(|one, other| one.nearest(&other));
        let Some(mut position) = start else { return Vec::new() };
        let mut page = self.next_page(&position).await;
        if page.is_reset && returning.len() > 1 {
            return returning;
        }
        let mut listeners = Listeners::returned(returning);
        for _ in 0..PAGES_MAX {
            let mut found = Found::new();
            self.find(&listeners.wanted(&page, &found), &mut found).await;
            listeners.tell(&page, &found, &mut position);
            if self.hub.merge(&mut listeners, &position) {
                return Vec::new();
            }
            self.wait_for_slow(&listeners).await;
            page = self.next_page(&position).await;
        }
        // They come again from there.
        listeners.tell_position(&position);
        Vec::new()
    }

    async fn wait_for_slow(&self, listeners: &Listeners) {
        let (patience, pause) = PATIENCE;
        let end = Instant::now() + patience;
        while listeners.has_slow() && Instant::now() < end {
            sleep(pause).await;
        }
    }

    async fn next_page(&self, position: &CommitPosition) -> CommitPage {
        loop {
            match self.management.commits(Some(position), Duration::ZERO).await {
                Ok(page) => return page,
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Looks for purchases until somebody says whether they are there.
    async fn find(&self, ids: &[Uuid], found: &mut Found) {
        for ids in ids.chunks(FETCH_MAX) {
            let purchases = loop {
                match self.management.find(ids).await {
                    Ok(purchases) => break purchases,
                    Err(_) => sleep(PAUSE).await,
                }
            };
            let by_id: HashMap<_, _> = purchases.into_iter().map(|one| (one.purchase_id, Arc::new(one))).collect();
            found.extend(ids.iter().map(|id| (*id, by_id.get(id).cloned())));
        }
    }
}
