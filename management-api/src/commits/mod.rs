//! The log of commits as it is followed: whoever asks gets what comes after a position, whichever replica recorded it. The database
//! sees one query a tick, however many ask.

mod recent;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::commits::{Commit, CommitPage, CommitPosition};
use shared::shutdown::Shutdown;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use self::recent::{Glance, Recent, page};
use crate::store::{CommitLog, StoreError};

/// How often the database is asked for what other replicas have committed.
const TICK: Duration = Duration::from_millis(50);
/// How soon it is asked for what this one has: many small batches are looked for together.
const OWN_TICK: Duration = Duration::from_millis(10);
/// For how long after a question somebody may be about to ask again.
const FOLLOWED_FOR: Duration = Duration::from_secs(40);
/// Commits of each partition in one query, and in one of who was away.
const COMMITS_MAX: u32 = 64;
const MISSED_COMMITS_MAX: u32 = 16;
/// How long it may take until what another replica has seen is seen here, too.
const CATCH_UP: Duration = Duration::from_millis(200);
/// For how long the database may not answer until who waits is told.
const FAILING_MAX: Duration = Duration::from_millis(500);
/// How long commits are kept: whoever was away for longer reads anew.
const KEPT: Duration = Duration::from_mins(15);
const FORGET_INTERVAL: Duration = Duration::from_mins(1);
/// How many may read what is not in memory, at once.
const LOOK_UPS_MAX: usize = 2;

/// Follows the log while anybody asks.
pub struct CommitFeed {
    store: Arc<dyn CommitLog>,
    state: Mutex<State>,
    /// Somebody has begun to ask.
    asked: Notify,
    /// Something was committed here.
    committed: Arc<Notify>,
    /// Changes with what is known.
    news: watch::Sender<()>,
    look_ups: Semaphore,
}

struct State {
    /// What was seen last; nothing before the first look, and after one that could not go on from there.
    recent: Option<Recent>,
    followed_until: Instant,
    /// Since when the database does not answer.
    failing_since: Option<Instant>,
    is_closed: bool,
}

impl CommitFeed {
    /// Nobody asks yet.
    #[must_use]
    pub fn new(store: Arc<dyn CommitLog>) -> Arc<Self> {
        let state = State { recent: None, followed_until: Instant::now(), failing_since: None, is_closed: false };
        Arc::new(Self {
            store,
            state: Mutex::new(state),
            asked: Notify::new(),
            committed: Arc::default(),
            news: watch::channel(()).0,
            look_ups: Semaphore::new(LOOK_UPS_MAX),
        })
    }

    /// To be told whenever something was committed here.
    #[must_use]
    pub fn committed(&self) -> Arc<Notify> {
        Arc::clone(&self.committed)
    }

