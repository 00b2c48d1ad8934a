//! What calling buyers back needs of a database.

use std::time::Duration;

use async_trait::async_trait;
use shared::callbacks::{DeadCallback, FailingHost};
use shared::event::{Purchase, Timestamp};
use uuid::Uuid;

use super::{Cursor, StoreError};

/// Purchases in one row of the outbox.
pub(super) const BATCH_MAX: usize = 500;
/// Callbacks, or rows of the outbox, that are given up or forgotten at once, at most.
pub(super) const CHANGED_MAX: i64 = 5_000;
/// Hosts whose parked callbacks are claimed at once, and how many of one that is well.
pub(super) const PARKED_HOSTS_MAX: i64 = 16;
pub(super) const PARKED_OF_HOST_MAX: i64 = 50;
/// How soon a host that has begun to fail is tried, and how long it takes until the next trial at most; a quarter of the time for which it has failed in
/// between.
pub(super) const TRIAL_PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));
/// How often a host that is well is looked at, when nothing is parked for it.
pub(super) const LOOK_PAUSE: Duration = Duration::from_mins(1);
/// How long a host is remembered that is well again.
pub(super) const WELL_KEPT: Duration = Duration::from_hours(1);
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

    /// A host has failed. It is switched off once it has failed for so long. Gives how it is now.
    async fn note_host_failed(&self, host: &str, outcome: &str, patience: Duration) -> Result<FailingHost, StoreError>;

    /// Something was delivered to a host, or it is switched on: what is parked for it is claimed from now on. Gives whether it was
    /// failing.
    async fn note_host_well(&self, host: &str) -> Result<bool, StoreError>;

    /// Dead callbacks, in the order in which their purchases were recorded.
    async fn list_dead_callbacks(&self, query: &DeadCallbacks) -> Result<Vec<DeadCallback>, StoreError>;

    /// Makes dead callbacks due again, with a time and attempts of their own; at most so many at once. Gives how many.
    async fn resend_callbacks(&self, which: &DeadCallbacks) -> Result<u64, StoreError>;

    /// Makes one purchase's callback due again, whatever became of it.
    async fn resend_callback(&self, purchase: &Purchase, host: &str) -> Result<(), StoreError>;

    /// How many there are, and for how long the oldest is due.
    async fn count_callbacks(&self) -> Result<CallbackCounts, StoreError>;

    /// Forgets what has been dead for so long, or was claimed by nobody, and hosts that have not failed again since. Gives how many
    /// dead callbacks.
    async fn forget_callbacks(&self, age: Duration) -> Result<u64, StoreError>;
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
    /// Whether it is to find out how its host is, which fails: it is tried whatever is known of the host.
    pub is_trial: bool,
}

/// What became of claimed callbacks.
#[derive(Clone, Debug, Default)]
pub struct Settlement {
    /// Rows of the outbox of which everything is delivered or among those that failed.
    pub finished_batches: Vec<Uuid>,
    /// Delivered ones that were tried before.
    pub delivered: Vec<Uuid>,
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
}

/// When a callback is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextTry {
    /// So much later.
    After(Duration),
    /// When its host is well again; it is given up after so long.
    WhenHostIsWell(Duration),
    /// Never: it is dead.
    Never,
}

impl NextTry {
    /// How much later somebody has to do something about it.
    pub(super) fn due_in(self) -> Duration {
        match self {
            Self::After(time) | Self::WhenHostIsWell(time) => time,
            Self::Never => Duration::ZERO,
        }
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
