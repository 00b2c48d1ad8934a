//! What calling buyers back needs of a database.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared::callbacks::{DeadCallback, FailingHost};
use shared::event::{Purchase, Timestamp};
use uuid::Uuid;

use super::{Cursor, StoreError};

/// Purchases in one row of the outbox.
pub(super) const BATCH_MAX: u16 = 500;
/// Callbacks, or rows of the outbox, that are given up or forgotten at once, at most.
pub(super) const CHANGED_MAX: i64 = 5_000;
/// Hosts whose parked callbacks are claimed at once, and how many of one that is well.
pub(super) const PARKED_HOSTS_MAX: i64 = 8;
pub(super) const PARKED_OF_HOST_MAX: i64 = 100;
/// How soon a host that has begun to fail is tried, and how long it takes until the next trial at most; a quarter of the time for which it has failed in
/// between.
pub(super) const TRIAL_PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));
/// How often a host that is well is looked at, when nothing is parked for it.
pub(super) const LOOK_PAUSE: Duration = Duration::from_mins(1);
/// How long a host is remembered that is well again, or of which nothing more is heard; one that is switched off is for ever.
pub(super) const WELL_KEPT: Duration = Duration::from_hours(1);
pub(super) const SILENT_KEPT: Duration = Duration::from_hours(48);
/// Who has failed once, and so long before that, has not failed all the time: attempts are never so far from each other.
pub(super) const FORGIVEN_AFTER: Duration = Duration::from_hours(3);
/// The most callbacks that are counted: beyond, nobody needs to know better.
pub(super) const COUNTED_MAX: i64 = 100_000;

/// What calling buyers back needs of it. A purchase's outbox row is written where the purchase is recorded.
#[async_trait]
pub trait CallbackOutbox: Send + Sync + 'static {
    /// Takes what is due and belongs to nobody, for as long as the claim says; nobody else gets it meanwhile.
    async fn claim_callbacks(&self, claim: Claim) -> Result<Claimed, StoreError>;

    /// What became of claimed ones, all of it or nothing.
    async fn settle_callbacks(&self, settlement: &Settlement) -> Result<(), StoreError>;

    /// Hosts that fail now, by name, after the one that is given.
    async fn list_callback_hosts(&self, after: Option<&str>, limit: u32) -> Result<Vec<FailingHost>, StoreError>;

    /// A host has failed, and is to be left alone for `hold`. It is switched off once it has failed for `patience`. Gives how it is now.
    async fn note_host_failed(
        &self,
        host: &str,
        outcome: &str,
        patience: Duration,
        hold: Duration,
    ) -> Result<FailingHost, StoreError>;

    /// Something was delivered to a host, or it is switched on: what is parked for it is claimed from now on. Gives whether it was
    /// failing.
    async fn note_host_well(&self, host: &str) -> Result<bool, StoreError>;

    /// Dead callbacks, in the order in which their purchases were recorded.
    async fn list_dead_callbacks(&self, query: &DeadCallbacks) -> Result<Vec<DeadCallback>, StoreError>;

    /// Makes dead callbacks due again, with a time and attempts of their own; at most so many at once.
    async fn resend_callbacks(&self, which: &DeadCallbacks) -> Result<Resent, StoreError>;

    /// Makes one purchase's callback due again, whatever became of it.
    async fn resend_callback(&self, purchase: &Purchase, host: &str) -> Result<(), StoreError>;

    /// How many there are, and for how long the oldest is due.
    async fn count_callbacks(&self) -> Result<CallbackCounts, StoreError>;

    /// Forgets what has been dead for so long, gives up what nobody has claimed in that time, and forgets hosts that do not fail any
    /// more. Gives whether there may be more.
    async fn forget_callbacks(&self, age: Duration) -> Result<bool, StoreError>;
}

/// What to claim.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// For how long.
    pub lease: Duration,
    /// At most so many purchases.
    pub limit: u32,
}

/// What was claimed.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// Rows of the outbox, with their purchases.
    pub batches: Vec<CallbackBatch>,
    /// Callbacks that are tried again.
    pub retries: Vec<RetriedCallback>,
    /// Whether there may be more.
    pub is_full: bool,
}

/// A row of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackBatch {
    /// Names the row.
    pub batch_id: Uuid,
    /// Whose buyers are to be called back.
    pub purchases: Vec<Purchase>,
}

