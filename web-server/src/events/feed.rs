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
const WAIT: Duration = Duration::from_secs(2);
/// How often all who listen are told where they are.
const POSITION_INTERVAL: Duration = Duration::from_mins(1);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_millis(200);
/// Purchases asked for at once.
const FETCH_MAX: usize = 500;
/// How long catching up may take: who has missed more is let go of where it is, and comes again.
const PASS_TIME: Duration = Duration::from_secs(10);
/// Who is less than so many commits behind has missed little.
const NEAR: i64 = 2_000;
/// How many are caught up with at once, all that come back at one moment together: who has missed much holds up nobody.
const PASSES_MAX: usize = 4;
/// How often is looked whether who has been told much has taken it.
const PATIENCE: Duration = Duration::from_millis(20);

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
            let is_over = wanted.is_empty() || !self.hub.is_wanted();
            if is_over || !self.find(&wanted, &mut found, Instant::now() + PASS_TIME).await {
                return;
            }
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

    /// Who has missed little goes first, and all of them together; who has missed much waits for nobody's sake but its own.
    async fn catch_up_with(&self, returning: Vec<Returning>) {
        let _pending = self.hub.pend();
        let Some(now) = self.hub.position() else { return };
        let is_of_this_log = |one: &Returning| one.position.log_id == now.log_id;
        let (returning, of_others): (Vec<_>, Vec<_>) = returning.into_iter().partition(is_of_this_log);
        self.hub.reset(of_others);
        let is_near = |one: &Returning| now.commits().saturating_sub(one.position.commits()) < NEAR;
        let (near, far): (Vec<_>, Vec<_>) = returning.into_iter().partition(is_near);
        for group in [near, far] {
            for one in self.catch_up(group).await {
                self.catch_up(vec![one]).await;
            }
        }
    }

    /// Gives back those who are to be looked at alone: all, if one of them comes from where nothing is served any more.
    async fn catch_up(&self, mut returning: Vec<Returning>) -> Vec<Returning> {
        returning.retain(|one| !one.listener.is_gone());
        let start = returning.iter().map(|one| one.position.clone()).reduce(|one, other| one.nearest(&other));
        let Some(mut position) = start else { return Vec::new() };
        let end = Instant::now() + PASS_TIME;
        let mut page = self.next_page(&position, end).await;
        if page.as_ref().is_some_and(|page| page.is_reset) && returning.len() > 1 {
            return returning;
        }
        let mut listeners = Listeners::returned(returning);
        while let Some(next) = page.filter(|_| !listeners.are_gone()) {
            let mut found = Found::new();
            if !self.find(&listeners.wanted(&next, &found), &mut found, end).await {
                break;
            }
            listeners.tell(&next, &found, &mut position);
            if let Some(doubtful) = self.hub.merge(&mut listeners, &position) {
                return doubtful;
            }
            self.wait_for_slow(&listeners, next.commits.is_empty(), end).await;
            page = self.next_page(&position, end).await;
        }
        // There was no time for more: they come again from there.
        listeners.tell_position(&position);
        Vec::new()
    }

    /// Waits for who has been told much already, and a moment where there was nothing to tell.
    async fn wait_for_slow(&self, listeners: &Listeners, was_empty: bool, end: Instant) {
        if was_empty {
            sleep(PATIENCE).await;
        }
        while listeners.has_behind() && Instant::now() < end {
            sleep(PATIENCE).await;
        }
    }

    /// Nothing when nobody has said what comes next by `end`.
    async fn next_page(&self, position: &CommitPosition, end: Instant) -> Option<CommitPage> {
        while Instant::now() < end {
            match self.management.commits(Some(position), Duration::ZERO).await {
                Ok(page) => return Some(page),
                Err(_) => sleep(PAUSE).await,
            }
        }
        None
    }

    /// Looks for purchases; says no when nobody has said by `end` whether they are there.
    async fn find(&self, ids: &[Uuid], found: &mut Found, end: Instant) -> bool {
        for ids in ids.chunks(FETCH_MAX) {
            let purchases = loop {
                match self.management.find(ids).await {
                    Ok(purchases) => break purchases,
                    Err(_) if Instant::now() >= end => return false,
                    Err(_) => sleep(PAUSE).await,
                }
            };
            let by_id: HashMap<_, _> = purchases.into_iter().map(|one| (one.purchase_id, Arc::new(one))).collect();
            found.extend(ids.iter().map(|id| (*id, by_id.get(id).cloned())));
        }
        true
    }
}