    /// The position of now, and nothing that comes after it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn begin(&self) -> Result<CommitPage, StoreError> {
        Ok(CommitPage { position: self.store.last_commits().await?, commits: Vec::new(), is_reset: false })
    }

    /// What comes after a position: at once if there is something, else as soon as there is, with nothing when `wait` is over.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn follow(&self, after: &CommitPosition, wait: Duration) -> Result<CommitPage, StoreError> {
        let begun = Instant::now();
        let (deadline, caught_up) = (begun + wait, begun + CATCH_UP);
        let mut news = self.news.subscribe();
        self.keep_following();
        let mut was_ahead = false;
        loop {
            let glance = self.glance(after);
            let is_ahead = matches!(glance, Glance::Ahead);
            let is_early = is_ahead && Instant::now() < caught_up;
            match glance {
                Glance::Found(page) => return Ok(page),
                Glance::Unknown | Glance::Ahead if !(is_early || is_ahead && was_ahead) => {
                    if let Some(page) = self.look_up(after).await? {
                        return Ok(page);
                    }
                    was_ahead = is_ahead;
                }
                Glance::Newest | Glance::Unknown | Glance::Ahead => {}
            }
            self.check_looks()?;
            let until = if is_early { caught_up } else { deadline };
            let has_news = timeout_at(until, news.changed()).await.is_ok();
            if self.lock().is_closed || !(has_news || is_early) {
                return Ok(CommitPage { position: after.clone(), commits: Vec::new(), is_reset: false });
            }
        }
    }

    /// Looks for what others have committed while anybody asks, and forgets what is old, until the shutdown. Then nobody is kept
    /// waiting: whoever asks again finds another replica.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        tokio::select! {
            () = self.keep_looking() => {}
            () = self.keep_forgetting() => {}
            () = shutdown.stopped() => {}
        }
        self.lock().is_closed = true;
        self.news.send_replace(());
    }

    async fn keep_looking(&self) {
        loop {
            let began = Instant::now();
            if self.lock().followed_until <= began {
                // What was seen by now is old when somebody asks again.
                self.lock().recent = None;
                self.asked.notified().await;
                continue;
            }
            let looked = self.look().await;
            self.note(looked, began);
            tokio::select! {
                () = self.committed.notified() => sleep_until(began + OWN_TICK).await,
                () = sleep_until(began + TICK) => {}
            }
        }
    }

    /// Takes note of how a look has ended.
    fn note(&self, looked: Result<(), StoreError>, began: Instant) {
        let Err(error) = looked else {
            self.lock().failing_since = None;
            return;
        };
        tracing::debug!(%error, "the log of commits cannot be read yet");
        self.lock().failing_since.get_or_insert(began);
        self.news.send_replace(());
    }

    /// Who waits is told when nothing can be seen: another replica may see it.
    fn check_looks(&self) -> Result<(), StoreError> {
        match self.lock().failing_since {
            Some(since) if since.elapsed() >= FAILING_MAX => Err(StoreError("the log cannot be read".to_owned())),
            _ => Ok(()),
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let head = self.lock().recent.as_ref().map(|recent| recent.head().clone());
        let Some(head) = head else {
            let recent = Recent::new(self.store.last_commits().await?);
            self.lock().recent = Some(recent);
            self.news.send_replace(());
            return Ok(());
        };
        let commits = self.store.list_commits(&head, COMMITS_MAX).await?;
        if commits.is_empty() {
            return Ok(());
        }
        let mut state = self.lock();
        // Who was not asked for long finds its place gone, and begins anew.
        state.recent = state.recent.take().and_then(|recent| recent.append(commits));
        drop(state);
        self.news.send_replace(());
        Ok(())
    }

    /// What the database says of a position that memory knows nothing of; nothing if all is seen.
    async fn look_up(&self, after: &CommitPosition) -> Result<Option<CommitPage>, StoreError> {
        let _turn = self.look_ups.acquire().await.map_err(|error| StoreError(error.to_string()))?;
        let last = self.store.last_commits().await?;
        let reset = CommitPage { position: last.clone(), commits: Vec::new(), is_reset: true };
        if !after.is_reached_by(&last) {
            return Ok(Some(reset));
        }
        let commits = self.store.list_commits(after, MISSED_COMMITS_MAX).await?;
        let is_there = |(partition, number): (i32, i64)| {
            let is_it = |commit: &Commit| commit.partition == partition && after.is_just_before(commit);
            number <= after.number(partition) || commits.iter().any(is_it)
        };
        let is_served = last.numbers().all(is_there) && is_next(after, &commits);
        Ok(if is_served { page(after, commits.iter()) } else { Some(reset) })
    }

    async fn keep_forgetting(&self) {
        loop {
            sleep(FORGET_INTERVAL).await;
            match self.store.forget_commits(KEPT).await {
                Ok(forgotten) => tracing::debug!(forgotten, "old commits are forgotten"),
                Err(error) => tracing::warn!(%error, "old commits cannot be forgotten"),
            }
        }
    }

    fn keep_following(&self) {
        self.lock().followed_until = Instant::now() + FOLLOWED_FOR;
        self.asked.notify_one();
    }

    fn glance(&self, after: &CommitPosition) -> Glance {
        self.lock().recent.as_ref().map_or(Glance::Unknown, |recent| recent.glance(after))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nothing is missing between a position and these commits.
fn is_next(after: &CommitPosition, commits: &[Commit]) -> bool {
    let mut position = after.clone();
    commits.iter().all(|commit| {
        let is_next = position.is_just_before(commit);
        position.pass(commit);
        is_next
    })
}