/// A callback that was tried before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetriedCallback {
    /// The purchase.
    pub purchase: Purchase,
    /// How often it was tried.
    pub attempts: u32,
    /// For how long it has been tried.
    pub tried_for: Duration,
    /// Until when it is claimed.
    pub claimed_until: DateTime<Utc>,
    /// Whether its host gets nothing.
    pub is_host_off: bool,
    /// Whether its host is well, or is to be tried by it, as far as the database knows: whatever a replica has found before.
    pub is_host_known: bool,
}

/// What became of claimed callbacks.
#[derive(Clone, Debug, Default)]
pub struct Settlement {
    /// Rows of the outbox of which everything is delivered or among those that failed.
    pub finished_batches: Vec<Uuid>,
    /// Delivered ones that were kept by themselves.
    pub delivered: Vec<DeliveredCallback>,
    /// Those that are tried again, or never.
    pub failed: Vec<FailedCallback>,
}

impl Settlement {
    /// Whether nothing has to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.finished_batches.is_empty() && self.delivered.is_empty() && self.failed.is_empty()
    }
}

/// One that was kept by itself, and is delivered.
#[derive(Clone, Copy, Debug)]
pub struct DeliveredCallback {
    /// Its purchase.
    pub purchase_id: Uuid,
    /// Until when it was claimed: nothing is written where somebody has claimed it since.
    pub claimed_until: DateTime<Utc>,
}

/// One that was not delivered.
#[derive(Clone, Debug)]
pub struct FailedCallback {
    /// Its purchase.
    pub purchase_id: Uuid,
    /// Whom it is for.
    pub host: String,
    /// When the purchase was recorded.
    pub recorded_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// For how long it has been tried.
    pub tried_for: Duration,
    /// What comes next.
    pub next: NextTry,
    /// What became of it at last, in short.
    pub outcome: String,
    /// Until when it was claimed, if it was kept by itself before: nothing is written where somebody has claimed it since.
    pub claimed_until: Option<DateTime<Utc>>,
}

/// Which callbacks were made due again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resent {
    /// How many.
    pub count: u64,
    /// The last of them, in the order of the list.
    pub last: Option<Cursor>,
}

impl Resent {
    /// Those at these positions.
    pub(super) fn of(places: &[Cursor]) -> Self {
        Self { count: places.len() as u64, last: places.iter().max().copied() }
    }
}

/// When a callback is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextTry {
    /// So much later.
    After(Duration),
    /// When its host can take it, which fails or is crowded; it is given up after so long.
    WhenHostIsWell {
        /// So long.
        for_at_most: Duration,
        /// Whether the host is well, and only has too many.
        is_well: bool,
    },
    /// Never: it is dead.
    Never,
}

impl NextTry {
    /// How much later somebody has to do something about it.
    pub(super) fn due_in(self) -> Duration {
        match self {
            Self::After(time) | Self::WhenHostIsWell { for_at_most: time, .. } => time,
            Self::Never => Duration::ZERO,
        }
    }

    /// Whether it waits for its host.
    pub(super) fn is_parked(self) -> bool {
        matches!(self, Self::WhenHostIsWell { .. })
    }

    /// Whether that is because there are too many.
    pub(super) fn is_host_well(self) -> bool {
        matches!(self, Self::WhenHostIsWell { is_well: true, .. })
    }
}

/// Which dead callbacks.
#[derive(Clone, Debug)]
pub struct DeadCallbacks {
    /// Of purchases recorded from then on.
    pub since: Timestamp,
    /// Of purchases recorded before then.
    pub until: Timestamp,
    /// For this host alone.
    pub host: Option<String>,
    /// After this one.
    pub after: Option<Cursor>,
    /// At most so many.
    pub limit: u32,
}

impl DeadCallbacks {
    /// Those of purchases recorded in a time, which has no beginning, or ends now, where nothing else is said.
    #[must_use]
    pub fn recorded(since: Option<Timestamp>, until: Option<Timestamp>, host: Option<String>, limit: u32) -> Self {
        let since = since.or_else(|| Timestamp::from_millis(0)).unwrap_or_else(Timestamp::now);
        Self { since, until: until.unwrap_or_else(Timestamp::now), host, after: None, limit }
    }

    /// After which position they begin: before the first one that may have the time.
    pub(super) fn start(&self) -> Cursor {
        self.after.unwrap_or(Cursor { timestamp: self.since, purchase_id: Uuid::nil() })
    }
}

/// How many callbacks there are, up to a hundred thousand of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallbackCounts {
    /// Those that are tried again.
    pub waiting: usize,
    /// Those that are not.
    pub dead: usize,
    /// Hosts that are switched off.
    pub hosts_switched_off: usize,
    /// For how long the oldest has been due.
    pub oldest_due: Duration,
}
